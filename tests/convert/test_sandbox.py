"""How the parent ends a sandbox process."""

from __future__ import annotations

import os
import subprocess

from registry.convert import sandbox, wire


class _EndsMeanwhile(subprocess.Popen[bytes]):
    """Somebody else reaps the process between the wait and the kill."""

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None:
            os.waitpid(self.pid, 0)
            raise subprocess.TimeoutExpired(self.args, timeout)
        return super().wait()


def test_a_process_that_has_just_ended_is_ended_without_an_error() -> None:
    process = _EndsMeanwhile(["true"], start_new_session=True)
    sandbox._end(process)
    assert process.returncode == 0


def test_a_process_that_does_not_end_is_killed() -> None:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    sandbox._end(process)
    assert process.returncode == -9


def test_a_library_that_is_missing_speaks_not_against_the_file() -> None:
    halted = sandbox._outcome(sandbox.CANNOT_START, b"", "No module named 'ml_dtypes'\n", "").answer
    assert isinstance(halted, wire.Halted)
    assert halted.reason == "The sandbox could not start on this machine (No module named 'ml_dtypes'), which says nothing of the file."
    assert "signalbox check-again" in halted.advice
