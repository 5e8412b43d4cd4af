"""Fixtures of the sandbox's tests: a whole examination, a job of the sandbox, code run inside the lockdown."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from registry.convert import sandbox
from registry.convert.check import Examined, SandboxLimits, Step, examine

ATTACKER = Path(__file__).with_name("attacker.py")
OPENER = Path(__file__).with_name("opener.py")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Examination:
    result: Examined
    steps: list[Step] = field(default_factory=list)

    @property
    def states(self) -> dict[str, str]:
        return {step.key: step.state for step in self.steps}

    @property
    def texts(self) -> dict[str, str]:
        return {step.key: step.text for step in self.steps}


@pytest.fixture
def examined(tmp_path: Path) -> Callable[..., Examination]:
    """Examine bytes as the worker does."""

    def run(data: bytes, *, sample: bytes | None = None, limits: SandboxLimits | None = None) -> Examination:
        original = tmp_path / "original"
        original.write_bytes(data)
        rows = None
        if sample is not None:
            rows = tmp_path / "sample"
            rows.write_bytes(sample)
        steps: list[Step] = []
        result = examine(
            original=original, filename="model.bin", sample=rows, sample_filename="sample.csv", limits=limits or SandboxLimits(), on_step=steps.append
        )
        return Examination(result, steps)

    return run


@pytest.fixture
def opened() -> Callable[..., sandbox.Outcome]:
    """Open bytes in the sandbox without the first look, as if a file had got past it."""

    def run(data: bytes, *, kind: str = "pickle", limits: SandboxLimits | None = None) -> sandbox.Outcome:
        return sandbox.run("convert", files={"original": data}, limits=limits or SandboxLimits(), arguments={"kind": kind, "sample_rows": 100})

    return run


class LockedProcess:
    """One locked process that does one job after another: starting one takes seconds. Fails if it does not outlive them all."""

    def __init__(self, *prepared: str, limits: SandboxLimits) -> None:
        command = [sys.executable, "-I", str(OPENER), str(ROOT), ",".join(prepared), str(limits.memory_bytes), str(limits.cpu_s)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=sandbox._ENVIRONMENT, cwd="/")

    def __enter__(self) -> LockedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
        assert self._process.returncode == 0

    def run(
        self, job: str, *, files: Mapping[str, Path | bytes], limits: SandboxLimits | None = None, arguments: Mapping[str, Any] | None = None
    ) -> sandbox.Outcome:
        """Do what ``sandbox.run`` does, but in this process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        given = {name: source.read_bytes() if isinstance(source, Path) else source for name, source in files.items()}
        order = msgspec.msgpack.encode([job, given, dict(arguments or {})])
        self._process.stdin.write(len(order).to_bytes(8, "little") + order)
        self._process.stdin.flush()
        length = int.from_bytes(self._process.stdout.read(8), "little")
        return sandbox._outcome(0, self._process.stdout.read(length), "", "")


@pytest.fixture(scope="module")
def locked_process() -> Iterator[LockedProcess]:
    """A process that looks, converts and answers for all tests of a module."""
    with LockedProcess("look", "convert", limits=SandboxLimits(cpu_s=300)) as process:
        yield process


@pytest.fixture
def examined_quickly(examined: Callable[..., Examination], locked_process: LockedProcess, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Examination]:
    """Examine bytes as the worker does, but for the start of three processes."""
    monkeypatch.setattr(sandbox, "run", locked_process.run)
    return examined


def open_in_one_process(files: Mapping[str, tuple[str, bytes]], *, job: str = "convert", limits: SandboxLimits | None = None) -> dict[str, sandbox.Outcome]:
    """Open each (kind, bytes) with the sandbox's job, all in one locked process."""
    with LockedProcess(job, limits=limits or SandboxLimits(cpu_s=60)) as process:
        return {name: process.run(job, files={"original": data}, arguments={"kind": kind, "sample_rows": 100}) for name, (kind, data) in files.items()}


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder where everybody may write, below folders that everybody may enter."""
    folder = Path(tempfile.mkdtemp(prefix="signalbox-attack-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def attack(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run an attacker's Python in a locked process: the allow-list is already beaten here."""

    def run(code: str, *, memory_bytes: int = 2**30, cpu_s: int = 5) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", str(ATTACKER), str(ROOT), str(memory_bytes), str(cpu_s), code]
        return subprocess.run(command, env={}, cwd="/", capture_output=True, text=True, timeout=60, check=False)

    return run
