"""Starts child processes that never outlive their parent, and that give up root when asked to."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from core.embedded.account import Account

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522

# Loaded once, here: after a fork nothing may be imported or looked up.
_libc = ctypes.CDLL(None, use_errno=True)


def start(
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int,
    account: Account | None = None,
    through_closed_folders: bool = False,
    death_signal: signal.Signals = signal.SIGTERM,
    environ: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in its own session; the kernel sends it ``death_signal`` when the calling thread ends.

    ``account`` is who it becomes. ``through_closed_folders`` leaves it the one capability
    (CAP_DAC_OVERRIDE) that it needs when it lies under a folder that only root can enter.
    """
    parent = os.getpid()

    def become() -> None:
        if account is not None:
            _change_to(account, keep_override=through_closed_folders)
        # Last: a change of user clears it.
        _prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return _popen(command, become, output=output, environ=environ, pass_fds=pass_fds, cwd=cwd)


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; for a process that the parent has forked."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _popen(
    command: Sequence[str | Path],
    become: Callable[[], None],
    *,
    output: IO[bytes] | int,
    environ: Mapping[str, str] | None,
    pass_fds: Sequence[int],
    cwd: Path | None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        preexec_fn=become,  # noqa: PLW1509  # callers start children from their main thread, and become() only makes system calls
        env=dict(environ) if environ is not None else None,
        pass_fds=pass_fds,
        cwd=cwd,
        start_new_session=True,
    )


def _change_to(account: Account, *, keep_override: bool) -> None:
    os.setgroups([])
    os.setgid(account.gid)
    if keep_override:
        # The change of user must not clear the capabilities, and access(2), by which initdb looks
        # at its own program, must count them: without this bit it ignores those of ordinary users.
        _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    os.setuid(account.uid)
    if keep_override:
        _keep_only_override()


def _keep_only_override() -> None:
    """Reduce the capabilities to CAP_DAC_OVERRIDE and make it survive the exec (capset(2), ambient set)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    mask = 1 << _CAP_DAC_OVERRIDE
    data = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


def _prctl(option: int, first: int, second: int = 0) -> None:
    arguments = (ctypes.c_ulong(int(first)), ctypes.c_ulong(second), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if _libc.prctl(option, *arguments) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
