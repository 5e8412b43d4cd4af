"""The parent's side of the template: starts it when there is none, hands it orders, replaces one that has ended.

There is one for each process: it does not outlive its parent, and a fork of the parent starts its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from registry.convert.template_process import MOST_OF_A_REASON, REFUSED, START_S, TAKEN

log = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = Path(__file__).with_name("template_process.py")
_ENVIRONMENT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "JOBLIB_MULTIPROCESSING": "0",
    "LC_ALL": "C.UTF-8",
}
_IDLE_S = 120.0
"""A template without work for so long ends and gives its memory back."""
_ANSWER_S = 10.0
"""A template that does not do what it is asked within so long is broken."""


class CannotStart(Exception):
    """No template could be had; says why. Nothing of the files was read."""


class Lost(Exception):
    """The template ended, or was ended, while a child of it did the order."""


class Fork:
    """One child of the template, doing its order; leaving the context kills it."""

    def __init__(self, template: _Template, channel: socket.socket) -> None:
        self._template = template
        self._channel = channel

    def __enter__(self) -> Fork:
        return self

    def __exit__(self, *_: object) -> None:
        self._ask_for_end()
        self._channel.close()

    def end(self, grace_s: float) -> int:
        """Have the child and its group killed unless it ends by itself within ``grace_s``; gives its exit code. Raises Lost."""
        try:
            code = self._answer(grace_s) if grace_s else None
            if code is None:
                self._ask_for_end()
                code = self._answer(_ANSWER_S)
            return int(code or "")
        except (OSError, ValueError) as error:
            self._template.end()
            raise Lost from error

    def _ask_for_end(self) -> None:
        with contextlib.suppress(OSError):  # it is there no more
            self._channel.shutdown(socket.SHUT_WR)  # not only closed: a fork of this process may hold a copy

    def _answer(self, within_s: float) -> bytes | None:
        self._channel.settimeout(within_s)
        with contextlib.suppress(TimeoutError):
            return self._channel.recv(16)
        return None


class _Template:
    def __init__(self) -> None:
        self._is_warm = False
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._complaints = os.fdopen(os.memfd_create("signalbox", os.MFD_CLOEXEC), "r+", errors="replace")
        command = [sys.executable, "-I", str(_SCRIPT), str(_ROOT), str(theirs.fileno()), str(_IDLE_S)]
        with theirs:
            self._process = subprocess.Popen(
                command,
                env=_ENVIRONMENT,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        threading.Thread(target=self._process.wait, name="sandbox template", daemon=True).start()  # no zombie is left when it ends

    def fork(self, descriptors: Sequence[int]) -> Fork | None:
        """Have it fork a child with ``descriptors``, as soon as it is warm; None when it does not."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):  # it has ended, or gives no answer in time
            with theirs:
                socket.send_fds(self._orders, [b" "], [theirs.fileno(), *descriptors])
            ours.settimeout(_ANSWER_S if self._is_warm else START_S)
            said = ours.recv(MOST_OF_A_REASON)
            if said == TAKEN:
                self._is_warm = True
                return Fork(self, ours)
            if said.startswith(REFUSED):
                ours.close()
                raise CannotStart(said.removeprefix(REFUSED).decode("utf-8", "replace"))
        ours.close()
        return None

    def end(self) -> str:
        """End it, if it lives, and give the last that it or the kernel said."""
        with contextlib.suppress(OSError):
            self._orders.shutdown(socket.SHUT_RDWR)  # not closed: another thread may be about to send
        try:
            self._process.wait(_ANSWER_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        code = self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().strip()
        log.info("a template of the sandbox ended with %s: %r", code, said[-2000:])
        return said.rpartition("\n")[2] or (f"it was not ready within {START_S} s" if code == -signal.SIGALRM else f"it ended with code {code}")

    def leave(self) -> None:
        """Leave it to the process that this one is a fork of."""
        self._orders.close()
        self._process.returncode = 0  # it is no child of this process: nothing to wait for


class Keeper:
    """Keeps the one template of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.present: _Template | None = None

    def fork(self, descriptors: Sequence[int]) -> Fork:
        """Have a child forked that gets ``descriptors``; waits while the template warms up. Raises CannotStart.

        A template that has ended since, or is broken, is replaced once.
        """
        while True:
            try:
                with self._lock:
                    is_new = self.present is None
                    template = self.present = self.present or _Template()
                fork = template.fork(descriptors)
            except (OSError, RuntimeError) as error:  # there is no room for a process, a thread or a descriptor now
                raise CannotStart(str(error)) from error
            if fork is not None:
                return fork
            with self._lock:
                if self.present is template:
                    self.present = None
            complaint = template.end()
            if is_new:
                raise CannotStart(complaint)

    def leave(self) -> None:
        """After a fork of this process: the template is the parent's, and a lock that another thread held is held for ever."""
        if self.present is not None:
            self.present.leave()
        self._lock, self.present = threading.Lock(), None


keeper = Keeper()
os.register_at_fork(after_in_child=keeper.leave)
