"""The protocol over gRPC, message by message: what tritonclient never sends, and every kind of refusal."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from core.environment import ROOT, Environment
from core.metrics.siblings import gather
from serving.dataplane.grpc.door import Frames
from serving.dataplane.grpc.health import MOST_WATCHERS
from serving.table import Limits
from tests.dataplane.conftest import KEY, NO_DATABASE, Log, Plane, endpoint, table, wait_for
from tests.dataplane.grpc_plane import MESSAGE_BYTES, GrpcPlane, standing_grpc
from tests.dataplane.models import regressor, slow
from tests.dataplane.standing import ELSEWHERE, EXPIRED, HASTY, MEDIUM, READER, SMALL
from tests.metrics_page import value_of

__all__ = ["standing_grpc"]
KEYED = (("x-api-key", KEY),)
Code = grpc.StatusCode


@pytest.fixture
def stub(standing_grpc: GrpcPlane) -> Iterator[Any]:
    with grpc.insecure_channel(standing_grpc.url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def _request(values: Any, *, name: str = "sum", datatype: str = "FP32", tensor: str = "input", **fields: Any) -> Any:
    array = np.asarray(values, np.float32)
    request = pb.ModelInferRequest(model_name=name, **fields)
    request.inputs.add(name=tensor, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    return request


def _value(answer: Any, index: int = 0) -> list[float]:
    return list(np.frombuffer(answer.raw_output_contents[index], np.float32))


def _refusal(call: Any, request: Any, metadata: Any = KEYED, **options: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call(request, metadata=metadata, **options)
    error: Any = refused.value
    return error.code(), error.details()


CONTENTS: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False]),
    "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 65535]),
    "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-(2**15), 2**15 - 1]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "FP32": ("fp32_contents", [0.5, -2.25]),
    "FP64": ("fp64_contents", [0.1, -1e300]),
    "BYTES": ("bytes_contents", ["Grüße".encode(), b""]),
}


def _typed_echo() -> Any:
    request = pb.ModelInferRequest(model_name="echo")
    for name, (field, values) in CONTENTS.items():
        getattr(request.inputs.add(name=f"in_{name}", datatype=name, shape=[1, 2]).contents, field).extend(values)
    return request


def test_typed_contents_are_read_in_every_type_that_has_them(stub: Any) -> None:
    request = _typed_echo()
    raw = pb.ModelInferRequest(model_name="echo")
    half = np.array([[0.5, 2]], np.float16)
    request.inputs.add(name="in_FP16", datatype="FP16", shape=[1, 2])
    assert _refusal(stub.ModelInfer, request) == (
        Code.INVALID_ARGUMENT,
        "Input 'in_FP16' of model 'echo': FP16 has no typed contents. Send raw_input_contents.",
    )
    for tensor in request.inputs:
        raw.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        raw.raw_input_contents.append(half.tobytes() if tensor.datatype == "FP16" else _as_raw(tensor))
    answer = stub.ModelInfer(raw, metadata=KEYED)
    found = {output.name: content for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True)}
    assert found == {f"out_{tensor.datatype}": content for tensor, content in zip(raw.inputs, raw.raw_input_contents, strict=True)}


def _as_raw(tensor: Any) -> bytes:
    field, values = CONTENTS[tensor.datatype]
    if field == "bytes_contents":
        return b"".join(len(value).to_bytes(4, "little") + value for value in values)
    kind = {"BOOL": "?", "FP32": "<f4", "FP64": "<f8"}.get(tensor.datatype) or f"<{tensor.datatype[0].lower()}{int(tensor.datatype.split('INT')[1]) // 8}"
    return np.array(values, kind).tobytes()


def test_typed_contents_give_the_answer_that_raw_ones_give(stub: Any) -> None:
    request = pb.ModelInferRequest(model_name="churn")
    request.inputs.add(name="age", datatype="FP32", shape=[2, 1]).contents.fp32_contents.extend([41, 20])
    request.inputs.add(name="plan", datatype="BYTES", shape=[2, 1]).contents.bytes_contents.extend([b"gold", b"free"])
    answer = stub.ModelInfer(request, metadata=KEYED)
    assert [output.name for output in answer.outputs] == ["label", "probabilities", "echo"]
    assert answer.raw_output_contents[0] == b"\3\0\0\0yes\2\0\0\0no"
    assert _value(answer, 1) == [0.25, 0.75, 0.75, 0.25]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda r: r.inputs[0].shape.__setitem__(0, 2), "Input 'input' of model 'sum': FP32 of the shape [2, 3] is 24 bytes, got 12."),
        (lambda r: r.inputs[0].shape.__setitem__(0, -1), "Input 'input' of model 'sum': the shape [-1, 3] has a size below 0."),
        (lambda r: r.inputs[0].shape.__setitem__(0, 0), "input 'input' for model 'sum' has no rows. Send at least one."),
        (lambda r: setattr(r.inputs[0], "name", "x"), "unexpected inference input 'x' for model 'sum'. Its inputs are ['input']."),
        (lambda r: setattr(r.inputs[0], "datatype", "BF16"), "inference input 'input' data-type is 'BF16', but model 'sum' expects 'FP32'"),
        (lambda r: r.raw_input_contents.append(b""), "raw_input_contents has 2 tensors for 1 inputs of model 'sum'. Send one for each, in their order."),
        (
            lambda r: r.inputs[0].contents.fp32_contents.append(1),
            "Input 'input' of model 'sum' has contents beside raw_input_contents. Send all tensors in one of the two ways.",
        ),
        (lambda r: r.ClearField("raw_input_contents"), "Input 'input' of model 'sum': the shape [1, 3] has 3 values, fp32_contents has 0."),
        (lambda r: r.outputs.add(name="y"), "unexpected inference output 'y' for model 'sum'. Its outputs are ['prediction']."),
        (lambda r: r.ClearField("inputs"), "raw_input_contents has 1 tensors for 0 inputs of model 'sum'. Send one for each, in their order."),
    ],
)
def test_a_wrong_message_is_refused_by_name(stub: Any, change: Any, text: str) -> None:
    request = _request([[1, 2, 3]])
    change(request)
    assert _refusal(stub.ModelInfer, request) == (Code.INVALID_ARGUMENT, text)


def test_what_is_missing_is_filled_in_by_the_policy(stub: Any) -> None:
    assert _value(stub.ModelInfer(_request([[1, np.nan, 0], [1, 2, 0]], name="filled-matrix"), metadata=KEYED)) == [51.0, 21.0]
    code, text = _refusal(stub.ModelInfer, _request([[1, 2, np.nan]], name="filled-matrix"))
    assert (code, "feature 'c': nan is refused: a number is missing" in text) == (Code.INVALID_ARGUMENT, True)


def test_a_typed_value_that_does_not_fit_its_type_is_refused(stub: Any) -> None:
    request = _typed_echo()
    tensor = next(each for each in request.inputs if each.datatype == "INT8")
    tensor.contents.int_contents[0] = 1000
    code, text = _refusal(stub.ModelInfer, request)
    assert (code, "Input 'in_INT8' of model 'echo': a value does not fit INT8" in text) == (Code.INVALID_ARGUMENT, True)


def test_keys_endpoints_and_versions_are_refused_as_over_http(stub: Any) -> None:
    request = _request([[1, 2, 3]])
    assert _refusal(stub.ModelInfer, request, None)[0] == Code.UNAUTHENTICATED
    assert _refusal(stub.ModelInfer, request, (("authorization", f"Bearer {EXPIRED}"),))[0] == Code.UNAUTHENTICATED
    assert _refusal(stub.ModelInfer, request, (("x-api-key", ELSEWHERE),))[0] == Code.PERMISSION_DENIED
    assert _refusal(stub.ModelInfer, request, (("x-api-key", READER),))[0] == Code.PERMISSION_DENIED
    assert _refusal(stub.ModelInfer, _request([[1, 2, 3]], name="nix")) == (Code.NOT_FOUND, "Request for unknown model: 'nix' is not found")
    assert _refusal(stub.ModelInfer, _request([[1, 2, 3]], model_version="9"))[0] == Code.NOT_FOUND
    code, text = _refusal(stub.ModelInfer, _request([[1, 2, 3]], name="empty"))
    assert (code, text) == (Code.UNAVAILABLE, "The endpoint 'empty' has no slot with traffic. Deploy a model, or give a slot a share of the split.")
    assert _refusal(stub.ModelInfer, _request(np.zeros((51, 3))))[0] == Code.RESOURCE_EXHAUSTED


def test_a_message_over_the_endpoints_limit_is_refused_and_the_connection_lives(stub: Any) -> None:
    code, text = _refusal(stub.ModelInfer, _request(np.zeros((9000, 3))))
    assert (code, "'sum' takes at most 100000" in text) == (Code.RESOURCE_EXHAUSTED, True)
    assert _value(stub.ModelInfer(_request([[1, 2, 3]]), metadata=KEYED)) == [321]


def test_a_packed_bomb_is_refused_before_it_is_unpacked_as_a_whole(standing_grpc: GrpcPlane) -> None:
    assert standing_grpc.process is not None
    before = _peak_bytes(standing_grpc.process.pid)
    with grpc.insecure_channel(standing_grpc.url) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for window in (31, 15):  # gzip, deflate: as gRPC's own clients pack
            packer = zlib.compressobj(9, zlib.DEFLATED, window)
            bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(32)) + packer.flush()
            assert len(bomb) < MESSAGE_BYTES // 8
            assert _refusal(infer, bomb, None)[0] == Code.UNAUTHENTICATED
            code, text = _refusal(infer, bomb)
            assert (code, f"over {MESSAGE_BYTES} bytes when unpacked" in text) == (Code.RESOURCE_EXHAUSTED, True)
        assert _peak_bytes(standing_grpc.process.pid) - before < 2**27  # of 2**29
        request = _request([[1, 2, 3]]).SerializeToString()
        assert _value(pb.ModelInferResponse.FromString(infer(zlib.compress(request), metadata=KEYED))) == [321]
        assert _refusal(infer, zlib.compress(request)[:-4]) == (Code.INVALID_ARGUMENT, "The body is not valid deflate: it is cut off.")


def test_a_keys_limit_of_a_message_holds_before_it_is_parsed_and_unpacked(stub: Any, standing_grpc: GrpcPlane) -> None:
    own = (("x-api-key", MEDIUM),)
    code, text = _refusal(stub.ModelInfer, _request(np.zeros((7000, 3))), own)
    expected = f"The body is too large: the API key {MEDIUM.split('_')[1]} may send at most 80000 bytes. Send fewer rows at once."
    assert (code, text) == (Code.RESOURCE_EXHAUSTED, expected)
    (answer,) = stub.ModelStreamInfer(iter([_request(np.zeros((7000, 3)))]), metadata=own)
    assert answer.error_message == expected
    assert _refusal(stub.ModelInfer, _request(np.zeros((400, 3))), (("x-api-key", SMALL),))[1].startswith("The body is too large: the API key")
    assert _value(stub.ModelInfer(_request([[1, 2, 3]]), metadata=own)) == [321]
    with grpc.insecure_channel(standing_grpc.url) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        code, text = _refusal(infer, zlib.compress(_request(np.zeros((7000, 3))).SerializeToString()), own)
    assert (code, f"80000 bytes when unpacked, the API key {MEDIUM.split('_')[1]}'s limit" in text) == (Code.RESOURCE_EXHAUSTED, True)
    code, text = _refusal(stub.ModelInfer, _request([[1]], name="slow"), (("x-api-key", HASTY),))
    assert (code, f"raise the API key {HASTY.split('_')[1]}'s timeout" in text) == (Code.DEADLINE_EXCEEDED, True)


def _peak_bytes(pid: int) -> int:
    return next(int(line.split()[1]) * 1024 for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))


def test_the_shorter_deadline_counts(stub: Any) -> None:
    request = _request([[1]], name="slow")
    assert _refusal(stub.ModelInfer, request, timeout=0.02)[0] == Code.DEADLINE_EXCEEDED
    request.parameters["timeout"].int64_param = 1000
    assert _refusal(stub.ModelInfer, request)[0] == Code.DEADLINE_EXCEEDED


def test_a_sticky_key_is_taken_from_metadata_and_from_a_parameter(stub: Any) -> None:
    slots = set()
    for number in range(40):
        by_metadata = stub.ModelInfer(_request([[1, 2, 3]], name="split"), metadata=(*KEYED, ("signalbox-sticky-key", f"k{number}")))
        request = _request([[1, 2, 3]], name="split")
        request.parameters["sticky_key"].string_param = f"k{number}"
        by_parameter = stub.ModelInfer(request, metadata=KEYED)
        assert by_metadata.parameters["slot"] == by_parameter.parameters["slot"]
        slots.add(by_metadata.parameters["slot"].string_param)
    assert slots == {"blue", "green"}


def test_an_endpoint_that_sticks_to_a_feature_does_so_here_too(stub: Any, standing_grpc: GrpcPlane) -> None:
    slots = [stub.ModelInfer(_request([[number % 4, 0, 0]], name="by-feature"), metadata=KEYED).parameters["slot"].string_param for number in range(40)]
    assert all(slots[number] == slots[number % 4] for number in range(40))


def test_errors_are_counted_by_their_reason(standing_grpc: GrpcPlane, stub: Any) -> None:
    def counted(reason: str) -> float:
        page = gather(Environment(var_dir=standing_grpc.var_dir).run_dir, ["grpc"], "")[1].decode()
        return value_of(page, "signalbox_refused_requests_total", endpoint="", reason=reason)

    reasons = ["not_found", "not_signed_in", "unsupported"]
    before = [counted(reason) for reason in reasons]
    _refusal(stub.ModelMetadata, pb.ModelMetadataRequest(name="nix"))
    _refusal(stub.ModelInfer, _request([[1, 2, 3]]), metadata=())
    _refusal(stub.CudaSharedMemoryRegister, pb.CudaSharedMemoryRegisterRequest())
    assert [counted(reason) for reason in reasons] == [count + 1 for count in before]


def test_bytes_that_are_no_message_are_refused(standing_grpc: GrpcPlane) -> None:
    with grpc.insecure_channel(standing_grpc.url) as channel:
        for name in ("ModelInfer", "ModelReady"):
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
            code, text = _refusal(call, b"\xff\xff\xff")
            assert (code, text) == (Code.INVALID_ARGUMENT, f"The message is no {name}Request.")
        assert _refusal(channel.unary_unary("/inference.GRPCInferenceService/Nothing"), b"")[0] == Code.UNIMPLEMENTED


def test_the_standard_health_check_answers(standing_grpc: GrpcPlane) -> None:
    with grpc.insecure_channel(standing_grpc.url) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "inference.GRPCInferenceService"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
        assert _refusal(stub.Check, health_pb2.HealthCheckRequest(service="nix"))[0] == Code.NOT_FOUND


def test_health_is_watched_by_a_bounded_number_of_calls(standing_grpc: GrpcPlane) -> None:
    with grpc.insecure_channel(standing_grpc.url) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watching = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(MOST_WATCHERS)]
        assert {next(each).status for each in watching} == {health_pb2.HealthCheckResponse.SERVING}
        assert _refusal(lambda request, **_: next(stub.Watch(request)), health_pb2.HealthCheckRequest())[0] == Code.RESOURCE_EXHAUSTED
        watching.pop().cancel()
        wait_for(lambda: _is_watched(stub), "room for a watcher")


def _is_watched(stub: Any) -> bool:
    try:
        return bool(next(stub.Watch(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING)
    except grpc.RpcError:
        return False


def test_who_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    plane = GrpcPlane(tmp_path, NO_DATABASE)
    build = regressor(plane.artifacts)
    plane.keep(table([build], [endpoint("sum", build, limits=Limits(requests_per_s=0.1, burst=1))]))
    try:
        plane.start()
        with grpc.insecure_channel(plane.url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert _value(stub.ModelInfer(_request([[1, 2, 3]]), metadata=KEYED)) == [321]
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(_request([[1, 2, 3]]), metadata=KEYED)
    finally:
        plane.end()
    error: Any = refused.value
    assert error.code() == Code.RESOURCE_EXHAUSTED
    assert dict(error.trailing_metadata())["retry-after"] in ("9", "10")


@pytest.mark.django_db
def test_what_is_answered_is_logged_once_under_its_prediction_id(tmp_path: Path, log: Log) -> None:
    plane = GrpcPlane(tmp_path, log.url)
    build = regressor(plane.artifacts)
    log.publish(table([build], [endpoint("sum", build, log_policy="durable")]))
    try:
        plane.start()
        with grpc.insecure_channel(plane.url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answer = stub.ModelInfer(_request([[1, 2, 3]], id="r1"), metadata=KEYED)
        assert wait_for(lambda: log.run("SELECT kind, ready FROM serving_dataplaneprocess"), "a heartbeat") == [("grpc", True)]
        assert plane.stop() == 0
    finally:
        _kill(plane)
    (record,) = log.records("sum")
    assert (record["request_id"], record["slot"]) == ("r1", "blue")
    assert record["prediction_id"].hex() == answer.parameters["prediction_id"].string_param.replace("-", "")


def _kill(plane: Plane) -> None:
    if plane.process is not None and plane.process.poll() is None:
        plane.stop(9)


def test_no_request_is_lost_when_the_process_is_asked_to_end(tmp_path: Path) -> None:
    plane = GrpcPlane(tmp_path, NO_DATABASE)
    one, heavy = regressor(plane.artifacts), slow(plane.artifacts)
    plane.keep(table([one, heavy], [endpoint("sum", one), endpoint("slow", heavy)]))
    answered: list[float] = []
    refused: list[tuple[grpc.StatusCode, str]] = []
    try:
        plane.start()
        with grpc.insecure_channel(plane.url) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(health).status == health_pb2.HealthCheckResponse.SERVING

            def ask() -> None:
                while not refused:
                    try:
                        answered.extend(_value(stub.ModelInfer(_request([[1, 2, 3]]), metadata=KEYED)))
                    except grpc.RpcError as error:
                        status: Any = error
                        refused.append((status.code(), status.details()))

            asker = threading.Thread(target=ask)
            asker.start()
            begun = stub.ModelInfer.future(_request([[1]], name="slow"), metadata=KEYED)
            stream = stub.ModelStreamInfer(_idle_after(_request([[1, 2, 3]])), metadata=KEYED)
            assert _value(next(stream).infer_response) == [321]
            assert plane.process is not None
            plane.process.terminate()
            assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert _value(begun.result()) == [2]
            with pytest.raises(grpc.RpcError, match="shutting down"):
                next(stream)
            assert plane.process.wait(20) == 0
            asker.join(20)
            assert [each.status for each in health] == []
    finally:
        _kill(plane)
    assert set(answered) == {321}
    # Only what came when the process took no more was refused, and so that the caller may send it again.
    assert {code for code, _ in refused} == {Code.UNAVAILABLE}


def _idle_after(request: Any) -> Iterator[Any]:
    yield request
    time.sleep(30)


def test_a_process_is_replaced_under_load_without_a_lost_call(tmp_path: Path) -> None:
    """With clients that keep their connection, one that opens a new one for each call, and one whose messages fill every buffer."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        old, new = GrpcPlane(tmp_path, NO_DATABASE, sock=sock), GrpcPlane(tmp_path, NO_DATABASE, sock=sock)
        build = regressor(old.artifacts)
        old.keep(table([build], [endpoint("sum", build, limits=Limits(max_rows=100_000, max_body_bytes=8 * 2**20))]))
        try:
            old.start()
            with _Askers(old.url) as askers:
                askers.wait_for(20)
                new.start()
                wait_for(lambda: new.log_text().count("Answering over gRPC") == 2, "the successor")
                assert old.stop() == 0
                askers.wait_for(20)
        finally:
            _kill(old)
            _kill(new)
    assert askers.failures == []


