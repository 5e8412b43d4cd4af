"""The peers' own environments under var/benchmarks, one for each list of packages in benchmarks/peers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.serve.processes import ROOT

LISTS = ROOT / "benchmarks" / "peers"
_FOLDER = ROOT / "var" / "benchmarks"
_UV = Path(sys.executable).parent / "uv"


class NotInstalled(Exception):
    """An environment cannot be made; the text is the last line of what uv said."""


def made(name: str) -> Path:
    """Give the folder of the programs of ``name``'s environment; makes it first, again if its list of packages has changed."""
    wanted, folder = LISTS / f"{name}.txt", _FOLDER / name
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        _run("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _run("pip", "sync", "--quiet", "--python", str(folder / "bin" / "python"), str(wanted))
        stamp.write_text(wanted.read_text())
    return folder / "bin"


def _run(*arguments: str) -> None:
    done = subprocess.run([_UV, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise NotInstalled((done.stderr.strip().splitlines() or ["uv failed"])[-1])
