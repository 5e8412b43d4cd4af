"""The embedded Redis as its own users see it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import redis as client

from core.embedded import redis
from core.embedded.server import Server


def _start(folder: Path) -> Server:
    return redis.start(var_dir=folder, run_dir=folder / "run")


def _client(folder: Path) -> client.Redis:
    return client.Redis(unix_socket_path=str(folder / "run" / "redis.sock"))


def test_keeps_its_data_over_a_restart_and_never_evicts(tmp_path: Path) -> None:
    first = _start(tmp_path)
    with _client(tmp_path) as connection:
        connection.set("kept", "yes")
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert connection.config_get("port") == {"port": "0"}
    first.stop()
    second = _start(tmp_path)
    with _client(tmp_path) as connection:
        assert connection.get("kept") == b"yes"
    second.stop()


def test_ends_a_server_that_outlived_its_supervisor(tmp_path: Path) -> None:
    orphan = _start(tmp_path)
    with _client(tmp_path) as connection:
        connection.set("kept", "yes")
    second = _start(tmp_path)
    assert not orphan.is_running
    with _client(tmp_path) as connection:
        assert connection.get("kept") == b"yes"
    second.stop()


def test_ends_a_server_that_was_frozen_before_it_starts_another(tmp_path: Path) -> None:
    orphan = _start(tmp_path)
    with _client(tmp_path) as connection:
        connection.set("kept", "yes")
    os.kill(orphan.process.pid, signal.SIGSTOP)
    second = _start(tmp_path)
    assert not orphan.is_running
    with _client(tmp_path) as connection:
        assert connection.get("kept") == b"yes"
    second.stop()


def test_starts_over_a_socket_that_nobody_listens_on(tmp_path: Path) -> None:
    first = _start(tmp_path)
    first.process.kill()
    first.process.wait()
    assert (tmp_path / "run" / "redis.sock").exists()
    second = _start(tmp_path)
    with _client(tmp_path) as connection:
        assert connection.ping()
    second.stop()
