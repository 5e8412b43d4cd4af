"""Tensors in system shared memory, over both transports: what goes through it, and what is refused of it."""

from __future__ import annotations

import json
import os
import resource
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from access.limits import KeyLimits
from tests.dataplane import models
from tests.dataplane.conftest import HEADERS, KEY, Log, Plane, endpoint, table, wait_for
from tests.dataplane.machine import ROWS, SUMS, Asker, Machine, asker, keyed, machine, memory, rest, rows_at, rows_in_body, sums_to, wanted
from tests.dataplane.objects import SharedObject, shared_object
from tests.dataplane.standing import SMALL, key
from tests.dataplane.test_triton_client import VALUES

__all__ = ["asker", "machine", "memory", "rest"]


def test_every_datatype_goes_both_ways_through_shared_memory(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    values = [np.repeat(value, 3, axis=0) for value in VALUES.values()]
    places = memory.put(values)
    with shared_object(4096) as answers:
        rest.register_system_shared_memory("given", memory.key, 4096, **keyed())
        rest.register_system_shared_memory("answers", answers.key, 4000, 96, **keyed())
        answers.handle._mpsm_handle.buf[:] = bytes(answers.handle._mpsm_handle.size)
        inputs, outputs = [], []
        for (name, value), (offset, size) in zip(zip(VALUES, values, strict=True), places, strict=True):
            inputs.append(module.InferInput(f"in_{name}", list(value.shape), name))
            inputs[-1].set_shared_memory("given", size, offset)
            outputs.append(module.InferRequestedOutput(f"out_{name}"))
            outputs[-1].set_shared_memory("answers", size + 1, offset)
        answer = client.infer("echo", inputs, outputs=outputs, **keyed())
        for name, value, (offset, size) in zip(VALUES, values, places, strict=True):
            found = answers.get(value.dtype, value.shape, 96 + offset)
            assert (found == (np.vectorize(str.encode, otypes=[object])(value) if name == "BYTES" else value)).all()
            told = _told(answer.get_output(f"out_{name}"))
            assert told == {"shared_memory_region": "answers", "shared_memory_byte_size": size} | ({"shared_memory_offset": offset} if offset else {})


def _told(output: Any) -> dict[str, Any]:
    """Give an output's parameters; it has no values."""
    if isinstance(output, dict):
        assert "data" not in output
        return dict(output["parameters"])
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in output.parameters.items()}


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "size", "text"),
    [
        ("plan", "BYTES", [2**62] * 300, 8, "unexpected shape for input 'plan'"),  # their product has more digits than can be written
        ("plan", "FP32", [2**62] * 300, 8, "data-type is 'FP32'"),
        ("plan", "BYTES", [1] * 70, 4, "unexpected shape for input 'plan'"),
        ("plan", "BYTES", [2, 1], 8, "has 2 rows, an input before it has 1"),
        ("plan", "BYTES", [2_000_000, 1], 4000, "has 2000000 rows, at most 10000 are answered at once"),
        ("other", "FP32", [2**62] * 300, 8, "unexpected inference input 'other'"),
        ("age", "FP32", [1, 1], 4, "comes twice"),
    ],
)
def test_nothing_is_read_before_every_input_is_the_model_s(
    machine: Machine, rest: Any, memory: SharedObject, name: str, datatype: str, shape: list[int], size: int, text: str
) -> None:
    rest.register_system_shared_memory("r", memory.key, 4096, **keyed())
    tensors = [("age", "FP32", [1, 1], 4), (name, datatype, shape, size)]
    os.truncate(memory.path, 0)  # who reads is told so
    try:
        there = [{"shared_memory_region": "r", "shared_memory_byte_size": size} for *_, size in tensors]
        inputs: list[dict[str, Any]] = [{"name": a, "datatype": b, "shape": c, "parameters": d} for (a, b, c, _), d in zip(tensors, there, strict=True)]
        for plane in (machine.own, machine.plain):
            answer = plane.client.post("/v2/models/churn/infer", json={"inputs": inputs})
            assert (answer.status_code, text in answer.text) == (413 if "at most" in text else 400, True), answer.text
        request = service_pb2.ModelInferRequest(model_name="churn")
        for each in inputs:
            tensor = request.inputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
            tensor.parameters["shared_memory_region"].string_param = "r"
            tensor.parameters["shared_memory_byte_size"].int64_param = each["parameters"]["shared_memory_byte_size"]
        with grpc.insecure_channel(machine.spoken.url) as channel, pytest.raises(grpc.RpcError) as refused:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=[("x-api-key", KEY)])
        assert text in str(refused.value.details())
    finally:
        os.truncate(memory.path, 4096)


