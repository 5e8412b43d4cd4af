"""What a sandbox process may use: memory, processor time, files, processes; and who it is."""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import time
from dataclasses import dataclass

NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP = 1, 4, 38, 24
_LAST_CAPABILITY = 63
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    """The limits of one sandbox process, and of the files that go in and out."""

    memory_bytes: int = 4 * 2**30
    cpu_s: int = 300
    timeout_s: float = 600.0
    report_bytes: int = 512 * 2**20
    original_bytes: int = 2 * 2**30
    sample_bytes: int = 64 * 2**20
    sample_rows: int = 50_000


def promise_no_new_privileges() -> None:
    """No program started from here on gains rights; Landlock and seccomp ask for it. Raises OSError."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS was refused")


def hide_memory() -> None:
    """No core dump, and no other process of the same user may look inside."""
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def set_limits(*, memory_bytes: int, cpu_s: int) -> None:
    """Bound the process; its processor time counts from here. No file of it may grow, and it may start neither processes nor threads."""
    _bound(resource.RLIMIT_AS, memory_bytes)
    _bound(resource.RLIMIT_CPU, math.ceil(time.process_time()) + cpu_s)
    _bound(resource.RLIMIT_FSIZE, 0)
    _bound(resource.RLIMIT_NOFILE, 64)
    _bound(resource.RLIMIT_NPROC, 0)
    _bound(resource.RLIMIT_CORE, 0)


def become_nobody() -> None:
    """Give up root for good: groups, user and with them every capability. Nothing to do for other users."""
    if os.geteuid() != 0:
        return
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends. A change of user takes that back: call it after one."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _bound(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (ceiling, ceiling))
