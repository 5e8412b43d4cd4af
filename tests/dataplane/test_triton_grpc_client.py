"""tritonclient.grpc and tritonclient.grpc.aio, unmodified: every public method."""

from __future__ import annotations

import queue
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from serving.dataplane.catalog import EXTENSIONS
from tests import own_loop
from tests.dataplane.conftest import HEADERS, KEY
from tests.dataplane.grpc_plane import GrpcPlane, standing_grpc
from tests.dataplane.methods import undriven
from tests.dataplane.objects import shared_object
from tests.dataplane.standing import OPERATOR
from tests.dataplane.test_triton_client import VALUES

__all__ = ["standing_grpc"]
OPERATES = {"headers": {"x-api-key": OPERATOR}}
KEYED = {"headers": {name.lower(): value for name, value in HEADERS.items()}}


@pytest.fixture
def client(standing_grpc: GrpcPlane) -> Iterator[Any]:
    with triton.InferenceServerClient(standing_grpc.url) as client:
        yield client


def _inputs(rows: int = 1) -> list[Any]:
    inputs = []
    for name, value in VALUES.items():
        tensor = triton.InferInput(f"in_{name}", [rows, 2], name)
        tensor.set_data_from_numpy(np.repeat(value, rows, axis=0))
        inputs.append(tensor)
    return inputs


def _sum_input(value: float, rows: int = 1) -> list[Any]:
    tensor = triton.InferInput("input", [rows, 3], "FP32")
    tensor.set_data_from_numpy(np.full((rows, 3), value, np.float32))
    return [tensor]


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_every_datatype_comes_back(client: Any, compression: str | None) -> None:
    outputs = [triton.InferRequestedOutput(f"out_{name}") for name in VALUES]
    answer = client.infer("echo", _inputs(rows=30), outputs=outputs, request_id="7", compression_algorithm=compression, **KEYED)
    for name, value in VALUES.items():
        found = answer.as_numpy(f"out_{name}")
        wanted = np.repeat(value, 30, axis=0)
        if name == "BYTES":
            found = np.vectorize(bytes.decode, otypes=[object])(found)
        assert found.dtype == wanted.dtype
        assert (found == wanted).all()
    assert answer.get_response().id == "7"
    assert answer.get_response().model_version == "1"
    assert answer.get_response().parameters["slot"].string_param == "blue"
    assert len(answer.get_response().parameters["prediction_id"].string_param) == 36


def test_only_the_outputs_wanted_come(client: Any) -> None:
    answer = client.infer("churn", _churn(), outputs=[triton.InferRequestedOutput("probabilities")], **KEYED)
    assert [output.name for output in answer.get_response().outputs] == ["probabilities"]
    assert answer.as_numpy("probabilities").tolist() == [[0.25, 0.75]]


def _churn() -> list[Any]:
    age, plan = triton.InferInput("age", [1, 1], "FP32"), triton.InferInput("plan", [1, 1], "BYTES")
    age.set_data_from_numpy(np.array([[41]], np.float32))
    plan.set_data_from_numpy(np.array([["gold"]], dtype=object))
    return [age, plan]


