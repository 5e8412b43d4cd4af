"""The process that opens a stranger's file: files closed, trusted imports, lockdown, and only then the bytes.

Started by ``sandbox.run`` as ``python -I child.py ROOT ORDER`` with an empty environment; reads and
writes nothing but the descriptors that it inherits.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Do one order and end without any clean-up that the file could have hooked."""
    root, order = sys.argv[1], json.loads(sys.argv[2])
    sys.path.append(root)
    from registry.convert import confine
    from registry.convert.sandbox import CANNOT_CONFINE, CANNOT_START

    confined = order["arguments"].pop("confined", True)
    try:
        if confined:
            confine.close_files(Path(root) / "registry")
        from registry.convert import jobs

        jobs.prepare(order["job"])
        if confined:
            confine.lock(memory_bytes=order["memory_bytes"], cpu_s=order["cpu_s"])
        else:
            confine.lock_what_can_be(memory_bytes=order["memory_bytes"], cpu_s=order["cpu_s"])
    except OSError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(CANNOT_CONFINE)
    except ImportError as error:
        os.write(2, f"{error}\n".encode())
        os._exit(CANNOT_START)
    files = {name: _read(descriptor) for name, descriptor in order["files"].items()}
    _write(order["report"], jobs.do(order["job"], files, order["arguments"]))
    os._exit(0)


def _read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _write(descriptor: int, report: bytes) -> None:
    rest = memoryview(report)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


main()
