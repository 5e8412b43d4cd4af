"""Locks itself down as a sandbox process does and then opens several files, each with the sandbox's own job."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

root, job, memory_bytes, cpu_s = sys.argv[1:]
sys.path.append(root)
confine = importlib.import_module("registry.convert.confine")
confine.close_files(Path(root) / "registry")
jobs = importlib.import_module("registry.convert.jobs")
msgspec = importlib.import_module("msgspec")
jobs.prepare(job)
files = msgspec.msgpack.decode(sys.stdin.buffer.read())
out = sys.stdout.buffer

confine.lock(memory_bytes=int(memory_bytes), cpu_s=int(cpu_s))
reports = [jobs.do(job, {"original": data}, {"kind": kind, "sample_rows": 100}) for kind, data in files]
out.write(msgspec.msgpack.encode(reports))
out.flush()
os._exit(0)
