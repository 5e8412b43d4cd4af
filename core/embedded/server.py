"""What the two embedded servers have in common: a process, a log, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import Unavailable

_LINES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Server:
    """A running embedded server; ``stop_signal`` is its own word for an orderly end."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals

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

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float = 60) -> Server:
        """Return itself when ``is_ready``; raise Unavailable with the end of the log when it dies or is too slow."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.is_running or time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"The embedded {self.name} did not start. The end of {self.log} says:\n{last_lines(self.log)}")
            time.sleep(0.02)
        return self


def last_lines(log: Path) -> str:
    """Give the last few lines of a log, for an error text."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LINES_SHOWN:])
