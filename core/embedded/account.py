"""The unprivileged account that the embedded servers run as when root starts them: Postgres refuses to be root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ACCOUNT_NAME = "signalbox"


@dataclass(frozen=True, slots=True)
class Account:
    """A user and its group, by number."""

    uid: int
    gid: int


def service_account(data_dir: Path) -> Account | None:
    """Give the account to change to, or None when we are not root and simply stay who we are.

    Data that exists keeps its owner; else it is ``signalbox``, made if need be, else ``nobody``.
    """
    if os.geteuid() != 0:
        return None
    if data_dir.exists() and (found := data_dir.stat()).st_uid != 0:
        return Account(found.st_uid, found.st_gid)
    entry = _entry(ACCOUNT_NAME) or _created() or pwd.getpwnam("nobody")
    return Account(entry.pw_uid, entry.pw_gid)


def give(path: Path, account: Account | None) -> None:
    """Make the folder ``path`` with mode 0700 and hand it to ``account``."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    if account is not None:
        os.chown(path, account.uid, account.gid)


def is_reachable(path: Path) -> bool:
    """Tell whether everybody may pass through every folder on the way to ``path``."""
    return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _created() -> pwd.struct_passwd | None:
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None:
        return None
    command = [useradd, "--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", ACCOUNT_NAME]
    subprocess.run(command, check=False, capture_output=True)
    return _entry(ACCOUNT_NAME)
