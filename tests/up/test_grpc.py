"""Predictions over gRPC as a part of ``signalbox up``: started, shown, looked at by the doctor, started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.dataplane.conftest import free_port
from tests.product import Product, processes_of, run_command, start_product


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Product]:
    """A product with gRPC, in two processes that share the port."""
    product = start_product(tmp_path_factory.mktemp("grpc") / "var", SIGNALBOX_GRPC_PORT=str(port), SIGNALBOX_GRPC_PROCESSES="2")
    yield product
    assert product.stop() == 0


def _is_ready(port: int) -> bool:
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        try:
            return bool(client.is_server_ready())
        except InferenceServerException:
            return False


def test_the_block_the_doctor_and_the_system_show_it(spoken: Product, port: int) -> None:
    assert f"  gRPC        ready  127.0.0.1:{port}   (the same protocol)" in spoken.block.splitlines()
    assert _is_ready(port)
    assert f"✓ gRPC         127.0.0.1:{port} answers" in spoken.command("doctor", SIGNALBOX_GRPC_PORT=str(port)).stdout.splitlines()
    deadline = time.monotonic() + 15
    kinds: list[str] = []
    while len(kinds) < 4 and time.monotonic() < deadline:
        system = httpx.get(f"{spoken.console_url}/api/v1/system/", headers={"Authorization": f"Bearer {spoken.admin_key}"}, trust_env=False).json()
        kinds = sorted(process["kind"] for process in system["processes"])
    assert kinds == ["grpc", "grpc", "http", "http"]


def test_a_killed_process_is_started_again(spoken: Product, port: int) -> None:
    killed = [pid for name, pid in spoken.processes.items() if name.startswith("grpc")]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not _is_ready(port):
        time.sleep(0.1)
    assert _is_ready(port)
    assert not set(killed) & set(processes_of(spoken.var_dir))


def test_a_port_in_use_is_named_with_its_setting(spoken: Product, port: int, tmp_path: Path) -> None:
    ended = run_command(tmp_path / "var", "up", SIGNALBOX_GRPC_PORT=str(port))
    assert ended.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in ended.stderr
    assert "SIGNALBOX_GRPC_PORT=" in ended.stderr
    assert not processes_of(tmp_path / "var")
