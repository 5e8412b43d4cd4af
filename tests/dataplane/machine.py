"""Three processes on one machine that share its memory with their callers, and what is asked of them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from serving.table import CachePolicy
from tests.dataplane.conftest import KEY, NO_DATABASE, Plane, endpoint
from tests.dataplane.grpc_plane import GrpcPlane
from tests.dataplane.objects import SharedObject, shared_object
from tests.dataplane.standing import OPERATOR, SMALL, document

ROWS = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
SUMS = [[321], [654]]
Asker = tuple[Any, Any]
"""A module of tritonclient, and a client of it."""


@dataclass
class Machine:
    """Three processes that share a folder: REST in both ways, and gRPC."""

    own: Plane
    plain: Plane
    spoken: GrpcPlane

    def askers(self) -> list[Asker]:
        """Give one for each process."""
        http, rpc = tritonclient.http, tritonclient.grpc
        of_rest = [(http, http.InferenceServerClient(f"127.0.0.1:{plane.port}")) for plane in (self.own, self.plain)]
        return [*of_rest, (rpc, rpc.InferenceServerClient(self.spoken.url))]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    running = Machine(Plane(folder, NO_DATABASE), Plane(folder, NO_DATABASE, plain_asgi=True), GrpcPlane(folder, NO_DATABASE))
    published = document(running.own.artifacts)
    cached = endpoint("cached", published.builds[0], cache=CachePolicy(ttl_s=600))
    running.own.keep(msgspec.structs.replace(published, endpoints=(*published.endpoints, cached)))
    planes = (running.own, running.plain, running.spoken)
    try:
        for plane in planes:
            plane.start()
        yield running
        assert [plane.stop() for plane in planes] == [0, 0, 0], running.own.log_text()
    finally:
        for plane in (running.plain, running.spoken):
            if plane.process is not None:
                plane.stop(signal.SIGKILL)
        running.own.end()


@pytest.fixture(params=[0, 1, 2], ids=["own-protocol", "plain-asgi", "grpc"])
def asker(request: pytest.FixtureRequest, machine: Machine) -> Iterator[Asker]:
    askers = machine.askers()
    yield askers[request.param]
    for _, client in askers:
        client.close()


@pytest.fixture
def rest(machine: Machine) -> Iterator[Any]:
    """A client of the first process; what it registered is forgotten afterwards."""
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{machine.own.port}", concurrency=16) as client:
        yield client
        for key in (KEY, OPERATOR, SMALL):
            client.unregister_system_shared_memory(**keyed(key))


@pytest.fixture
def memory() -> Iterator[SharedObject]:
    with shared_object(4096) as made:
        yield made


def keyed(key: str = KEY) -> dict[str, Any]:
    """Give the arguments that send a key: new ones each time, since the client adds to them."""
    return {"headers": {"x-api-key": key}}


def rows_at(module: Any, region: str, size: int = ROWS.nbytes, offset: int = 0) -> list[Any]:
    tensor = module.InferInput("input", [2, 3], "FP32")
    tensor.set_shared_memory(region, size, offset)
    return [tensor]


def rows_in_body(module: Any) -> list[Any]:
    tensor = module.InferInput("input", [2, 3], "FP32")
    tensor.set_data_from_numpy(ROWS)
    return [tensor]


def sums_to(module: Any, region: str, size: int = 8, offset: int = 0) -> list[Any]:
    output = module.InferRequestedOutput("prediction")
    output.set_shared_memory(region, size, offset)
    return [output]


def wanted(name: str, size: int, offset: int) -> dict[str, Any]:
    """Give the wish for an output at a place in the region ``r``."""
    return {"name": name, "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": size, "shared_memory_offset": offset}}
