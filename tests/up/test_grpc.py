"""Predictions over gRPC as a part of ``signalbox up``: started, shown, looked at by the doctor, started again."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.journeys.wire import until
from tests.metrics_page import value_of
from tests.product import Product, processes_of, run_command


def test_the_doctor_and_the_system_show_it(product: Product) -> None:
    assert f"✓ gRPC         {product.grpc_address} answers" in product.command("doctor", SIGNALBOX_GRPC_PORT="1").stdout.splitlines()
    headers = {"Authorization": f"Bearer {product.admin_key}"}

    def kinds() -> list[str]:
        system = httpx.get(f"{product.console_url}/api/v1/system/", headers=headers, trust_env=False, timeout=30).json()
        return sorted(process["kind"] for process in system["processes"] if not process["stale"])

    until(lambda: kinds() == ["grpc", "http", "http"], 30)


def test_the_page_of_metrics_counts_its_calls(product: Product) -> None:
    def refused() -> float:
        page = httpx.get(f"{product.predict_url}/metrics", trust_env=False).text
        return value_of(page, "signalbox_refused_requests_total", process="grpc", status="404", reason="not_found")

    before = refused()
    with triton.InferenceServerClient(product.grpc_address) as client, pytest.raises(InferenceServerException, match="Request for unknown model: 'nix'"):
        client.infer("nix", [], headers={"x-api-key": product.admin_key})
    assert refused() == before + 1


def test_callers_wait_while_a_killed_process_is_started_again(product: Product) -> None:
    (killed,) = [pid for name, pid in product.processes.items() if name.startswith("grpc")]
    os.kill(killed, signal.SIGKILL)
    # The supervisor keeps the listening socket: the call waits until somebody takes it.
    with triton.InferenceServerClient(product.grpc_address) as client:
        assert client.is_server_ready(client_timeout=30)
    assert killed not in processes_of(product.var_dir)


def test_a_port_in_use_is_named_with_its_setting(product: Product, tmp_path: Path) -> None:
    port = product.grpc_address.rpartition(":")[2]
    ended = run_command(tmp_path / "var", "up", SIGNALBOX_GRPC_PORT=port)
    assert ended.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in ended.stderr
    assert "SIGNALBOX_GRPC_PORT=" in ended.stderr
    assert not processes_of(tmp_path / "var")
