"""How the parent ends a sandbox process."""

from __future__ import annotations

import os
import subprocess

from registry.convert import sandbox


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
