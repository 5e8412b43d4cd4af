"""Landlock through ctypes: from here on the process reads the named directories and writes nowhere."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many kinds of file access each ABI knows
_NET_ABI, _SCOPE_ABI = 4, 6
_NET_BIND_CONNECT = 0b11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


def abi() -> int:
    """Give the kernel's Landlock ABI, 0 when there is none or it is switched off."""
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return max(int(version), 0)


def restrict(readable: Iterable[Path]) -> None:
    """Deny this thread, and every thread it starts, all files but reading ``readable``; and TCP where the ABI can.

    Raises OSError when the kernel refuses. ``no_new_privs`` must be set before.
    """
    version = abi()
    if version < 1:
        raise OSError("this kernel has no Landlock")
    ruleset = _create(version)
    try:
        for path in readable:
            _allow_reading(ruleset, path)
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _create(version: int) -> int:
    attributes = _Ruleset(fs=(1 << _FS_BITS.get(version, 16)) - 1)
    size = 8
    if version >= _NET_ABI:
        attributes.net, size = _NET_BIND_CONNECT, 16
    if version >= _SCOPE_ABI:
        attributes.scoped, size = _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS, 24
    return _checked(_libc.syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0)), "landlock_create_ruleset")


def _allow_reading(ruleset: int, path: Path) -> None:
    """Let ``path`` and what lies beneath be read; a path that does not exist is left out."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        is_dir = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        rule = _PathBeneath(allowed=_READ_FILE | (_READ_DIR if is_dir else 0), parent_fd=descriptor)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0)), "landlock_add_rule")
    finally:
        os.close(descriptor)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(result)
