"""tritonclient.http, unmodified, in both its modes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from tests import own_loop
from tests.dataplane.conftest import HEADERS, KEY, Plane, wait_for
from tests.dataplane.methods import undriven
from tests.dataplane.objects import shared_object
from tests.dataplane.standing import OPERATES_CHURN, OPERATOR

OPERATES = {"Authorization": f"Bearer {OPERATOR}"}
LOG = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0, "log_format": "default"}
TOLD = {
    "name": "prediction",
    "datatype": "FP32",
    "shape": [1, 1],
    "parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 4, "shared_memory_offset": 96},
}
VALUES: dict[str, Any] = {
    "BOOL": np.array([[True, False]]),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 65535]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**63]], np.uint64),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2**15 - 1]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1]], np.int32),
    "INT64": np.array([[-(2**62), 2**62]], np.int64),
    "FP16": np.array([[0.5, -2]], np.float16),
    "FP32": np.array([[0.1, -1e30]], np.float32),
    "FP64": np.array([[0.1, -1e300]], np.float64),
    "BYTES": np.array([["Grüße", ""]], dtype=object),
}


@pytest.fixture
def client(standing: Plane) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{standing.port}") as client:
        yield client


def _inputs(binary: bool, rows: int = 1) -> list[Any]:
    inputs = []
    for name, value in VALUES.items():
        tensor = triton.InferInput(f"in_{name}", [rows, 2], name)
        tensor.set_data_from_numpy(np.repeat(value, rows, axis=0), binary_data=binary)
        inputs.append(tensor)
    return inputs


@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_every_datatype_comes_back(client: Any, binary_in: bool, binary_out: bool, compression: str | None) -> None:
    outputs = [triton.InferRequestedOutput(f"out_{name}", binary_data=binary_out) for name in VALUES]
    answer = client.infer(
        "echo",
        _inputs(binary_in, rows=30),
        outputs=outputs,
        request_id="7",
        headers=dict(HEADERS),
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    for name, value in VALUES.items():
        found = answer.as_numpy(f"out_{name}")
        wanted = np.repeat(value, 30, axis=0)
        if name == "BYTES":
            found = np.vectorize(lambda each: each.decode() if isinstance(each, bytes) else each, otypes=[object])(found)
        assert found.dtype == wanted.dtype
        assert (found == wanted).all()
    assert answer.get_response()["id"] == "7"


def test_the_default_mode_gives_binary_outputs(client: Any) -> None:
    answer = client.infer("echo", _inputs(binary=True), headers=dict(HEADERS))
    assert (answer.as_numpy("out_FP64") == VALUES["FP64"]).all()


def test_every_other_method_works(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "signalbox"
    assert client.is_model_ready("sum", headers=dict(HEADERS))
    assert not client.is_model_ready("nix", headers=dict(HEADERS))
    assert client.get_model_metadata("sum", "1", headers=dict(HEADERS))["name"] == "sum"
    assert client.get_model_config("sum", headers=dict(HEADERS))["max_batch_size"] == 50
    assert client.get_model_repository_index(headers=dict(HEADERS))
    assert client.get_inference_statistics("sum", headers=dict(HEADERS))["model_stats"]
    assert client.get_inference_statistics(headers=dict(HEADERS))["model_stats"]
    assert client.get_trace_settings(headers=dict(HEADERS))["trace_level"] == ["OFF"]
    assert client.get_log_settings(headers=dict(HEADERS))["log_info"]
    assert client.get_system_shared_memory_status(headers=dict(HEADERS)) == []


def test_errors_are_shown_as_the_client_means_to(client: Any) -> None:
    tensor = triton.InferInput("input", [1, 9], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 9), np.float32))
    with pytest.raises(InferenceServerException, match=r"unexpected shape for input 'input' for model 'sum'. Expected \[-1,3\], got \[1,9\]"):
        client.infer("sum", [tensor], headers=dict(HEADERS))
    with pytest.raises(InferenceServerException, match="An API key is needed"):
        client.infer("sum", [tensor])


def test_requests_in_flight_at_once_get_their_own_rows(standing: Plane) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{standing.port}", concurrency=16) as client:
        waiting = []
        for number in range(200):
            tensor = triton.InferInput("input", [1 + number % 3, 3], "FP32")
            tensor.set_data_from_numpy(np.full((1 + number % 3, 3), number, np.float32), binary_data=number % 2 == 0)
            waiting.append(client.async_infer("split", [tensor], headers=dict(HEADERS), request_id=str(number)))
        for number, each in enumerate(waiting):
            answer = each.get_result()
            offset = 0.5 if answer.get_response()["model_version"] == "2" else 0
            assert answer.as_numpy("prediction").tolist() == [[111 * number + offset]] * (1 + number % 3)


def test_what_is_not_offered_is_refused_in_words(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="CUDA shared memory, since models run on the processor, is not supported"):
        client.register_cuda_shared_memory("a", b"aGFuZGxl", 0, 8, headers=dict(HEADERS))
    for change in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="lacks the scope operate"):
            change("sum", headers=dict(HEADERS))
    client.unregister_cuda_shared_memory("a", headers=dict(HEADERS))
    assert client.get_cuda_shared_memory_status(headers=dict(HEADERS)) == []


def test_shared_memory_holds_what_is_asked_and_what_is_answered(client: Any) -> None:
    with shared_object(100) as memory:
        memory.put([np.array([[1, 2, 3]], np.float32)])
        client.register_system_shared_memory("a", memory.key, 100, headers=dict(HEADERS))
        assert client.get_system_shared_memory_status("a", headers=dict(HEADERS)) == [{"name": "a", "key": memory.key, "offset": 0, "byte_size": 100}]
        answer = client.infer("sum", *_in_memory(), headers=dict(HEADERS))
        assert answer.get_output("prediction") == TOLD
        assert memory.get(np.float32, [1, 1], 96).tolist() == [[321]]
        client.unregister_system_shared_memory("a", headers=dict(HEADERS))
        assert client.get_system_shared_memory_status(headers=dict(HEADERS)) == []


def _in_memory() -> tuple[list[Any], str, list[Any]]:
    """Give inputs, version and outputs of a request whose tensors lie in the region ``a``."""
    tensor, output = triton.InferInput("input", [1, 3], "FP32"), triton.InferRequestedOutput("prediction")
    tensor.set_shared_memory("a", 12)
    output.set_shared_memory("a", 4, 96)
    return [tensor], "", [output]


def test_the_logs_settings_are_set_by_who_may_operate(client: Any, standing: Plane) -> None:
    assert client.get_log_settings(headers=dict(HEADERS)) == LOG
    changed = client.update_log_settings({"log_verbose_level": 1, "log_format": "ISO8601"}, headers=OPERATES)
    assert changed == client.get_log_settings(headers=dict(HEADERS)) == LOG | {"log_verbose_level": 1, "log_format": "ISO8601"}
    tensor = triton.InferInput("input", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 3), np.float32))
    client.infer("sum", [tensor], headers=dict(HEADERS))
    line = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ DEBUG serving\.dataplane\.log: Postgres is away", re.MULTILINE)
    wait_for(lambda: line.search(standing.log_text()), "a line of the verbose level")
    assert client.update_log_settings({"log_verbose_level": None, "log_format": None}, headers=OPERATES) == LOG
    assert " sets log: {'log_verbose_level': 1, 'log_format': 'ISO8601'}." in standing.log_text()


@pytest.mark.parametrize(
    ("settings", "key", "text"),
    [
        ({"log_info": False}, KEY, "lacks the scope operate, which a change of the log's settings needs"),
        ({"log_info": False}, OPERATES_CHURN, "is for churn alone, and a change of the log's settings holds for all endpoints"),
        ({"log_info": 0}, OPERATOR, "log_info takes true or false. It got '0'."),
        ({"log_verbose_level": -1}, OPERATOR, "log_verbose_level takes a whole number from 0 on. It got '-1'."),
        ({"log_verbose_level": True}, OPERATOR, "log_verbose_level takes a whole number from 0 on. It got 'True'."),
        ({"log_format": "%s"}, OPERATOR, "log_format takes default or ISO8601. It got '%s'."),
        ({"log_file": "/etc/passwd"}, OPERATOR, "log_file takes nothing: the log goes where the process was started to write it. It got '/etc/passwd'."),
        ({"log_info": False, "colour": "red"}, OPERATOR, "There is no setting 'colour'. There are log_error, log_file"),
    ],
)
def test_what_cannot_be_set_of_the_log_is_refused_and_changes_nothing(client: Any, settings: dict[str, Any], key: str, text: str) -> None:
    with pytest.raises(InferenceServerException, match=re.escape(text)):
        client.update_log_settings(settings, headers={"Authorization": f"Bearer {key}"})
    assert client.get_log_settings(headers=dict(HEADERS)) == LOG


def test_traces_that_have_nowhere_to_go_cannot_be_set(client: Any) -> None:
    assert client.get_trace_settings("sum", headers=dict(HEADERS))["trace_level"] == ["OFF"]
    with pytest.raises(InferenceServerException, match="Start Signalbox with OTEL_EXPORTER_OTLP_ENDPOINT set"):
        client.update_trace_settings("sum", {"trace_level": ["TIMESTAMPS"]}, headers=OPERATES)
    with pytest.raises(InferenceServerException, match="lacks the scope operate"):
        client.update_trace_settings("sum", {"trace_level": ["TIMESTAMPS"]}, headers=dict(HEADERS))
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'nix' is not found"):
        client.get_trace_settings("nix", headers=dict(HEADERS))


def test_a_plugin_sends_the_key(standing: Plane) -> None:
    client = triton.InferenceServerClient(f"127.0.0.1:{standing.port}")
    client.register_plugin(SendsTheKey())
    assert isinstance(client.plugin(), SendsTheKey)
    assert client.is_model_ready("sum")
    client.unregister_plugin()
    assert not client.is_model_ready("sum")
    client.close()


class SendsTheKey:
    def __call__(self, request: Any) -> None:
        request.headers["x-api-key"] = KEY


@pytest.mark.parametrize(("kind", "in_coroutines"), [(triton.InferenceServerClient, False), (triton_aio.InferenceServerClient, True)])
def test_no_public_method_of_a_client_is_left_out(kind: type, in_coroutines: bool) -> None:
    assert undriven(kind, sys.modules[__name__], in_coroutines=in_coroutines) == set()


def test_bodies_made_and_read_by_the_client_without_a_connection(standing: Plane) -> None:
    for binary in (True, False):
        body, length = triton.InferenceServerClient.generate_request_body(_inputs(binary), request_id="8")
        headers = HEADERS if length is None else HEADERS | {"Inference-Header-Content-Length": str(length)}
        answer = httpx.post(f"{standing.url}/v2/models/echo/infer", content=bytes(body), headers=headers)
        header = answer.headers.get("inference-header-content-length")
        result = triton.InferenceServerClient.parse_response_body(answer.content, header_length=int(header) if header else None)
        assert (result.as_numpy("out_INT64") == VALUES["INT64"]).all()
        assert result.get_response()["id"] == "8"


def test_bf16_is_refused_by_its_name(client: Any) -> None:
    tensor = triton.InferInput("input", [1, 3], "BF16")
    tensor.set_data_from_numpy(np.ones((1, 3), ml_dtypes.bfloat16), binary_data=True)
    with pytest.raises(InferenceServerException, match="inference input 'input' data-type is 'BF16', but model 'sum' expects 'FP32'"):
        client.infer("sum", [tensor], headers=dict(HEADERS))


def test_every_method_of_the_asyncio_client(standing: Plane) -> None:
    async def walk() -> None:
        client = triton_aio.InferenceServerClient(f"127.0.0.1:{standing.port}")
        await _ask_everything(client)
        await _through_shared_memory(client)
        await _with_a_plugin(client)

    own_loop.run(walk())


async def _through_shared_memory(client: Any) -> None:
    with shared_object(100) as memory:
        memory.put([np.array([[1, 2, 3]], np.float32)])
        await client.register_system_shared_memory("a", memory.key, 100, headers=dict(HEADERS))
        assert len(await client.get_system_shared_memory_status(headers=dict(HEADERS))) == 1
        answer = await client.infer("sum", *_in_memory(), headers=dict(HEADERS))
        assert (answer.get_output("prediction"), memory.get(np.float32, [1, 1], 96).tolist()) == (TOLD, [[321]])
        await client.unregister_system_shared_memory("a", headers=dict(HEADERS))
        assert await client.get_system_shared_memory_status(headers=dict(HEADERS)) == []


async def _with_a_plugin(client: Any) -> None:
    client.register_plugin(SendsTheKey())
    assert client.plugin() is not None
    body, length = client.generate_request_body(_inputs(binary=True), request_id="8")
    assert client.parse_response_body(b'{"id":"8","outputs":[]}').get_response()["id"] == "8"
    assert (len(body) > (length or 0), await client.is_model_ready("sum")) == (True, True)
    client.unregister_plugin()
    assert not await client.is_model_ready("sum")
    await client.close()


async def _ask_everything(client: Any) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("sum", headers=dict(HEADERS))
    assert not await client.is_model_ready("nix", headers=dict(HEADERS))
    assert (await client.get_server_metadata())["name"] == "signalbox"
    assert (await client.get_model_metadata("sum", headers=dict(HEADERS)))["versions"] == ["1"]
    assert (await client.get_model_config("sum", headers=dict(HEADERS)))["max_batch_size"] == 50
    assert "sum" in {entry["name"] for entry in await client.get_model_repository_index(headers=dict(HEADERS))}
    assert (await client.get_inference_statistics("sum", headers=dict(HEADERS)))["model_stats"][0]["name"] == "sum"
    assert (await client.get_trace_settings(headers=dict(HEADERS)))["trace_level"] == ["OFF"]
    assert (await client.get_log_settings(headers=dict(HEADERS)))["log_info"] is True
    assert await client.get_system_shared_memory_status(headers=dict(HEADERS)) == []
    assert await client.get_cuda_shared_memory_status(headers=dict(HEADERS)) == []
    await client.unregister_system_shared_memory(headers=dict(HEADERS))
    await client.unregister_cuda_shared_memory(headers=dict(HEADERS))
    assert await client.update_log_settings({"log_format": "default"}, headers=dict(OPERATES)) == LOG
    for refused in (
        client.update_trace_settings("sum", {"trace_level": ["TIMESTAMPS"]}, headers=dict(HEADERS)),
        client.update_log_settings({"log_info": False}, headers=dict(HEADERS)),
        client.register_cuda_shared_memory("a", b"aGFuZGxl", 0, 8, headers=dict(HEADERS)),
        client.load_model("sum", headers=dict(HEADERS)),
        client.unload_model("sum", headers=dict(HEADERS)),
    ):
        with pytest.raises(InferenceServerException, match=r"is not supported|lacks the scope operate"):
            await refused
    for binary in (True, False):
        answer = await client.infer("echo", _inputs(binary, rows=2), request_id="9", headers=dict(HEADERS))
        for name, value in VALUES.items():
            if name != "BYTES":
                assert (answer.as_numpy(f"out_{name}") == np.repeat(value, 2, axis=0)).all()
        assert answer.get_response()["id"] == "9"
