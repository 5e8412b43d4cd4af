"""The lockdown of a sandbox process, in two halves, and the probe that says what of it works here.

The template closes files before it imports anything else. A child of it does both halves, ``close_files`` anew
and for itself alone, before the first of a stranger's bytes. Both fail closed. Where the kernel cannot do them,
data is still read by nobody and within limits.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from pathlib import Path

from registry.convert import landlock, limits, seccomp

CANNOT_CONFINE = 70
"""The exit code of a process that could not lock itself down."""

_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo")
_DEVICES = ("/proc/self", "/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system")


def readable_paths(code: Path) -> list[Path]:
    """Where trusted code lies: the Python prefix, the environment's packages, system libraries, and ``code``."""
    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    base = Path(sys.base_prefix) / "lib"
    shared = [] if base in {Path("/usr/lib"), Path("/lib")} else [base]
    return [code, *shared, *(Path(path) for path in sorted(filter(None, installed))), *(Path(path) for path in _SYSTEM + _DEVICES)]


def close_files(code: Path, *more: Path) -> None:
    """From here on: read trusted code and ``more``, write nothing. Raises OSError where the kernel cannot."""
    limits.promise_no_new_privileges()
    landlock.restrict([*readable_paths(code), *more])


def lock(*, memory_bytes: int, cpu_s: int) -> None:
    """Bound the process, give up every right, and leave only the system calls of arithmetic."""
    _lessen(memory_bytes=memory_bytes, cpu_s=cpu_s)
    seccomp.install()


def _lessen(*, memory_bytes: int, cpu_s: int) -> None:
    """Bound the process and give up every right: what every kernel can."""
    limits.set_limits(memory_bytes=memory_bytes, cpu_s=cpu_s)
    limits.become_nobody()
    limits.end_with_parent()
    limits.hide_memory()
    limits.promise_no_new_privileges()


def lock_what_can_be(*, memory_bytes: int, cpu_s: int) -> None:
    """``lock``, without the filter of system calls where the kernel has none. For data only: never for a pickle."""
    _lessen(memory_bytes=memory_bytes, cpu_s=cpu_s)
    with contextlib.suppress(OSError):
        seccomp.install()


def probe() -> dict[str, bool | int | str]:
    """Say what of the confinement works on this kernel, tried in a child; ``confined`` is the verdict."""
    found: dict[str, bool | int | str] = {"landlock_abi": landlock.abi(), "machine": os.uname().machine, "known_machine": seccomp.architecture() is not None}
    found["landlock"] = _works_in_child("close_files(Path('/usr/lib'))")
    found["seccomp"] = _works_in_child("lock(memory_bytes=2**30, cpu_s=5)")
    found["confined"] = bool(found["landlock"] and found["seccomp"])
    return found


def _works_in_child(call: str) -> bool:
    """Whether ``call`` of this module succeeds in a fresh process; this process stays free."""
    import subprocess

    root = Path(__file__).resolve().parents[2]
    script = f"import sys; sys.path.append({str(root)!r}); from pathlib import Path; from registry.convert.confine import close_files, lock; {call}"
    finished = subprocess.run([sys.executable, "-I", "-c", script], env={}, capture_output=True, timeout=30, check=False)
    return finished.returncode == 0
