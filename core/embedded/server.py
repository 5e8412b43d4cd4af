"""What the two embedded servers have in common: a process, a log, how one waits for it, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from core.errors import Unavailable

PATIENCE_S = 60.0
_STEP_S = 0.02
_LINES_SHOWN = 8


class Answer(Enum):
    """What a server says when it is asked. One that recovers gets all the time that it needs: cut short, it would begin again."""

    READY = auto()
    RECOVERING = auto()
    SILENT = auto()


@dataclass(frozen=True, slots=True)
class Server:
    """A running embedded server; ``stop_signal`` is its own word for an orderly end, ``ask`` blocks for seconds at most."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals
    ask: Callable[[], Answer]

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self, timeout_s: float = 10) -> None:
        """End it in good order, or by force when ``timeout_s`` is over."""
        if self.is_running:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait(self, patience_s: float = PATIENCE_S) -> Server:
        """Return itself when it is ready; raise Unavailable with the end of its log when it dies or is silent for ``patience_s``."""
        for _ in self._looks(patience_s):
            time.sleep(_STEP_S)
        return self

    async def settle(self, patience_s: float = PATIENCE_S) -> None:
        """Wait like ``wait``, in an event loop that has other things to do meanwhile."""
        looks = self._looks(patience_s)
        while await asyncio.to_thread(next, looks, Answer.READY) is not Answer.READY:  # noqa: ASYNC110  # another process, not this one, knows when
            await asyncio.sleep(_STEP_S)

    def _looks(self, patience_s: float) -> Iterator[Answer]:
        heard_at = time.monotonic()
        while (answer := self.ask()) is not Answer.READY:
            if answer is Answer.RECOVERING:
                heard_at = time.monotonic()
            elif not self.is_running or time.monotonic() - heard_at > patience_s:
                self.stop()
                raise Unavailable(f"The embedded {self.name} did not start. The end of {self.log} says:\n{last_lines(self.log)}")
            yield answer


def last_lines(log: Path) -> str:
    """Give the last few lines of a log, for an error text."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:])
