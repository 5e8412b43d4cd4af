"""Keeps one process alive: starts it, notices its end, starts it again with a growing pause, stops it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable

from core.errors import SignalboxError, Unavailable

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
# A process that ran this long was healthy: the next pause is the first one again.
HEALTHY_AFTER_S = 30.0

REPLACED_WITHIN_S = 300.0
_STEP_S = 0.05

Check = Callable[[], Awaitable[bool]]
Launch = Callable[[], subprocess.Popen[bytes]]
Settle = Callable[[], Awaitable[None]]


async def _at_once() -> None:
    """Most processes are not waited for here."""


class Keeper:
    """One process by name. ``launch`` must be called in the main thread: the kernel ties the child to that thread.

    ``settle`` waits until what was launched answers; what does not is started again.
    """

    def __init__(self, name: str, launch: Launch, stage: int, stop_signal: signal.Signals = signal.SIGTERM, settle: Settle = _at_once) -> None:
        self.name = name
        self.stage = stage
        self.ends = 0
        self.on_started_again: Callable[[], None] = lambda: None
        self._launch = launch
        self._settle = settle
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._next: subprocess.Popen[bytes] | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it now; a failure of this first start is the caller's to handle."""
        self._process = self._launch()
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def start_settled(self) -> None:
        """Start it, and return once it answers; a failure of this first start is the caller's to handle."""
        self._process = self._launch()
        await self._settle()
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end, and end it and all that it started by force after ``timeout_s``."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for process in (self._process, self._next):
            if process is not None:
                await self._end(process, timeout_s)

    async def restart(self, timeout_s: float) -> None:
        """End it, then start it again."""
        await self.stop(timeout_s)
        self.start()

    async def replace(self, is_ready: Check, timeout_s: float) -> None:
        """Start another process, and when that is ready end the present one within ``timeout_s``.

        Raises Unavailable if it does not get ready; then the present one stays.
        """
        self._next = fresh = self._launch()
        try:
            await _until(is_ready, fresh, self.name)
        except BaseException:
            self._next = None
            await self._end(fresh, 0)
            raise
        if self._task is not None:
            self._task.cancel()
        before, self._process, self._next = self._process, fresh, None
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")
        if before is not None:
            await self._end(before, timeout_s)

    async def _end(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        if process.poll() is None:
            process.send_signal(self._stop_signal)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended(process), timeout_s)
        _end_group(process)

    async def _keep(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            if self._process is not None:
                logger.warning("%s %s; starting it again in %.1f s", self.name, described(await ended(self._process)), pause_s)
                _end_group(self._process)
            self.ends += 1
            if time.monotonic() - started > HEALTHY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
            await self._start_again()
            self.on_started_again()

    async def _start_again(self) -> None:
        self._process = None
        try:
            self._process = self._launch()
            await self._settle()
        except (SignalboxError, OSError) as error:
            logger.warning("%s did not start: %s", self.name, error)
        except Exception:  # whatever it is: without its keeper the process would stay away for good
            logger.exception("%s did not start.", self.name)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Nothing that it started may stay: every child of ours leads its own process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


async def _until(is_ready: Check, process: subprocess.Popen[bytes], name: str) -> None:
    for _ in range(int(REPLACED_WITHIN_S / _STEP_S)):
        if process.poll() is not None:
            raise Unavailable(f"{name} was not restarted: the new process {described(process.returncode)}. The old one goes on.")
        if await is_ready():
            return
        await asyncio.sleep(_STEP_S)
    raise Unavailable(f"{name} was not restarted: the new process was not ready after {REPLACED_WITHIN_S:.0f} s. The old one goes on.")


async def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end without a thread and without SIGCHLD; give the return code as Popen does."""
    if process.poll() is None:
        loop = asyncio.get_running_loop()
        watch = os.pidfd_open(process.pid)
        over = loop.create_future()

        def tell() -> None:
            if not over.done():
                over.set_result(None)

        loop.add_reader(watch, tell)
        try:
            await over
        finally:
            loop.remove_reader(watch)
            os.close(watch)
    return process.wait()


def described(code: int) -> str:
    """Say how a process ended, in words."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