def test_some_tensors_may_lie_in_shared_memory_and_others_come_in_the_body(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    rest.register_system_shared_memory("plan", memory.key, 4096, **keyed())
    ((offset, size),) = memory.put([np.array([["gold"]], dtype=object)], 100)
    plan, age = module.InferInput("plan", [1, 1], "BYTES"), module.InferInput("age", [1, 1], "FP32")
    plan.set_shared_memory("plan", size, offset)
    age.set_data_from_numpy(np.array([[41]], np.float32))
    probabilities = module.InferRequestedOutput("probabilities")
    probabilities.set_shared_memory("plan", 8)
    answer = client.infer("churn", [plan, age], outputs=[probabilities, module.InferRequestedOutput("label")], **keyed())
    assert answer.as_numpy("label").tolist() in ([["yes"]], [[b"yes"]], ["yes"], [b"yes"])
    assert memory.get(np.float32, [1, 2]).tolist() == [[0.25, 0.75]]


def test_a_piece_of_another_size_than_its_shape_is_refused_before_it_is_read(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    rest.register_system_shared_memory("short", memory.key, 4096, **keyed())
    os.truncate(memory.path, 20)
    try:
        with pytest.raises(InferenceServerException, match=r"FP32 of the shape \[2, ?3\] is 24 bytes, got 100"):
            client.infer("sum", rows_at(module, "short", 100), **keyed())
    finally:
        os.truncate(memory.path, 4096)


def test_a_large_empty_piece_is_not_read_as_millions_of_strings(asker: Asker, rest: Any) -> None:
    module, client = asker
    with shared_object(2**23) as zeros:
        rest.register_system_shared_memory("zeros", zeros.key, 2**23, **keyed())
        plan, age = module.InferInput("plan", [1, 1], "BYTES"), module.InferInput("age", [1, 1], "FP32")
        plan.set_shared_memory("zeros", 2**23)
        age.set_data_from_numpy(np.array([[41]], np.float32))
        with pytest.raises(InferenceServerException, match="the shape has 1 strings, the bytes go on after them: 8388604 of 8388608 are left"):
            client.infer("churn", [plan, age], **keyed())


def test_an_object_that_got_shorter_is_a_refusal_and_no_death(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    memory.put([ROWS])
    rest.register_system_shared_memory("short", memory.key, 4096, **keyed())
    os.truncate(memory.path, 20)
    try:
        with pytest.raises(InferenceServerException, match=r"is too short by now: its object .* has 20 bytes, 24 bytes from 0 on were asked for"):
            client.infer("sum", rows_at(module, "short"), **keyed())
        with pytest.raises(InferenceServerException, match="has 20 bytes, 8 bytes from 16 on were asked for"):
            client.infer("sum", rows_in_body(module), outputs=sums_to(module, "short", offset=16), **keyed())
        assert client.infer("sum", rows_in_body(module), outputs=sums_to(module, "short"), **keyed()).get_output("prediction")
        assert memory.path.stat().st_size == 20
    finally:
        os.truncate(memory.path, 4096)
    assert memory.get(np.float32, [2, 1]).tolist() == SUMS
    memory.path.rename(memory.path.with_suffix(".away"))
    try:
        with pytest.raises(InferenceServerException, match=r"Unable to open shared memory region: .*: No such file or directory"):
            rest.infer("sum", rows_at(tritonclient.http, "short"), **keyed())
    finally:
        memory.path.with_suffix(".away").rename(memory.path)


@pytest.mark.parametrize(
    ("status", "text", "parameters"),
    [
        (404, "Unable to find shared memory region: 'nix'", {"region": "nix"}),
        (400, "It has 100 bytes, 24 from 80 on were asked for", {"offset": 80}),
        (400, "Invalid offset + byte size", {"offset": 101}),
        (400, "Invalid offset + byte size", {"offset": 2**62}),
        (400, "Invalid offset + byte size", {"byte_size": 2**62}),
        (400, "Invalid offset + byte size", {"byte_size": 101}),
        (400, "FP32 of the shape [2, 3] is 24 bytes, got 23", {"byte_size": 23}),
        (400, "FP32 of the shape [2, 3] is 24 bytes, got 0", {"byte_size": 0}),
        (400, "shared_memory_offset must be a whole number of bytes", {"offset": -1}),
        (400, "shared_memory_byte_size must be a whole number of bytes", {"byte_size": -1}),
        (400, "shared_memory_offset must be a whole number of bytes", {"offset": "0"}),
        (400, "shared_memory_offset must be a whole number of bytes", {"offset": None}),
        (400, "shared_memory_offset must be a whole number of bytes", {"offset": False}),
        (400, "shared_memory_byte_size must be a whole number of bytes", {"byte_size": 24.0}),
        (400, "shared_memory_byte_size must be a whole number of bytes", {"byte_size": None}),
        (400, "shared_memory_region must be the name of a region", {"region": None}),
        (400, "shared_memory_region must be the name of a region", {"region": 7}),
        (400, "The body is not a valid request", {"region": ["r"]}),
        (400, "", {"byte_size": 10**500}),
    ],
)
def test_hostile_parameters_are_refused_and_the_connection_is_kept(
    machine: Machine, rest: Any, memory: SharedObject, status: int, text: str, parameters: dict[str, Any]
) -> None:
    memory.put([ROWS])
    rest.register_system_shared_memory("r", memory.key, 100, **keyed())
    there = {f"shared_memory_{name}": value for name, value in ({"region": "r", "byte_size": 24, "offset": 0} | parameters).items()}
    tensor = {"name": "input", "shape": [2, 3], "datatype": "FP32"}
    good = {"inputs": [tensor | {"parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 24}}]}
    requests = [{"inputs": [tensor | {"parameters": there}]}]
    if "got" not in text:  # an output has no fixed size
        requests.append({"inputs": [tensor | {"data": ROWS.tolist()}], "outputs": [{"name": "prediction", "parameters": there}]})
    for plane in (machine.own, machine.plain):
        with httpx.Client(base_url=plane.url, headers=HEADERS, limits=httpx.Limits(max_connections=1)) as client:
            for request in requests:
                answer = client.post("/v2/models/sum/infer", content=json.dumps(request))
                assert (answer.status_code, list(answer.json()), text in answer.json()["error"]) == (status, ["error"], True), answer.text
                stream = answer.extensions["network_stream"].get_extra_info("socket").getsockname()
                after = client.post("/v2/models/sum/infer", json=good)
                assert after.json()["outputs"][0]["data"] == [321, 654]
                assert after.extensions["network_stream"].get_extra_info("socket").getsockname() == stream
    assert memory.get(np.float32, [2, 3]).tolist() == ROWS.tolist()


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("shared_memory_region must be the name", {"shared_memory_region": {"int64_param": 7}}),
        ("shared_memory_byte_size must be a whole number", {"shared_memory_byte_size": {"string_param": "24"}}),
        ("shared_memory_byte_size must be a whole number", {"shared_memory_byte_size": {"double_param": 24}}),
        ("shared_memory_byte_size must be a whole number", {"shared_memory_byte_size": {}}),
        ("shared_memory_offset must be a whole number", {"shared_memory_offset": {"int64_param": -1}}),
        ("shared_memory_offset must be a whole number", {"shared_memory_offset": {"bool_param": True}}),
        ("Invalid offset + byte size", {"shared_memory_offset": {"uint64_param": 2**64 - 1}}),
        ("contents besides", {}),
    ],
)
def test_hostile_parameters_of_a_message_are_refused(machine: Machine, rest: Any, memory: SharedObject, text: str, parameters: dict[str, Any]) -> None:
    rest.register_system_shared_memory("r", memory.key, 100, **keyed())
    request = service_pb2.ModelInferRequest(model_name="sum")
    tensor = request.inputs.add(name="input", shape=[2, 3], datatype="FP32")
    given: dict[str, Any] = {"shared_memory_region": {"string_param": "r"}, "shared_memory_byte_size": {"int64_param": 24}} | parameters
    for name, value in given.items():
        tensor.parameters[name].CopyFrom(service_pb2.InferParameter(**value))
    if not parameters:
        tensor.contents.fp32_contents.extend([1] * 6)
    with grpc.insecure_channel(machine.spoken.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError, match=f".*{text.replace('+', '.')}") as refused:
            stub.ModelInfer(request, metadata=[("x-api-key", KEY)])
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_tensor_has_its_values_in_one_place(machine: Machine, rest: Any, memory: SharedObject) -> None:
    rest.register_system_shared_memory("r", memory.key, 100, **keyed())
    there = {"shared_memory_region": "r", "shared_memory_byte_size": 24}
    tensor = {"name": "input", "shape": [2, 3], "datatype": "FP32", "parameters": there}
    for changes in ({"data": [1] * 6}, {"parameters": there | {"binary_data_size": 24}}):
        answer = machine.own.client.post("/v2/models/sum/infer", json={"inputs": [tensor | changes]})
        assert (answer.status_code, "lies in shared memory, and has data besides" in answer.json()["error"]) == (400, True)
    request = service_pb2.ModelInferRequest(model_name="sum", raw_input_contents=[ROWS.tobytes()])
    given = request.inputs.add(name="input", shape=[2, 3], datatype="FP32")
    given.parameters["shared_memory_region"].string_param = "r"
    given.parameters["shared_memory_byte_size"].int64_param = 24
    with grpc.insecure_channel(machine.spoken.url) as channel, pytest.raises(grpc.RpcError, match="raw_input_contents has 1 tensors for 0 inputs"):
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=[("x-api-key", KEY)])


def test_strings_that_run_past_their_bytes_are_refused(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    rest.register_system_shared_memory("plan", memory.key, 4096, **keyed())
    memory.handle._mpsm_handle.buf[:8] = b"\xff\xff\x00\x00gold"
    plan, age = module.InferInput("plan", [1, 1], "BYTES"), module.InferInput("age", [1, 1], "FP32")
    plan.set_shared_memory("plan", 8)
    age.set_data_from_numpy(np.array([[41]], np.float32))
    with pytest.raises(InferenceServerException, match="the string 0 is cut off"):
        client.infer("churn", [plan, age], **keyed())


def test_an_output_without_room_is_refused_and_no_output_is_written(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    rest.register_system_shared_memory("r", memory.key, 4096, **keyed())
    plan, age = module.InferInput("plan", [1, 1], "BYTES"), module.InferInput("age", [1, 1], "FP32")
    plan.set_data_from_numpy(np.array([["gold"]], dtype=object))
    age.set_data_from_numpy(np.array([[41]], np.float32))
    outputs = [module.InferRequestedOutput(name) for name in ("label", "probabilities")]
    outputs[0].set_shared_memory("r", 100)
    outputs[1].set_shared_memory("r", 7, 100)
    before = _answered(client)
    with pytest.raises(InferenceServerException, match=r"for output 'probabilities' \(7 bytes\) should be at least 8 bytes to hold the results") as refused:
        client.infer("churn", [plan, age], outputs=outputs, **keyed())
    assert refused.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
    assert bytes(memory.handle._mpsm_handle.buf[:200]) == bytes(200)
    assert _answered(client) == (before[0], before[1] + 1)


def test_how_long_a_text_is_that_has_no_room_is_not_told(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    rest.register_system_shared_memory("r", memory.key, 4096, **keyed())
    plan, age = module.InferInput("plan", [1, 1], "BYTES"), module.InferInput("age", [1, 1], "FP32")
    plan.set_data_from_numpy(np.array([["gold"]], dtype=object))
    age.set_data_from_numpy(np.array([[41]], np.float32))
    label = module.InferRequestedOutput("label")
    label.set_shared_memory("r", 6)
    with pytest.raises(InferenceServerException, match=r"for output 'label' \(6 bytes\) is too small to hold the results. The prediction was made") as refused:
        client.infer("churn", [plan, age], outputs=[label], **keyed())
    assert "7" not in refused.value.message()


def _answered(client: Any) -> tuple[int, int]:
    """Give how many predictions of ``churn`` succeeded and failed in this process."""
    stats = client.get_inference_statistics("churn", **keyed())
    if isinstance(stats, dict):
        of_slot = stats["model_stats"][0]["inference_stats"]
        return of_slot["success"]["count"], of_slot["fail"]["count"]
    return stats.model_stats[0].inference_stats.success.count, stats.model_stats[0].inference_stats.fail.count


def test_in_a_batch_only_those_without_room_are_refused(rest: Any, memory: SharedObject) -> None:
    rest.register_system_shared_memory("r", memory.key, 4096, **keyed())
    waiting = []
    for number in range(60):
        tensor = tritonclient.http.InferInput("input", [1, 3], "FP32")
        tensor.set_data_from_numpy(np.full((1, 3), number, np.float32))
        waiting.append(rest.async_infer("sum", [tensor], outputs=sums_to(tritonclient.http, "r", 3 if number % 3 == 0 else 4, number * 4), **keyed()))
    for number, each in enumerate(waiting):
        if number % 3 == 0:
            with pytest.raises(InferenceServerException, match="should be at least 4 bytes"):
                each.get_result()
        else:
            each.get_result()
    assert memory.get(np.float32, [60]).tolist() == [0 if number % 3 == 0 else 111 * number for number in range(60)]


def test_the_limit_of_a_body_counts_what_lies_in_shared_memory(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    rest.register_system_shared_memory("plan", memory.key, 4096, **keyed(SMALL))  # a key that may send 2000 bytes
    for length, fits in ((1500, True), (1990, False), (3000, False)):
        ((offset, size),) = memory.put([np.array([["g" * length]], dtype=object)])
        plan, age = module.InferInput("plan", [1, 1], "BYTES"), module.InferInput("age", [1, 1], "FP32")
        plan.set_shared_memory("plan", size, offset)
        age.set_data_from_numpy(np.array([[41]], np.float32))
        if fits:
            assert client.infer("churn", [plan, age], **keyed(SMALL)).as_numpy("probabilities") is not None
            continue
        with pytest.raises(InferenceServerException, match=r"The body and its tensors in shared memory are too large: the API key .* at most 2000 bytes"):
            client.infer("churn", [plan, age], **keyed(SMALL))


def test_an_answer_from_the_cache_goes_into_shared_memory_too(machine: Machine, rest: Any, memory: SharedObject) -> None:
    memory.put([ROWS])
    rest.register_system_shared_memory("r", memory.key, 4096, **keyed())

    def hits() -> int:
        return int(rest.get_inference_statistics("cached", **keyed())["model_stats"][0]["inference_stats"]["cache_hit"]["count"])

    before = hits()
    for offset in (100, 200, 300):
        rest.infer("cached", rows_at(tritonclient.http, "r"), outputs=sums_to(tritonclient.http, "r", offset=offset), **keyed())
        assert memory.get(np.float32, [2, 1], offset).tolist() == SUMS
    with pytest.raises(InferenceServerException, match="should be at least 8 bytes"):
        rest.infer("cached", rows_at(tritonclient.http, "r"), outputs=sums_to(tritonclient.http, "r", 7, 400), **keyed())
    assert hits() - before == 3
    assert memory.get(np.float32, [2, 1], 400).tolist() == [[0], [0]]


def test_an_endpoint_that_sticks_to_a_feature_reads_it_from_shared_memory(asker: Asker, rest: Any, memory: SharedObject) -> None:
    module, client = asker
    rest.register_system_shared_memory("r", memory.key, 4096, **keyed())
    for _ in range(3):
        memory.put([ROWS])
        there = client.infer("by-feature", rows_at(module, "r"), **keyed()).as_numpy("prediction")
        assert (there == client.infer("by-feature", rows_in_body(module), **keyed()).as_numpy("prediction")).all()


@pytest.mark.django_db
def test_rows_are_logged_and_used_also_if_their_answer_found_no_room(plane_with_log: Plane, log: Log, memory: SharedObject) -> None:
    one, (text, entry) = models.regressor(plane_with_log.artifacts), key(limits=KeyLimits(rows_in_all=4))
    log.publish(table([one], [endpoint("sum", one)], keys=(entry,)))
    _start(plane_with_log, text)
    memory.put([ROWS])
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{plane_with_log.port}") as client:
        client.register_system_shared_memory("r", memory.key, 4096, **keyed(text))
        with pytest.raises(InferenceServerException, match="should be at least 8 bytes"):
            client.infer("sum", rows_at(tritonclient.http, "r"), outputs=sums_to(tritonclient.http, "r", 4, 100), **keyed(text))
        client.infer("sum", rows_at(tritonclient.http, "r"), outputs=sums_to(tritonclient.http, "r", 8, 100), **keyed(text))
        with pytest.raises(InferenceServerException, match="has used its 4 rows"):
            client.infer("sum", rows_at(tritonclient.http, "r"), outputs=sums_to(tritonclient.http, "r", 8, 200), **keyed(text))
    assert memory.get(np.float32, [2, 1], 200).tolist() == [[0], [0]]
    records = wait_for(lambda: len(found := log.records("sum")) == 4 and found, "the log")
    assert [tuple(record[f"in.{name}"] for name in "abc") for record in records] == [(1, 2, 3), (4, 5, 6)] * 2
    counted = wait_for(lambda: log.run("SELECT sum(requests), sum(rows), sum(refused) FROM serving_trafficwindow")[0], "the counts")
    wait_for(lambda: log.run("SELECT sum(requests), sum(rows), sum(refused) FROM serving_trafficwindow") == [(3, 2, 2)], f"3 requests after {counted}")


def _start(plane: Plane, text: str) -> None:
    """Start a process whose only key is ``text``."""
    plane.start()
    plane.client.headers["Authorization"] = f"Bearer {text}"


_CUSTOMER = [
    {"name": "plan", "shape": [1, 1], "datatype": "BYTES", "data": ["gold"]},
    {"name": "age", "shape": [1, 1], "datatype": "FP32", "data": [41]},
]


@pytest.mark.django_db
def test_what_cannot_be_written_was_predicted_all_the_same(plane_with_log: Plane, log: Log) -> None:
    build, (text, entry) = models.classifier(plane_with_log.artifacts), key(limits=KeyLimits(rows_in_all=2))
    log.publish(table([build], [endpoint("churn", build)], keys=(entry,)))
    _start(plane_with_log, text)
    client, process = plane_with_log.client, plane_with_log.process
    assert process is not None
    with shared_object(2**21) as memory:
        registered = client.post("/v2/systemsharedmemory/region/r/register", json={"key": memory.key, "byte_size": 2**21})
        assert registered.status_code == 200, registered.text
        request = {"inputs": _CUSTOMER, "outputs": [wanted("label", 7, 0), wanted("probabilities", 8, 2**20)]}
        whole = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**19, resource.RLIM_INFINITY))
        failed = client.post("/v2/models/churn/infer", json=request)
        assert (failed.status_code, "cannot be written: File too large. The prediction was made" in failed.text) == (503, True), failed.text
        assert bytes(memory.handle._mpsm_handle.buf[:7]) == b"\3\0\0\0yes"  # the first output is there
        assert memory.get(np.float32, [1, 2], 2**20).tolist() == [[0, 0]]
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, whole)
        assert client.post("/v2/models/churn/infer", json=request).status_code == 200
        assert memory.get(np.float32, [1, 2], 2**20).tolist() == [[0.25, 0.75]]
        used_up = client.post("/v2/models/churn/infer", json=request)
        assert (used_up.status_code, "has used its 2 rows" in used_up.text) == (429, True)
    wait_for(lambda: [record["out.label"] for record in log.records("churn")] == ["yes", "yes"], "the log")
    windows = "SELECT endpoint, slot, sum(requests), sum(rows), sum(refused), sum(errors) FROM serving_trafficwindow GROUP BY 1, 2 ORDER BY 2"
    wait_for(lambda: log.run(windows) == [("churn", "", 2, 0, 1, 1), ("churn", "blue", 1, 1, 0, 0)], f"the counts after {log.run(windows)}")


@pytest.mark.django_db
def test_what_a_durable_log_cannot_keep_is_not_written_either(plane_with_log: Plane, log: Log, memory: SharedObject) -> None:
    one, (text, entry) = models.regressor(plane_with_log.artifacts), key(limits=KeyLimits(rows_in_all=2))
    log.publish(table([one], [endpoint("safe", one, log_policy="durable")], keys=(entry,)))
    _start(plane_with_log, text)
    client, process = plane_with_log.client, plane_with_log.process
    assert process is not None
    client.post("/v2/systemsharedmemory/region/r/register", json={"key": memory.key, "byte_size": 4096}).raise_for_status()
    tensor = {"name": "input", "shape": [2, 3], "datatype": "FP32", "data": ROWS.tolist()}
    fits, small = ({"inputs": [tensor], "outputs": [wanted("prediction", size, 100)]} for size in (8, 4))
    log.run("ALTER TABLE serving_predictionsegment RENAME TO away")
    try:
        whole = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (256, resource.RLIM_INFINITY))
        for request in (fits, small):
            refused = client.post("/v2/models/safe/infer", json=request)
            assert (refused.status_code, "could not be logged" in refused.text) == (503, True), refused.text
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, whole)
    finally:
        log.run("ALTER TABLE away RENAME TO serving_predictionsegment")
    assert memory.get(np.float32, [2, 1], 100).tolist() == [[0], [0]]
    answered = client.post("/v2/models/safe/infer", json=fits)
    assert answered.status_code == 200, answered.text
    assert memory.get(np.float32, [2, 1], 100).tolist() == SUMS
    wait_for(lambda: len(log.records("safe")) == 2, "the log")
    assert client.post("/v2/models/safe/infer", json=fits).status_code == 429
