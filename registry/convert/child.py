"""What a fork of the template does: lockdown first, and only then the bytes of a stranger's file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from registry.convert import confine, jobs

_CODE = Path(__file__).resolve().parents[1]


def do(template: int, report: int, order: int, *files: int) -> None:
    """Do one order of the process ``template``, all in descriptors, and end without any clean-up that the file could have hooked."""
    given = json.loads(_read(order))
    confined = given["arguments"].pop("confined", True)
    try:
        if confined:
            confine.close_files(_CODE)
            confine.lock(memory_bytes=given["memory_bytes"], cpu_s=given["cpu_s"])
        else:
            confine.lock_what_can_be(memory_bytes=given["memory_bytes"], cpu_s=given["cpu_s"])
    except OSError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(confine.CANNOT_CONFINE)
    if os.getppid() != template:  # it ended before this process was bound to end with it
        os._exit(1)
    contents = {name: _read(file) for name, file in zip(given["files"], files, strict=True)}
    _write(report, jobs.do(given["job"], contents, given["arguments"]))
    os._exit(0)


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _write(descriptor: int, report: bytes) -> None:
    rest = memoryview(report)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
