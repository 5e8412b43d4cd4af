"""A bounded load on one endpoint, with a ledger of every answer on the client's side."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from tests.journeys.wire import Wire, until


@dataclass(frozen=True)
class Answer:
    """One answered request: when it was sent and answered (epoch seconds), and what the answer said of itself."""

    sent: float
    done: float
    status: int
    prediction_id: str
    version: str


@dataclass
class Load:
    """``threads`` clients asking the same row until told to stop, each over its own kept connection.

    A connection that is cut is a failure, unless it ``reconnects``: one that was open to a process
    that is killed on purpose is gone, and every client then tries once more, on a new one. Between
    two requests a client rests for ``pause_s``: processes that start meanwhile need the processor too.
    """

    url: str
    key: str
    endpoint: str
    row: dict[str, Any]
    reconnects: bool = False
    threads: int = 4
    pause_s: float = 0.005
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._running = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join(timeout=40)

    def wait_for(self, more: int, seconds: float = 60) -> None:
        """Return when ``more`` requests have been answered from now on."""
        wanted, end = len(self.answers) + more, time.monotonic() + seconds
        while len(self.answers) < wanted:
            assert time.monotonic() < end, f"{len(self.answers)} of {wanted} answers after {seconds} s; {self.failures[:3]}"
            time.sleep(0.02)

    def _ask(self) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {self.key}"}, timeout=30) as client:
            request = client.build_request("POST", f"{self.url}/v2/models/{self.endpoint}/predict", json={"rows": [self.row]})
            while not self._stop.wait(self.pause_s):
                sent = time.time()
                try:
                    answer = self._post(client, request)
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code} {answer.text[:200]}")
                    continue
                body = answer.json()
                self.answers.append(Answer(sent, time.time(), answer.status_code, body["prediction_id"], str(body["version"])))

    def _post(self, client: httpx.Client, request: httpx.Request) -> httpx.Response:
        try:
            return client.send(request)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if not self.reconnects:
                raise
            return client.send(request)


@dataclass
class GrpcLoad(Load):
    """The same over gRPC, by an unmodified tritonclient for each thread. ``tries``: so often is asked what a killed process took along."""

    threads: int = 2
    tries: int = 1

    def _ask(self) -> None:
        with triton.InferenceServerClient(self.url, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as client:
            headers = {"authorization": f"Bearer {self.key}"}
            inputs = _tensors(client.get_model_metadata(self.endpoint, headers=headers).inputs, self.row)
            while not self._stop.wait(self.pause_s):
                sent = time.time()
                try:
                    answer = self._infer(client, inputs, headers).get_response()
                except InferenceServerException as error:
                    self.failures.append(str(error))
                    continue
                self.answers.append(Answer(sent, time.time(), 200, answer.parameters["prediction_id"].string_param, answer.model_version))

    def _infer(self, client: Any, inputs: list[Any], headers: dict[str, str]) -> Any:
        for _ in range(self.tries - 1):
            try:
                return client.infer(self.endpoint, inputs, headers=headers, client_timeout=30)
            except InferenceServerException as error:
                if error.status() != "StatusCode.UNAVAILABLE":
                    raise
                time.sleep(0.05)  # the client may not have noticed yet that the connection is gone
        return client.infer(self.endpoint, inputs, headers=headers, client_timeout=30)


def _tensors(inputs: Any, row: dict[str, Any]) -> list[Any]:
    """The row as the tensors of its model, one for each column."""
    tensors = []
    for each in inputs:
        value = np.nan if row[each.name] is None else row[each.name]
        tensor = triton.InferInput(each.name, [1, 1], each.datatype)
        tensor.set_data_from_numpy(np.array([[value]], triton_to_np_dtype(each.datatype)))
        tensors.append(tensor)
    return tensors


def assert_all_logged(wire: Wire, load: Load) -> None:
    """Every answer that the client holds is in the log, once the spools have been drained."""
    until(partial(has_drained, wire, datetime.now(UTC)), 240)
    missing = without_logged(wire, load.endpoint, {answer.prediction_id for answer in load.answers}, load.answers[0].sent)
    if missing:  # a write that has hung is given up after two seconds and is in no spool before; a process tells meanwhile how it is
        time.sleep(5)
        missing = without_logged(wire, load.endpoint, missing, load.answers[0].sent)
    assert missing == set(), f"{len(missing)} of {len(load.answers)}"


def has_drained(wire: Wire, since: datetime) -> bool:
    """Tell whether every process has said since then that it lives and has nothing left in its spool."""
    living = [process for process in wire.call("GET", "system/")["processes"] if not process["stale"]]
    return bool(living) and all(datetime.fromisoformat(each["seen_at"]) > since and not each["spooled_segments"] for each in living)


def without_logged(wire: Wire, endpoint: str, missing: set[str], since: float) -> set[str]:
    """Give what is left of ``missing`` when the log has been read, newest first, back to ``since``."""
    params: dict[str, Any] = {"limit": 200, "since": datetime.fromtimestamp(since - 1, UTC).isoformat()}
    while missing:
        page = wire.call("GET", f"endpoints/{endpoint}/predictions/", params=params)
        missing -= {row["id"] for row in page["results"]}
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    return missing
