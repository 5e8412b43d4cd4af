"""``signalbox restart`` under load: no request fails, and every process that answers or works is a new one."""

from __future__ import annotations

import json

import httpx

from tests.journeys.load import GrpcLoad, Load
from tests.journeys.wire import Wire, pipeline, rows_of, tumours, until
from tests.product import Product, processes_of

ENDPOINT = "restarted"


def test_a_restart_under_load_fails_no_request(product: Product) -> None:
    wire = Wire(product.console_url, product.predict_url, product.admin_key)
    assert wire.register("tumour-restart", pipeline(1.0))["state"] == "ready"
    wire.call("POST", "endpoints/", json={"name": ENDPOINT})
    wire.call("POST", f"endpoints/{ENDPOINT}/deploy/", json={"model": "tumour-restart", "version": 1})
    row = rows_of(tumours()[0][:1])
    until(lambda: wire.predict(ENDPOINT, row).status_code == 200, 20)
    before = product.processes
    grpc_load = GrpcLoad(product.grpc_address, wire.key, ENDPOINT, row[0])
    with Load(wire.predict_url, wire.key, ENDPOINT, row[0]) as load, grpc_load:
        load.wait_for(200)
        grpc_load.wait_for(200)
        done = product.command("restart", "--json")
        assert done.returncode == 0, done.stderr
        load.wait_for(200)
        grpc_load.wait_for(200)
    assert load.failures == []
    assert grpc_load.failures == []
    after = product.processes
    changed = {name for name, pid in after.items() if pid != before[name]}
    assert changed == set(before) - {"postgres", "redis"}
    assert set(json.loads(done.stdout)["restarted"]) == changed
    assert json.loads(done.stdout)["restarted"][:3] == ["dataplane-1", "dataplane-2", "grpc-1"]
    running = [pid for pid, command in processes_of(product.var_dir).items() if "-m serving.dataplane --fd" in command]
    assert sorted(running) == sorted(pid for name, pid in after.items() if name.startswith("dataplane"))
    assert httpx.get(f"{product.console_url}/sign-in/", trust_env=False, timeout=60).status_code == 200


def test_a_restart_of_nothing_says_what_to_do(tmp_path) -> None:
    from tests.product import run_command

    ended = run_command(tmp_path / "var", "restart")
    assert ended.returncode == 1
    assert "Signalbox is not running on this machine" in ended.stderr
