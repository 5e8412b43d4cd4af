"""The template: a process that does the trusted imports once, and then forks one child for each order.

Started by ``template`` as ``python -I template_process.py ROOT SOCKET IDLE_S`` with an empty environment.
It has one thread, so that a fork is safe, reads nothing of a stranger's, and alone kills and reaps its children.
An order is a message of descriptors: a channel, the child's standard error, and those that ``child.do`` takes.
On the channel it says that it takes the order, and later the child's exit code; who shuts the channel wants the child killed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

START_S = 120
"""Within so many seconds a template is warm, or it ends."""
TAKEN = b"taken"
REFUSED = b"refused: "
"""Said instead, with the reason, where no child can be forked now."""
MOST_OF_A_REASON = 200
_MOST_DESCRIPTORS = 16


def main() -> None:
    """Close what can be closed (a child cannot do without, and fails), import, use everything once, serve."""
    root, descriptor, idle_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whatever the parent's thread had blocked
    signal.alarm(START_S)
    sys.path.append(str(root))
    from registry.convert import confine, limits

    limits.hide_memory()
    with contextlib.suppress(OSError):
        confine.close_files(root / "registry", Path("/proc"))  # of /proc a child keeps only its own part
    try:
        from registry.convert import child, warm

        warm.up()
    except ImportError as error:  # as while packages are replaced
        sys.exit(str(error))
    signal.alarm(0)
    serve(socket.socket(fileno=descriptor), idle_s, child.do)
    os._exit(0)  # the kernel kills what children there are


def serve(orders: socket.socket, idle_s: float, do: Callable[..., None]) -> None:
    """Fork a child for each order, until the other side of ``orders`` is gone or there was nothing to do for ``idle_s``."""
    _Server(orders, do).serve(idle_s)


class _Server:
    def __init__(self, orders: socket.socket, do: Callable[..., None]) -> None:
        self._orders = orders
        self._do = do
        self._process_id = os.getpid()
        self._running: dict[socket.socket, int] = {}
        self._is_wanted = True
        self._ended, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken)

    def serve(self, idle_s: float) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._orders, selectors.EVENT_READ, self._take)
        self._selector.register(self._ended, selectors.EVENT_READ, self._reap)
        while self._is_wanted and (ready := self._selector.select(None if self._running else idle_s)):
            for key, _ in ready:
                key.data()

    def _take(self) -> None:
        """Fork for the next order; none any more when the parent is gone."""
        message, descriptors, _, _ = socket.recv_fds(self._orders, 1, _MOST_DESCRIPTORS)
        if not message:
            self._is_wanted = False
            return
        channel = socket.socket(fileno=descriptors[0])
        try:
            child = os.fork()
        except OSError as error:  # there is no room for a process now
            with contextlib.suppress(OSError):
                channel.send(REFUSED + str(error).encode())
            channel.close()
        else:
            if child == 0:
                self._become_child(*descriptors[1:])
            self._running[channel] = child
            self._selector.register(channel, selectors.EVENT_READ, partial(self._kill, channel))
            with contextlib.suppress(OSError):  # the parent has given up, which the selector tells too
                channel.send(TAKEN)
        for descriptor in descriptors[1:]:
            os.close(descriptor)

    def _become_child(self, errors: int, *own: int) -> NoReturn:
        """Be alone in a session, with no descriptor but one's own, and do the order."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            os.dup2(errors, 2)
            _close_all_but(own)
            self._do(self._process_id, *own)
        except Exception:  # noqa: BLE001  # whatever it is, the parent logs it
            traceback.print_exc()
        finally:
            os._exit(1)

    def _kill(self, channel: socket.socket) -> None:
        if channel in self._running:  # else it has ended just now
            with contextlib.suppress(KeyError):  # killed already
                self._selector.unregister(channel)
            _kill_group(self._running[channel])

    def _reap(self) -> None:
        """Tell of each child that has ended; until it is reaped no other process gets its number."""
        os.read(self._ended, 4096)
        for channel, child in list(self._running.items()):
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                self._kill(channel)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                with contextlib.suppress(OSError):  # the parent may be gone
                    channel.send(str(code).encode())
                channel.close()
                del self._running[channel]


def _kill_group(child: int) -> None:
    for kill in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has no group yet; or root without CAP_KILL, whose limits end it
            kill(child, signal.SIGKILL)


def _close_all_but(own: tuple[int, ...]) -> None:
    first = 3
    for descriptor in sorted(own):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


if __name__ == "__main__":
    main()
