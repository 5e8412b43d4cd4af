"""Request ids, the access log and traces of the data plane, from real processes to a real receiver."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from core import access_log
from core.access_log import AccessLog, Entry
from core.environment import ROOT
from serving.table import ValidationPolicy
from tests.dataplane import models
from tests.dataplane.conftest import HEADERS, KEY, KEY_ENTRY, NO_DATABASE, Log, Plane, endpoint, table, wait_for
from tests.dataplane.grpc_plane import GrpcPlane
from tests.dataplane.standing import key
from tests.metrics_page import value_of
from tests.otlp import Receiver, Span

ROWS: dict[str, Any] = {"rows": [{"a": 1, "b": 2, "c": 3}]}
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def _ask(plane: Plane, name: str = "sum", body: Any = None, **headers: str) -> httpx.Response:
    return plane.client.post(f"/v2/models/{name}/predict", json=body or ROWS, headers=headers)


def _keep_table(plane: Plane, **settings: Any) -> None:
    build = models.regressor(plane.artifacts)
    plane.keep(table([build], [endpoint("sum", build, **settings)], keys=(KEY_ENTRY,)))


def _lines(plane: Plane, count: int) -> list[dict[str, Any]]:
    """Wait for so many lines of the process's access log, health left out, and give them all."""
    file = plane.var_dir / "log" / "access.jsonl"

    def found() -> list[dict[str, Any]] | None:
        kept = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        kept = [line for line in kept if not line["path"].startswith("/v2/health")]
        return kept if len(kept) >= count else None

    told: list[dict[str, Any]] = wait_for(found, f"{count} lines")
    return told