class _Askers:
    """Three clients, unmodified, until the end of the block."""

    def __init__(self, url: str) -> None:
        self.failures: list[str] = []
        self._url, self._counts, self._stop = url, [0, 0, 0], threading.Event()
        large = np.ones((60_000, 3), np.float32)
        self._threads = [
            threading.Thread(target=self._ask, args=(0, [[1, 2, 3]], 321, 10**9)),
            threading.Thread(target=self._ask, args=(1, [[1, 2, 3]], 321, 1)),
            threading.Thread(target=self._ask, args=(2, large, 111, 10**9)),
        ]

    def __enter__(self) -> _Askers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(40)

    def wait_for(self, more: int) -> None:
        """Return when each has had so many answers from now on."""
        wanted = [count + more for count in self._counts]
        wait_for(lambda: all(count >= least for count, least in zip(self._counts, wanted, strict=True)), f"{wanted} answers", timeout_s=60)

    def _ask(self, number: int, values: Any, answer: float, calls_of_a_connection: int) -> None:
        while not self._stop.is_set():
            with grpc.insecure_channel(self._url, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]) as channel:
                infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
                for _ in range(calls_of_a_connection):
                    try:
                        found = _value(infer(_request(values), metadata=KEYED, timeout=30))
                    except grpc.RpcError as error:
                        self.failures.append(str(error))
                    else:
                        assert set(found) == {answer}
                        self._counts[number] += 1
                    if self._stop.is_set():
                        break


