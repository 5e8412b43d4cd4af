"""Load and unload by the protocol's own calls, through tritonclient over HTTP and gRPC, against the running product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as over_grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as over_http_aio
from tritonclient.utils import InferenceServerException

from core.digests import artifact_path
from tests import own_loop
from tests.dataplane.models import regressor
from tests.journeys.wire import Wire, until
from tests.product import Product

NAME = "sums"


@pytest.fixture(scope="module")
def wire(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Wire:
    """One endpoint that answers."""
    folder = tmp_path_factory.mktemp("load")
    wire = Wire(product.console_url, product.predict_url, product.admin_key)
    content = artifact_path(folder, regressor(folder).digest).read_bytes()
    made = wire.call("POST", "models/sum/versions/", files={"file": ("sum.onnx", content)})
    assert until(lambda: wire.finished("sum", made["number"]), 120)["state"] == "ready"
    wire.call("POST", "endpoints/", json={"name": NAME})
    wire.call("POST", f"endpoints/{NAME}/deploy/", json={"model": "sum", "version": 1})
    until(lambda: wire.plane.get(f"models/{NAME}/ready").status_code == 200, 20)
    return wire


def _inputs(client: Any) -> list[Any]:
    tensor = client.InferInput("input", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
    return [tensor]


def _index(client: Any, **options: Any) -> tuple[str, str]:
    (entry,) = [each for each in client.get_model_repository_index(as_json=True, **options)["models"] if each["name"] == NAME]
    return entry["state"], entry.get("reason", "")


def _digest(wire: Wire) -> str:
    (build,) = wire.call("GET", "models/sum/versions/1/")["builds"]
    return str(build["digest"])


def _digests_in_memory(wire: Wire) -> set[str]:
    living = [process for process in wire.call("GET", "system/")["processes"] if not process["stale"]]
    return {build["digest"] for process in living for build in process["builds"]}


def test_unload_over_http_and_load_over_grpc(product: Product, wire: Wire) -> None:
    keyed = {"headers": {"x-api-key": product.admin_key}}
    with over_http.InferenceServerClient(product.predict_url.removeprefix("http://")) as http, over_grpc.InferenceServerClient(product.grpc_address) as grpc:
        assert grpc.infer(NAME, _inputs(over_grpc), **keyed).as_numpy("prediction").tolist() == [[321]]
        until(lambda: _digest(wire) in _digests_in_memory(wire), 10)
        http.unload_model(NAME, **keyed)
        until(lambda: _index(grpc, **keyed)[0] == "UNAVAILABLE", 10)
        assert "command line on this machine unloaded it at 20" in _index(grpc, **keyed)[1]
        text = rf"out of service: command line on this machine unloaded it at .* `signalbox load {NAME}` puts it back"
        with pytest.raises(InferenceServerException, match=text):
            http.infer(NAME, _inputs(over_http), headers={"x-api-key": product.admin_key})  # this client adds to the dict
        with pytest.raises(InferenceServerException, match=text) as refused:
            grpc.infer(NAME, _inputs(over_grpc), **keyed)
        assert refused.value.status() == "StatusCode.UNAVAILABLE"
        assert (http.is_model_ready(NAME, **keyed), grpc.is_model_ready(NAME, **keyed)) == (False, False)
        until(lambda: _digest(wire) not in _digests_in_memory(wire), 10)

        grpc.load_model(NAME, **keyed)
        assert grpc.infer(NAME, _inputs(over_grpc), **keyed).as_numpy("prediction").tolist() == [[321]]
        until(lambda: http.is_model_ready(NAME, **keyed), 10)
        assert _index(grpc, **keyed) == ("READY", "")
        with pytest.raises(InferenceServerException, match="cannot be loaded with files or a configuration"):
            grpc.load_model(NAME, config="{}", **keyed)
        with pytest.raises(InferenceServerException, match="cannot be loaded with files or a configuration"):
            http.load_model(NAME, config="{}", files={"file:1/model.onnx": b"x"}, **keyed)
        with pytest.raises(InferenceServerException, match="'nix' is not found"):
            grpc.unload_model("nix", **keyed)
    assert [row["verb"] for row in wire.call("GET", f"endpoints/{NAME}/ledger/")["results"]][:2] == ["load", "unload"]


def test_the_asyncio_clients_load_and_unload(product: Product, wire: Wire) -> None:
    keyed = {"headers": {"x-api-key": product.admin_key}}

    async def walk(client: Any) -> None:
        await client.unload_model(NAME, **keyed)
        assert not await client.is_model_ready(NAME, **keyed)
        await client.unload_model(NAME, **keyed)
        await client.load_model(NAME, **keyed)
        assert await client.is_model_ready(NAME, **keyed)

    async def both() -> None:
        async with over_grpc_aio.InferenceServerClient(product.grpc_address) as client:
            await walk(client)
        # Two processes answer over HTTP: the one that was asked has the change, the other follows within a moment.
        async with over_http_aio.InferenceServerClient(product.predict_url.removeprefix("http://"), conn_limit=1) as client:
            await walk(client)

    revision = wire.endpoint(NAME)["revision"]
    own_loop.run(both())
    assert wire.endpoint(NAME)["revision"] == revision + 4


def test_the_command_line_unloads_and_loads(product: Product, wire: Wire) -> None:
    unloaded = product.command("unload", NAME, "--reason", "by hand")
    assert (unloaded.returncode, "out of service" in unloaded.stdout) == (0, True)
    until(lambda: wire.plane.get(f"models/{NAME}/ready").status_code == 503, 10)
    assert "(by hand)" in wire.plane.get(f"models/{NAME}").json()["error"]
    refused = product.command("rollback", NAME)
    assert (refused.returncode != 0, f"signalbox load {NAME}" in refused.stderr) == (True, True)
    loaded = product.command("load", NAME)
    assert (loaded.returncode, "blue 100 % sum 1" in loaded.stdout) == (0, True)
    until(lambda: wire.plane.get(f"models/{NAME}/ready").status_code == 200, 10)
