"""What ``make`` installs and runs, tried without installing a package."""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path

from core.environment import ROOT

_SAYS = "import sys\nprint('the product', *sys.argv[1:])\n"


def test_the_command_works_in_a_clone_whose_path_has_a_space(tmp_path: Path) -> None:
    clone, project = tmp_path / "a clone", tmp_path / "project"
    for folder, text in ((clone, _SAYS), (project, "raise SystemExit('somebody else')\n")):
        (folder / "config" / "cli").mkdir(parents=True)
        (folder / "config" / "cli" / "main.py").write_text(text)
    (clone / "requirements").mkdir()
    (clone / "requirements" / "uv.txt").touch()
    shutil.copy(ROOT / "Makefile", clone)
    venv.create(clone / ".venv", symlinks=True)
    (clone / ".venv" / "bin" / "uv").touch()
    subprocess.run(["make", ".venv/bin/signalbox"], cwd=clone, check=True, capture_output=True)

    # Called in a folder that has a package config of its own.
    done = subprocess.run([clone / ".venv" / "bin" / "signalbox", "deploy", "two words"], cwd=project, check=True, capture_output=True, text=True)
    assert done.stdout == "the product deploy two words\n"


def test_make_demo_starts_the_product_unless_it_runs() -> None:
    said = subprocess.run(["make", "-n", "--no-print-directory", "-o", "setup", "demo"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert said == ".venv/bin/signalbox demo start && SIGNALBOX_DEMO=1 exec .venv/bin/signalbox up --unless-running\n"