def test_calls_that_are_no_predictions(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sum", **KEYED)
    assert client.is_model_ready("sum", "1", **KEYED)
    assert not client.is_model_ready("sum", "9", **KEYED)
    assert not client.is_model_ready("nix", **KEYED)
    assert not client.is_model_ready("empty", **KEYED)
    server = client.get_server_metadata()
    assert (server.name, list(server.extensions)) == ("signalbox", [*EXTENSIONS, "system_shared_memory"])
    metadata = client.get_model_metadata("sum", "1", **KEYED, as_json=True)
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": ["-1", "3"]}]
    config = client.get_model_config("sum", **KEYED).config
    assert (config.max_batch_size, config.input[0].data_type, list(config.input[0].dims), config.backend) == (50, 11, [3], "onnxruntime")
    index = {model.name: (model.version, model.state, model.reason) for model in client.get_model_repository_index(**KEYED).models}
    assert index["sum"] == ("1", "READY", "")
    assert index["empty"] == ("", "UNAVAILABLE", "no model in any slot")


def test_statistics_count_what_was_answered(client: Any) -> None:
    before = client.get_inference_statistics("clipped", **KEYED).model_stats[0]
    client.infer("clipped", _sum_input(1, rows=3), **KEYED)
    after = client.get_inference_statistics("clipped", "1", **KEYED).model_stats[0]
    assert (after.inference_count - before.inference_count, after.execution_count - before.execution_count) == (3, 1)
    assert after.inference_stats.success.count - before.inference_stats.success.count == 1
    assert {"sum", "churn", "echo"} <= {each.name for each in client.get_inference_statistics(**KEYED).model_stats}


def test_settings_and_changes_are_for_who_may_operate(client: Any) -> None:
    assert list(client.get_trace_settings(**KEYED).settings["trace_level"].value) == ["OFF"]
    assert client.get_log_settings(**KEYED).settings["log_info"].bool_param
    changed = client.update_log_settings({"log_info": False, "log_verbose_level": 2, "log_format": "ISO8601"}, **OPERATES).settings
    assert (changed["log_info"].bool_param, changed["log_verbose_level"].uint32_param, changed["log_format"].string_param) == (False, 2, "ISO8601")
    first = client.update_log_settings({"log_info": None, "log_verbose_level": None, "log_format": None}, **OPERATES).settings
    assert (first["log_info"].bool_param, first["log_verbose_level"].uint32_param, first["log_format"].string_param) == (True, 0, "default")
    for call, text in (
        (lambda: client.update_log_settings({"log_file": "/etc/passwd"}, **OPERATES), "log_file takes nothing"),
        (lambda: client.update_trace_settings("sum", {"trace_level": ["TIMESTAMPS"]}, **OPERATES), "Traces are not configured here"),
        (lambda: client.update_log_settings({"log_info": False}, **KEYED), "lacks the scope operate"),
        (lambda: client.load_model("sum", **KEYED), "lacks the scope operate"),
        (lambda: client.unload_model("sum", **KEYED), "lacks the scope operate"),
        (lambda: client.update_trace_settings(settings={"trace_rate": "5"}, **KEYED), "lacks the scope operate"),
    ):
        with pytest.raises(InferenceServerException, match=text):
            call()


def test_a_plugin_sends_the_key(standing_grpc: GrpcPlane) -> None:
    client = triton.InferenceServerClient(standing_grpc.url)
    client.register_plugin(SendsTheKey())
    assert isinstance(client.plugin(), SendsTheKey)
    assert client.is_model_ready("sum")
    client.unregister_plugin()
    with pytest.raises(InferenceServerException, match="An API key is needed"):
        client.get_model_metadata("sum")
    client.close()


class SendsTheKey:
    def __call__(self, request: Any) -> None:
        request.headers["x-api-key"] = KEY


@pytest.mark.parametrize(("kind", "in_coroutines"), [(triton.InferenceServerClient, False), (triton_aio.InferenceServerClient, True)])
def test_no_public_method_of_a_client_is_left_out(kind: type, in_coroutines: bool) -> None:
    assert undriven(kind, sys.modules[__name__], in_coroutines=in_coroutines) == set()


def test_shared_memory_holds_what_is_asked_and_what_is_answered(client: Any) -> None:
    with shared_object(100) as memory:
        memory.put([np.array([[1, 2, 3]], np.float32)])
        client.register_system_shared_memory("a", memory.key, 100, **KEYED)
        region = client.get_system_shared_memory_status("a", **KEYED).regions["a"]
        assert (region.name, region.key, region.offset, region.byte_size) == ("a", memory.key, 0, 100)
        _require_told(client.infer("sum", *_in_memory(), **KEYED))
        assert memory.get(np.float32, [1, 1], 96).tolist() == [[321]]
        client.unregister_system_shared_memory("a", **KEYED)
        assert not client.get_system_shared_memory_status(**KEYED).regions


def _in_memory() -> tuple[list[Any], str, list[Any]]:
    """Give inputs, version and outputs of a request whose tensors lie in the region ``a``."""
    tensor, output = triton.InferInput("input", [1, 3], "FP32"), triton.InferRequestedOutput("prediction")
    tensor.set_shared_memory("a", 12)
    output.set_shared_memory("a", 4, 96)
    return [tensor], "", [output]


def _require_told(answer: Any) -> None:
    output = answer.get_output("prediction")
    told = output.parameters
    assert (output.datatype, list(output.shape), list(answer.get_response().raw_output_contents)) == ("FP32", [1, 1], [b""])
    assert told["shared_memory_region"].string_param == "a"
    assert (told["shared_memory_byte_size"].int64_param, told["shared_memory_offset"].int64_param) == (4, 96)


def test_cuda_shared_memory_is_refused_and_none_is_there(client: Any) -> None:
    assert not client.get_cuda_shared_memory_status(**KEYED).regions
    with pytest.raises(InferenceServerException, match="CUDA shared memory, since models run on the processor, is not supported"):
        client.register_cuda_shared_memory("a", b"aGFuZGxl", 0, 8, **KEYED)
    client.unregister_cuda_shared_memory(**KEYED)


def test_async_infer_answers_each_with_its_own_rows(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for number in range(50):
        client.async_infer(
            "split", _sum_input(number, rows=1 + number % 3), lambda result, error: answers.put((result, error)), request_id=str(number), **KEYED
        )
    for _ in range(50):
        result, error = answers.get(timeout=20)
        assert error is None
        number, offset = int(result.get_response().id), 0.5 if result.get_response().model_version == "2" else 0
        assert result.as_numpy("prediction").tolist() == [[111 * number + offset]] * (1 + number % 3)


def test_an_async_call_can_be_cancelled(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    tensor = triton.InferInput("input", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    client.async_infer("slow", [tensor], lambda result, error: answers.put((result, error)), **KEYED).cancel()
    result, error = answers.get(timeout=20)
    assert (result, error.status()) == (None, "StatusCode.CANCELLED")
    assert client.infer("slow", [tensor], **KEYED).as_numpy("prediction").tolist() == [[2]]  # behind the other, which runs to its end


def test_a_stream_goes_on_after_a_request_that_fails(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), **KEYED)
    wrong = triton.InferInput("input", [1, 9], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 9), np.float32))
    for number in range(200):
        client.async_stream_infer("split", [wrong] if number == 20 else _sum_input(number), request_id=str(number))
    found, errors = {}, []
    for _ in range(200):
        result, error = answers.get(timeout=20)
        if error is None:
            response = result.get_response()
            found[int(response.id)] = result.as_numpy("prediction").item() - (0.5 if response.model_version == "2" else 0)
        else:
            errors.append(error.message())
    client.stop_stream()
    assert found == {number: 111.0 * number for number in range(200) if number != 20}
    assert errors == ["unexpected shape for input 'input' for model 'split'. Expected [-1,3], got [1,9]"]


def test_a_stream_alone_never_makes_its_endpoint_busy(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), **KEYED)
    tensor = triton.InferInput("input", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 1), np.float32))
    for _ in range(12):  # the endpoint takes 4 at once
        client.async_stream_infer("slow", [tensor], enable_empty_final_response=True)
    for _ in range(12):
        result, error = answers.get(timeout=60)
        assert error is None, error.message()
        assert result.as_numpy("prediction").tolist() == [[2]]
        assert result.get_response().parameters["triton_final_response"].bool_param
    client.stop_stream()


