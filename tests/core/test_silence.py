"""No process of ours sends telemetry, whatever the shell says: ONNX Runtime, once loaded, would first write down who it is in the home folder.

It is silent where a variable like ``CI`` says that a build machine runs it, and writes elsewhere with ``XDG_CACHE_HOME``:
nothing of the shell's is passed on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.environment import ROOT

_URLS = "import config.wsgi; from django.urls import get_resolver; assert get_resolver().url_patterns"
_TASKS = """
import django; django.setup()
from celery.signals import celeryd_init
from config.celery import app
celeryd_init.send(None)
assert len(app.tasks) > 10
"""
_COMMANDS = "from importlib import import_module; from config.cli.main import COMMANDS; [import_module(f'config.cli.{name}') for name in COMMANDS.values()]"


def _load(imports: str, home: Path) -> list[str]:
    """Run ``imports`` in a process whose home is ``home`` and whose shell asks for telemetry; give what it wrote there."""
    home.mkdir()
    shell = {"PATH": os.environ["PATH"], "HOME": str(home), "ORT_DISABLE_TELEMETRY": "0", "DJANGO_SETTINGS_MODULE": "config.settings"}
    subprocess.run([sys.executable, "-c", imports], cwd=ROOT, env=shell, check=True)
    return sorted(str(path.relative_to(home)) for path in home.rglob("*"))


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param("import serving.dataplane.__main__", id="the data plane"),
        pytest.param("import serving.dataplane.grpc.__main__", id="gRPC"),
        pytest.param("from registry.convert import warm; warm.up()", id="the sandbox"),
        pytest.param(_TASKS, id="the workers"),
        pytest.param(_URLS, id="the console"),
        pytest.param(_COMMANDS, id="the command line"),
        pytest.param("import config.demo.__main__", id="the demo"),
    ],
)
def test_an_entry_point_writes_nothing_into_the_home_folder(imports: str, tmp_path: Path) -> None:
    assert _load(imports, tmp_path / "home") == []


def test_what_is_looked_for_is_what_onnx_runtime_writes(tmp_path: Path) -> None:
    assert ".cache/Microsoft" in _load("import onnxruntime", tmp_path / "home")
