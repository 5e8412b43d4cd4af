"""Signalbox and the floor: the route table that the console would publish, and the data plane's processes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psycopg

from access.key_format import generate, secret_digest, text_of
from benchmarks.serve.load import Case, Request
from benchmarks.serve.models import BenchModel
from benchmarks.serve.processes import PROCESSES, ROOT, spawn_sharing
from core.digests import artifact_path, digest_of
from core.embedded import child, postgres
from registry.signature import Signature
from serving import table as route_table
from serving.table import BuildEntry, CachePolicy, EndpointEntry, KeyEntry, RouteTable, SlotEntry

KEY = generate()
KEY_ENTRY = KeyEntry(id=KEY.id, secret_digest=secret_digest(KEY.secret), name="bench", scopes=("predict",))
HEADERS = {"Authorization": f"Bearer {text_of(KEY)}", "Content-Type": "application/json"}
DURABLE, UNLOGGED = "-durable", "-unlogged"
CACHED = "-cached"
"""What the names of the endpoints with a log policy of their own end with."""


@dataclass(frozen=True, slots=True)
class Home:
    """A scratch folder with a database for the data plane."""

    folder: Path
    url: str

    @property
    def environ(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url, "SIGNALBOX_VAR_DIR": str(self.folder)}


@contextmanager
def home(folder: Path) -> Iterator[Home]:
    """Start the embedded PostgreSQL with the product's tables, and stop it at the end."""
    server = postgres.start(var_dir=folder, run_dir=folder / "run")
    try:
        made = Home(folder, f"postgresql://signalbox@/signalbox?host={folder}/run")
        with (folder / "migrate.log").open("ab") as log:
            environ = os.environ | made.environ
            if child.start([sys.executable, "manage.py", "migrate", "-v0", "--skip-checks"], output=log, environ=environ, cwd=ROOT).wait():
                raise SystemExit(f"The migrations failed: see {log.name}.")
        yield made
    finally:
        server.stop()


def publish(place: Home, models: Sequence[BenchModel], policy: str) -> None:
    """Store the builds, and publish their table."""
    for model in models:
        store(place, model.onnx, model.name, 1, model.signature)
    publish_table(place, table_of(models, policy))


def store(place: Home, content: bytes, model: str, version: int, signature: Signature) -> BuildEntry:
    """Put a build where the artifact store would, and give its entry."""
    digest = digest_of(content)
    path = artifact_path(place.folder / "artifacts", digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return BuildEntry(digest=digest, kind="onnx", size_bytes=len(content), model=model, version=version, signature=signature)


def publish_table(place: Home, table: RouteTable) -> None:
    """Publish as the console does: a new row and a hint."""
    with psycopg.connect(place.url) as connection:
        connection.execute("INSERT INTO serving_publishedtable (document, published_at) VALUES (%s, now())", [route_table.encode(table)])
        connection.execute(f"NOTIFY {route_table.CHANNEL}")


def table_of(models: Sequence[BenchModel], policy: str) -> RouteTable:
    """Put every model behind an endpoint of its name, a durable one, one without a log, and one with an answer cache."""
    endpoints: list[EndpointEntry] = []
    builds: list[BuildEntry] = []
    for model in models:
        digest = digest_of(model.onnx)
        builds.append(BuildEntry(digest=digest, kind="onnx", size_bytes=len(model.onnx), model=model.name, version=1, signature=model.signature))
        slot = SlotEntry(name="blue", build_digest=digest, model=model.name, version=1, weight=100, live=True)
        for name, log_policy in ((model.name, policy), (model.name + DURABLE, "durable"), (model.name + UNLOGGED, "off")):
            endpoints.append(EndpointEntry(id=name, name=name, revision=1, slots=(slot,), log_policy=log_policy))
        name = model.name + CACHED
        endpoints.append(EndpointEntry(id=name, name=name, revision=1, slots=(slot,), log_policy=policy, cache=CachePolicy(ttl_s=3600)))
    return RouteTable(revision=1, published_at=time.time(), endpoints=tuple(endpoints), builds=tuple(builds), keys=(KEY_ENTRY,))


def tensor_json(model: BenchModel) -> bytes:
    """Give the protocol's request of one row."""
    return json.dumps({"inputs": [{"name": "X", "shape": [1, len(model.row)], "datatype": "FP32", "data": model.row}]}).encode()


def last_tensor(response: httpx.Response) -> list[float]:
    """Read the last output of the protocol's answer: the probabilities, or the value."""
    values: list[float] = response.json()["outputs"][-1]["data"]
    return values


def _binary(model: BenchModel) -> Request:
    data = np.array(model.row, "<f4").tobytes()
    tensor = {"name": "X", "shape": [1, len(model.row)], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    width = 4 * len(model.expected)
    headers = HEADERS | {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Request(f"/v2/models/{model.name}/infer", head + data, headers, lambda response: np.frombuffer(response.content[-width:], "<f4").tolist())


class Ours:
    """The floor and the data plane, with and without its short way; they run as long as the benchmark."""

    def __init__(self, place: Home) -> None:
        command = [sys.executable, "-m", "serving.dataplane"]
        self.floor = spawn_sharing("floor", [sys.executable, ROOT / "benchmarks" / "floor.py"], folder=place.folder, changes={})
        self.box = spawn_sharing("Signalbox", [*command, "--fd"], folder=place.folder, changes=place.environ)
        self.plain = spawn_sharing("Signalbox, plain ASGI", [*command, "--plain-asgi", "--fd"], folder=place.folder, changes=place.environ)

    def memory_before_mb(self) -> float:
        """Give what a process of the data plane has before its first route table; call it before ``publish``."""
        while self.box.is_running:
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{self.box.port}/v2/health/live").status_code == 200:
                    break
            time.sleep(0.2)
        time.sleep(2)  # all its threads have begun
        return self.box.memory_mb()[0] / PROCESSES

    def stop(self) -> None:
        for server in (self.floor, self.box, self.plain):
            server.stop()

    def floor_case(self, model: BenchModel) -> Case:
        return Case("floor", self.floor, Request("/", tensor_json(model), HEADERS, lambda _: []))

    def case(self, model: BenchModel) -> Case:
        return Case("Signalbox", self.box, self._json(model.name, model))

    def variants(self, model: BenchModel, *, every: bool) -> list[Case]:
        """Give the other ways of asking Signalbox for the same: a hit of the answer cache, and with ``every`` the rest."""
        hit = Case("Signalbox, cache hit", self.box, self._json(model.name + CACHED, model))
        if not every:
            return [hit]
        return [
            hit,
            Case("Signalbox, `durable` log", self.box, self._json(model.name + DURABLE, model)),
            Case("Signalbox, binary tensors", self.box, _binary(model)),
            Case("Signalbox, `--plain-asgi`", self.plain, self._json(model.name, model)),
        ]

    @staticmethod
    def _json(endpoint: str, model: BenchModel) -> Request:
        return Request(f"/v2/models/{endpoint}/infer", tensor_json(model), HEADERS, last_tensor)
