"""Locks itself down as a sandbox process does and then does one job after another, each with the sandbox's own code."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

root, prepared, memory_bytes, cpu_s = sys.argv[1:]
sys.path.append(root)
confine = importlib.import_module("registry.convert.confine")
confine.close_files(Path(root) / "registry")
jobs = importlib.import_module("registry.convert.jobs")
msgspec = importlib.import_module("msgspec")
for job in prepared.split(","):
    jobs.prepare(job)
runtime: Any = importlib.import_module("registry.convert.onnx_run")
runtime._TIMING_S = 0.0
orders, reports = sys.stdin.buffer, sys.stdout.buffer

confine.lock(memory_bytes=int(memory_bytes), cpu_s=int(cpu_s))
while length := orders.read(8):
    report = jobs.do(*msgspec.msgpack.decode(orders.read(int.from_bytes(length, "little"))))
    reports.write(len(report).to_bytes(8, "little") + report)
    reports.flush()
os._exit(0)
