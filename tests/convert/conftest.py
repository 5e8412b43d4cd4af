"""Fixtures of the sandbox's tests: a whole examination, a job of the sandbox, code run inside the lockdown."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from registry.convert import sandbox, template
from registry.convert.check import Examined, SandboxLimits, Step, examine

ATTACKER = Path(__file__).with_name("attacker.py")
OWN_TEMPLATE = Path(__file__).with_name("own_template.py")
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


def open_each(files: Mapping[str, tuple[str, bytes]], *, job: str = "convert", limits: SandboxLimits | None = None) -> dict[str, sandbox.Outcome]:
    """Open each (kind, bytes) with the sandbox's job."""
    arguments = {"sample_rows": 100}
    return {
        name: sandbox.run(job, files={"original": data}, limits=limits or SandboxLimits(cpu_s=60), arguments=arguments | {"kind": kind})
        for name, (kind, data) in files.items()
    }


def children_of(process_id: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()]


def children_of_template() -> list[int]:
    """Give the processes that do the jobs of this process."""
    return [] if template.keeper.present is None else children_of(template.keeper.present._process.pid)


@pytest.fixture
def own_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Have the sandbox start a template of the test's own: the real one, but for the imports and for what its code changes. Gives its script.

    ``do`` takes the place of a job, in a child that is locked down as all are: every list and scan is already beaten there.
    """

    def start_from(code: str) -> Path:
        script = tmp_path / "template_process.py"
        script.write_text(f"{OWN_TEMPLATE.read_text()}\n{textwrap.dedent(code)}\njobs.do = do\ntemplate_process.main()\n")
        monkeypatch.setattr(template, "_SCRIPT", script)
        monkeypatch.setattr(template.keeper, "present", None)
        return script

    yield start_from
    if template.keeper.present is not None:
        template.keeper.present.end()


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
