"""Locks itself down as a sandbox process does, then runs the code that it is given."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

root, memory_bytes, cpu_s, code = sys.argv[1:]
sys.path.append(root)
names = ("ctypes", "os", "resource", "signal", "socket", "subprocess", "threading", "time")
scope = {name: importlib.import_module(name) for name in names}
confine = importlib.import_module("registry.convert.confine")
libc = scope["ctypes"].CDLL(None, use_errno=True)

confine.close_files(Path(root) / "registry")
confine.lock(memory_bytes=int(memory_bytes), cpu_s=int(cpu_s))
exec(code, {**scope, "sys": sys, "libc": libc})