class TestRequestIds:
    def test_gives_back_the_callers_id(self, standing: Plane) -> None:
        answer = _ask(standing, **{"X-Request-Id": "order-7"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (200, "order-7")
        assert "id" not in answer.json()

    def test_an_answer_without_one_has_the_predictions_id_alone(self, standing: Plane) -> None:
        answer = _ask(standing)
        assert "x-request-id" not in answer.headers
        assert len(answer.headers["signalbox-prediction-id"]) == 36

    @pytest.mark.parametrize(("name", "status"), [("sum", 400), ("nowhere", 404)])
    def test_every_error_has_one(self, standing: Plane, name: str, status: int) -> None:
        wrong: dict[str, Any] = {"rows": [{"a": "x"}]}
        given = _ask(standing, name, wrong, **{"X-Request-Id": "order-8"})
        own = _ask(standing, name, wrong)
        assert (given.status_code, given.headers["x-request-id"]) == (status, "order-8")
        assert (own.status_code, len(own.headers["x-request-id"])) == (status, 36)

    def test_every_error_of_the_other_calls_has_one(self, standing: Plane) -> None:
        assert standing.client.get("/v2/nowhere", headers={"X-Request-Id": "order-9"}).headers["x-request-id"] == "order-9"
        assert len(standing.client.get("/v2/nowhere").headers["x-request-id"]) == 36

    @pytest.mark.parametrize("given", ["x" * 129, "two words", '"quoted"', "<b>"])
    def test_an_id_that_cannot_stand_in_a_log_is_not_taken(self, standing: Plane, given: str) -> None:
        assert "x-request-id" not in _ask(standing, **{"X-Request-Id": given}).headers

    @pytest.mark.django_db
    def test_stands_in_the_prediction_log_unless_the_body_has_one(self, plane_with_log: Plane, log: Log) -> None:
        build = models.regressor(plane_with_log.artifacts)
        log.publish(table([build], [endpoint("sum", build)]))
        plane_with_log.start()
        wait_for(lambda: _ask(plane_with_log, **{"X-Request-Id": "from-head"}).status_code == 200, "an answer")
        _ask(plane_with_log, body=ROWS | {"id": "from-body"}, **{"X-Request-Id": "not-this"})
        records = wait_for(lambda: found if len(found := log.records("sum")) == 2 else None, "both records")
        assert {record["request_id"] for record in records} == {"from-head", "from-body"}


class TestAccessLog:
    @pytest.fixture
    def lines(self, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Give what reads the lines of a process that writes them."""
        monkeypatch.setenv("SIGNALBOX_ACCESS_LOG", "file")
        _keep_table(plane, validation=ValidationPolicy(default="clip"))
        plane.start()
        return partial(_lines, plane)

    def test_has_one_line_per_request_with_what_is_needed_to_find_it(self, plane: Plane, lines: Any) -> None:
        assert plane.process is not None
        answer = _ask(plane, body={"rows": [{"a": 1e9, "b": 2, "c": 3}]}, **{"X-Request-Id": "order-7"})
        (line,) = lines(1)
        assert line.pop("time").endswith("+00:00")
        assert 0 < line.pop("latency_us") < 10_000_000
        assert line == {
            "process": "dataplane",
            "pid": plane.process.pid,
            "status": 200,
            "bytes_in": int(answer.request.headers["content-length"]),
            "bytes_out": len(answer.content),
            "request_id": "order-7",
            "method": "POST",
            "path": "/v2/models/sum/predict",
            "actor": KEY_ENTRY.id,
            "endpoint": "sum",
            "slot": "blue",
            "version": "1",
            "rows": 1,
            "prediction_id": answer.headers["signalbox-prediction-id"],
            "flags": ["clipped", "out_of_bounds"],
        }

    def test_has_refusals_and_other_calls_and_no_secret_and_no_value(self, plane: Plane, lines: Any) -> None:
        _ask(plane, "nowhere")
        refused = _ask(plane, body={"rows": [{"a": "secret-value"}]})
        plane.client.get("/v2/models/sum")
        plane.client.post("/v2/models/sum/versions/9/predict", json=ROWS)
        found = lines(4)
        assert [(line["status"], line["method"], line["path"]) for line in found] == [
            (404, "POST", "/v2/models/nowhere/predict"),
            (400, "POST", "/v2/models/sum/predict"),
            (200, "GET", "/v2/models/sum"),
            (404, "POST", "/v2/models/sum/versions/9/predict"),
        ]
        assert found[1]["prediction_id"] == refused.headers["x-request-id"]
        text = (plane.var_dir / "log" / "access.jsonl").read_text()
        assert "secret-value" not in text
        assert KEY not in text
        assert KEY.split("_")[2] not in text

    def test_is_written_to_the_end_when_the_process_is_asked_to_stop(self, plane: Plane, lines: Any) -> None:
        for _ in range(20):
            _ask(plane)
        assert plane.stop(signal.SIGTERM) == 0
        assert len(lines(20)) == 20

    def test_is_off_without_the_setting(self, plane: Plane) -> None:
        _keep_table(plane)
        plane.start()
        assert _ask(plane).status_code == 200
        assert plane.stop() == 0
        assert not (plane.var_dir / "log").exists()

    def test_keeps_files_of_bounded_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access_log, "LIMIT_BYTES", 2000)
        for _ in range(60):
            log = AccessLog("test", tmp_path / access_log.NAME)
            for _ in range(5):
                log.add(Entry(1, 200, 1, 1, 1, "id"))
            log.stop()
        names = sorted(path.name for path in tmp_path.glob("access.jsonl*") if not path.name.endswith("lock"))
        assert names in (["access.jsonl.1", "access.jsonl.2", "access.jsonl.3"], ["access.jsonl", "access.jsonl.1", "access.jsonl.2", "access.jsonl.3"])
        assert all(path.stat().st_size < 3000 for path in tmp_path.glob("access.jsonl*"))

    def test_drops_and_counts_what_comes_too_fast_or_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(access_log, "MOST_WAITING", 3)
        (tmp_path / "file").touch()
        log = AccessLog("test", tmp_path / "file" / access_log.NAME)
        for _ in range(5):
            log.add(Entry(1, 200, 1, 1, 1, "id"))
        assert log.dropped == 2
        log.stop()
        assert log.dropped == 5


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield receiver
    receiver.stop()


class TestTraces:
    def test_trace_a_prediction_through_to_the_log_under_the_callers_span(self, plane: Plane, receiver: Receiver) -> None:
        _keep_table(plane)
        plane.start()
        assert plane.process is not None
        answer = _ask(plane, traceparent=f"00-{TRACE}-{CALLER}-01", **{"X-Request-Id": "order-7"})
        spans = {span.name: span for span in receiver.wait_for(lambda spans: len(spans) >= 6)}
        assert set(spans) == {"POST /v2/models/{endpoint}/predict", "decode", "queue", "validate", "run", "log"}
        root = spans.pop("POST /v2/models/{endpoint}/predict")
        assert (root.trace, root.parent, root.kind, root.is_error) == (TRACE, CALLER, 2, False)
        assert root.attributes == {
            "http.request.method": "POST",
            "http.route": "/v2/models/{endpoint}/predict",
            "http.response.status_code": 200,
            "signalbox.endpoint": "sum",
            "signalbox.slot": "blue",
            "signalbox.model": "sum",
            "signalbox.version": "1",
            "signalbox.log": "fast",
            "signalbox.rows": 1,
            "signalbox.prediction_id": answer.headers["signalbox-prediction-id"],
            "signalbox.request_id": "order-7",
        }
        assert {(span.trace, span.parent) for span in spans.values()} == {(TRACE, root.id)}
        assert root.resource["service.name"] == "signalbox"
        assert root.resource["process.pid"] == plane.process.pid
        self._follow_one_another(root, [spans[name] for name in ("decode", "queue", "validate", "run", "log")])

    def _follow_one_another(self, root: Span, parts: list[Span]) -> None:
        assert (parts[0].start_ns, parts[-1].end_ns) == (root.start_ns, root.end_ns)
        for before, after in pairwise(parts):
            assert before.start_ns <= before.end_ns == after.start_ns

    def test_do_as_the_caller_has_decided_and_mark_errors_of_ours_alone(self, plane: Plane, receiver: Receiver) -> None:
        _keep_table(plane)
        plane.start()
        _ask(plane, traceparent=f"00-{TRACE}-{CALLER}-00")
        _ask(plane, body={"rows": [{"a": "x"}]})
        _ask(plane, traceparent="nonsense")
        spans = receiver.wait_for(lambda spans: len(spans) >= 8)
        assert {span.parent for span in spans if span.kind == 2} == {""}
        assert TRACE not in {span.trace for span in spans}
        refused = next(span for span in spans if span.attributes.get("http.response.status_code") == 400)
        assert [span.name for span in spans if span.parent == refused.id] == ["decode"]
        assert not refused.is_error

    def test_sample_by_the_standard_variables(self, plane: Plane, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
        _keep_table(plane)
        plane.start()
        for _ in range(20):
            _ask(plane)
        _ask(plane, traceparent=f"00-{TRACE}-{CALLER}-01")
        assert plane.stop() == 0
        assert {span.trace for span in receiver.spans} == {TRACE}

    def test_go_nowhere_and_load_nothing_unless_configured(self, plane: Plane, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
        _keep_table(plane)
        plane.start()
        assert plane.process is not None
        _ask(plane, traceparent=f"00-{TRACE}-{CALLER}-01")
        assert plane.stop() == 0
        assert receiver.requests == 0
        imports = "import sys, serving.dataplane.__main__; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
        assert subprocess.run([sys.executable, "-c", imports], cwd=ROOT, check=False).returncode == 0

    def test_a_receiver_that_is_away_costs_no_answer(self, plane: Plane, receiver: Receiver) -> None:
        receiver.stop()
        _keep_table(plane)
        plane.start()
        assert [_ask(plane).status_code for _ in range(20)] == [200] * 20
        page = httpx.get(f"{plane.url}/metrics", headers=HEADERS).text
        assert value_of(page, "signalbox_answered_requests_total", endpoint="sum") == 20
        assert value_of(page, "signalbox_dropped_traces_total") == 0


class TestGrpc:
    """The same of a gRPC process."""

    SERVICE = "inference.GRPCInferenceService"
    REQUEST = pb.ModelInferRequest(
        model_name="sum", inputs=[pb.ModelInferRequest.InferInputTensor(name="input", datatype="FP32", shape=[1, 3])], raw_input_contents=[bytes(12)]
    )
    KEYED = (("x-api-key", KEY),)

    @pytest.fixture
    def plane(self, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[GrpcPlane]:
        monkeypatch.setenv("SIGNALBOX_ACCESS_LOG", "file")
        plane = GrpcPlane(tmp_path, NO_DATABASE)
        _keep_table(plane)
        try:
            yield plane.start()
        finally:
            plane.end()

    @pytest.fixture
    def stub(self, plane: GrpcPlane) -> Iterator[Any]:
        with grpc.insecure_channel(plane.url) as channel:
            yield service_pb2_grpc.GRPCInferenceServiceStub(channel)

    def test_request_ids_lines_and_spans_are_those_of_the_call(self, plane: GrpcPlane, stub: Any, receiver: Receiver) -> None:
        assert plane.process is not None
        traced = (*self.KEYED, ("x-request-id", "order-7"), ("traceparent", f"00-{TRACE}-{CALLER}-01"))
        answer, call = stub.ModelInfer.with_call(self.REQUEST, metadata=traced)
        stub.ModelInfer(self.REQUEST, metadata=(*self.KEYED, ("traceparent", f"00-{TRACE}-{CALLER}-00")))  # the caller does not sample it
        assert dict(call.trailing_metadata())["x-request-id"] == "order-7"
        prediction_id = answer.parameters["prediction_id"].string_param
        line = _lines(plane, 2)[0]
        assert line.pop("time").endswith("+00:00")
        assert 0 < line.pop("latency_us") < 10_000_000
        assert line == {
            "process": "grpc",
            "pid": plane.process.pid,
            "status": 200,
            "bytes_in": self.REQUEST.ByteSize(),
            "bytes_out": answer.ByteSize(),
            "request_id": "order-7",
            "method": "POST",
            "path": f"/{self.SERVICE}/ModelInfer",
            "actor": KEY_ENTRY.id,
            "endpoint": "sum",
            "slot": "blue",
            "version": "1",
            "rows": 1,
            "prediction_id": prediction_id,
        }
        assert plane.stop() == 0
        spans = {span.name: span for span in receiver.spans}
        assert set(spans) == {f"{self.SERVICE}/ModelInfer", "decode", "queue", "validate", "run", "log"}
        assert len(receiver.spans) == 6
        root = spans.pop(f"{self.SERVICE}/ModelInfer")
        assert (root.trace, root.parent, root.kind, root.is_error) == (TRACE, CALLER, 2, False)
        assert root.attributes == {
            "rpc.system.name": "grpc",
            "rpc.method": f"{self.SERVICE}/ModelInfer",
            "rpc.response.status_code": "OK",
            "signalbox.endpoint": "sum",
            "signalbox.slot": "blue",
            "signalbox.model": "sum",
            "signalbox.version": "1",
            "signalbox.log": "fast",
            "signalbox.rows": 1,
            "signalbox.prediction_id": prediction_id,
            "signalbox.request_id": "order-7",
        }
        assert {(span.trace, span.parent) for span in spans.values()} == {(TRACE, root.id)}

    def test_every_call_and_every_refusal_is_told_of_under_its_own_name(self, plane: GrpcPlane, stub: Any, receiver: Receiver) -> None:
        raw = pb.ModelInferRequest(model_name="sum", raw_input_contents=[b"secret-value"])
        with grpc.insecure_channel(plane.url) as channel:
            garbled = channel.unary_unary(f"/{self.SERVICE}/ModelInfer")
            ids = [self._refused(garbled, b"\xff\xff\xff", self.KEYED), self._refused(stub.ModelInfer, raw, self.KEYED)]
        stub.ServerMetadata(pb.ServerMetadataRequest())
        ids.append(self._refused(stub.ModelMetadata, pb.ModelMetadataRequest(name="nix"), self.KEYED))
        ids.append(self._refused(stub.ModelMetadata, pb.ModelMetadataRequest(name="sum"), (("x-request-id", "order-8"),)))
        assert ids[-1] == "order-8"
        (answer,) = stub.ModelStreamInfer(iter([raw]), metadata=(*self.KEYED, ("x-request-id", "order-9")))
        assert answer.infer_response.parameters["x-request-id"].string_param == "order-9"
        ids.append(self._refused(lambda request, **more: list(stub.ModelStreamInfer(request, **more)), iter([raw]), ()))
        lines = _lines(plane, 7)
        assert [(line["status"], line["method"], line["path"].removeprefix(f"/{self.SERVICE}/")) for line in lines] == [
            (400, "POST", "ModelInfer"),
            (400, "POST", "ModelInfer"),
            (200, "POST", "ServerMetadata"),
            (404, "POST", "ModelMetadata"),
            (401, "POST", "ModelMetadata"),
            (400, "POST", "ModelStreamInfer"),
            (401, "POST", "ModelStreamInfer"),
        ]
        assert [line.get("request_id") or line.get("prediction_id") for line in lines] == [*ids[:2], None, *ids[2:4], "order-9", ids[4]]
        roots = receiver.wait_for(lambda spans: sum(span.kind == 2 for span in spans) == 3 and spans)
        found = sorted((span.name, span.attributes["rpc.response.status_code"], span.is_error) for span in roots if span.kind == 2)
        assert found == [(f"{self.SERVICE}/{name}", "INVALID_ARGUMENT", False) for name in ("ModelInfer", "ModelInfer", "ModelStreamInfer")]
        text = (plane.var_dir / "log" / "access.jsonl").read_text()
        assert "secret-value" not in text
        assert KEY.split("_")[2] not in text

    @staticmethod
    def _refused(call: Any, request: Any, metadata: Any) -> str:
        """Give the id of a call that is refused."""
        with pytest.raises(grpc.RpcError) as refused:
            call(request, metadata=metadata)
        error: Any = refused.value
        return str(dict(error.trailing_metadata())["x-request-id"])


def test_what_is_set_of_logs_and_traces_in_one_process_holds_in_all(plane: Plane, receiver: Receiver) -> None:
    build, (operator, entry) = models.regressor(plane.artifacts), key(scopes=("predict", "operate"))
    plane.keep(table([build], [endpoint("sum", build), endpoint("other", build)], keys=(KEY_ENTRY, entry)))
    plane.start()
    spoken = GrpcPlane(plane.var_dir, NO_DATABASE)
    headers = {"x-api-key": operator}
    rest, grpc_client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{plane.port}"), None
    try:
        spoken.start()
        grpc_client = tritonclient.grpc.InferenceServerClient(spoken.url)
        first = rest.get_trace_settings(headers=headers)
        assert (first["trace_level"], first["trace_rate"], first["trace_mode"]) == (["TIMESTAMPS"], "1", "opentelemetry")
        with pytest.raises(InferenceServerException, match="trace_level takes OFF or TIMESTAMPS: the values of rows are never traced"):
            rest.update_trace_settings("sum", {"trace_level": ["TENSORS"]}, headers=headers)
        rest.update_trace_settings("sum", {"trace_level": "OFF"}, headers=headers)
        rest.update_trace_settings(settings={"trace_rate": "999999999"}, headers=headers)
        assert grpc_client.get_trace_settings("sum", headers=headers).settings["trace_level"].value == ["OFF"]
        assert grpc_client.get_trace_settings("other", headers=headers).settings["trace_rate"].value == ["999999999"]
        grpc_client.update_log_settings({"log_info": False}, headers=headers)
        assert rest.get_log_settings(headers=headers)["log_info"] is False
        _ask(plane, traceparent=f"00-{TRACE}-{CALLER}-01")
        _ask(plane, "other")
        grpc_client.infer("sum", _ones(), headers=headers)
        grpc_client.infer("other", _ones(), headers=headers | {"traceparent": f"00-{TRACE}-{CALLER}-01"})
        grpc_client.update_trace_settings("sum", {"trace_level": None}, headers=headers)
        assert rest.get_trace_settings("sum", headers=headers)["trace_level"] == ["TIMESTAMPS"]
        assert spoken.stop() == plane.stop() == 0
    finally:
        rest.close()
        if grpc_client is not None:
            grpc_client.close()
        if spoken.process is not None:
            spoken.stop(signal.SIGKILL)
    # "sum" is off whatever its caller says; "other" is traced as its caller says, and else hardly ever.
    assert {(span.attributes["signalbox.endpoint"], span.trace) for span in receiver.spans if span.kind == 2} == {("other", TRACE)}
    assert "Draining." not in plane.log_text()


def _ones() -> list[Any]:
    tensor = tritonclient.grpc.InferInput("input", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.ones((1, 3), np.float32))
    return [tensor]