_FRAMES = st.lists(st.tuples(st.sampled_from([(0x0, 0x1), (0x1, 0x4), (0x1, 0x0), (0x9, 0x0), (0x9, 0x4), (0x4, 0x0)]), st.binary(max_size=40)), max_size=12)


@given(_FRAMES, st.lists(st.integers(1, 30)))
def test_the_places_between_two_frames_are_found_however_the_bytes_come(frames: list[Any], sizes: list[int]) -> None:
    data, whole = b"", []
    for (kind, flags), payload in [((0x4, 0x0), b""), *frames]:
        data += len(payload).to_bytes(3, "big") + bytes([kind, flags, 0, 0, 0, 1]) + payload
        if kind not in (0x1, 0x9) or flags & 0x4:
            whole.append(len(data))
    followed, at = Frames(), 0
    assert not followed.are_whole
    for size in [*sizes, len(data)]:
        part = data[at : at + size]
        last = max((place for place in whole if at < place <= at + len(part)), default=at)
        assert followed.follow(part) == last - at
        at += len(part)
        assert followed.are_whole == (at in whole)
    assert followed.has_answer == any(kind == 0x1 for (kind, _), _ in frames)


def test_the_generated_code_is_what_the_description_gives(tmp_path: Path) -> None:
    folder = "serving/dataplane/grpc"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", f"{folder}/inference.proto"]
    subprocess.run(command, cwd=ROOT, check=True)
    for name in ("inference_pb2.py", "inference_pb2.pyi"):
        assert (tmp_path / folder / name).read_text() == (ROOT / folder / name).read_text()