def test_a_stream_without_a_key_is_refused_as_a_whole(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    result, error = answers.get(timeout=20)
    assert (result, error.status(), "An API key is needed" in error.message()) == (None, "StatusCode.UNAUTHENTICATED", True)
    client.stop_stream()


def test_every_method_of_the_asyncio_client(standing_grpc: GrpcPlane) -> None:
    async def walk() -> None:
        client = triton_aio.InferenceServerClient(standing_grpc.url)
        await _ask_everything(client)
        await _through_shared_memory(client)
        await _refused(client)
        await _stream(client)
        await _with_a_plugin(client)

    own_loop.run(walk())


async def _with_a_plugin(client: Any) -> None:
    client.register_plugin(SendsTheKey())
    assert client.plugin() is not None
    assert await client.is_model_ready("sum")
    client.unregister_plugin()
    with pytest.raises(InferenceServerException, match="An API key is needed"):
        await client.get_model_metadata("sum")
    await client.close()


async def _ask_everything(client: Any) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("sum", **KEYED)
    assert (await client.get_server_metadata()).name == "signalbox"
    assert (await client.get_model_metadata("sum", **KEYED)).platform == "onnx_onnxv1"
    assert (await client.get_model_config("sum", **KEYED)).config.max_batch_size == 50
    assert "sum" in {model.name for model in (await client.get_model_repository_index(**KEYED)).models}
    assert (await client.get_inference_statistics("sum", **KEYED)).model_stats[0].name == "sum"
    assert list((await client.get_trace_settings(**KEYED)).settings["trace_level"].value) == ["OFF"]
    assert (await client.get_log_settings(**KEYED)).settings["log_info"].bool_param
    assert not (await client.get_system_shared_memory_status(**KEYED)).regions
    assert not (await client.get_cuda_shared_memory_status(**KEYED)).regions
    await client.unregister_system_shared_memory(**KEYED)
    await client.unregister_cuda_shared_memory(**KEYED)
    answer = await client.infer("sum", _sum_input(2), request_id="one", compression_algorithm="gzip", **KEYED)
    assert (answer.as_numpy("prediction").tolist(), answer.get_response().id) == ([[222]], "one")


async def _through_shared_memory(client: Any) -> None:
    with shared_object(100) as memory:
        memory.put([np.array([[1, 2, 3]], np.float32)])
        await client.register_system_shared_memory("a", memory.key, 100, **KEYED)
        assert list((await client.get_system_shared_memory_status(**KEYED)).regions) == ["a"]
        _require_told(await client.infer("sum", *_in_memory(), **KEYED))
        assert memory.get(np.float32, [1, 1], 96).tolist() == [[321]]
        await client.unregister_system_shared_memory("a", **KEYED)
        assert not (await client.get_system_shared_memory_status(**KEYED)).regions


async def _refused(client: Any) -> None:
    assert (await client.update_log_settings({"log_format": "default"}, **OPERATES)).settings["log_info"].bool_param
    for call in (
        client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]}, **OPERATES),
        client.register_cuda_shared_memory("a", b"aGFuZGxl", 0, 8, **KEYED),
    ):
        with pytest.raises(InferenceServerException, match=r"is not supported|are not configured") as refused:
            await call
        assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
    for call in (client.load_model("sum", **KEYED), client.unload_model("sum", **KEYED)):
        with pytest.raises(InferenceServerException, match="lacks the scope operate") as refused:
            await call
        assert refused.value.status() == "StatusCode.PERMISSION_DENIED"


async def _stream(client: Any) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(20):
            yield {"model_name": "nix" if number == 7 else "sum", "inputs": _sum_input(number), "request_id": str(number)}

    found, errors = {}, []
    async for result, error in client.stream_infer(requests(), **KEYED):
        if error is None:
            found[int(result.get_response().id)] = result.as_numpy("prediction").item()
        else:
            errors.append(error.message())
    assert found == {number: 111.0 * number for number in range(20) if number != 7}
    assert errors == ["Request for unknown model: 'nix' is not found"]
