"""A real gRPC process of the data plane, and its fixture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.environment import ROOT
from tests.dataplane.conftest import NO_CONSOLE, NO_DATABASE, Plane, free_port, wait_for

MESSAGE_BYTES = 8 * 2**20


@dataclass
class GrpcPlane(Plane):
    """Like ``Plane``, with the other transport; ``changes`` are added to its environment."""

    changes: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> GrpcPlane:
        self.port = free_port() if self.sock is None else int(self.sock.getsockname()[1])
        where = ["--port", str(self.port)] if self.sock is None else ["--fd", str(self.sock.fileno())]
        arguments = [sys.executable, "-m", "serving.dataplane.grpc", *where]
        shared = () if self.sock is None else (self.sock.fileno(),)
        changes = {"SIGNALBOX_VAR_DIR": str(self.var_dir), "DATABASE_URL": self.database_url, "SIGNALBOX_CONSOLE_PORT": NO_CONSOLE, **dict(self.changes)}
        with (self.var_dir / "dataplane.log").open("ab") as log:
            self.process = subprocess.Popen(arguments, cwd=ROOT, env=os.environ | changes, stdout=log, stderr=log, pass_fds=shared)
        wait_for(self.is_ready, f"readiness; its log: {self.var_dir}/dataplane.log", timeout_s=40)
        return self

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log_text()
        with grpc.insecure_channel(self.url) as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture(scope="module")
def standing_grpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrpcPlane]:
    """One process for all the tests that only ask; the same endpoints as ``standing``."""
    from tests.dataplane.standing import document

    plane = GrpcPlane(tmp_path_factory.mktemp("standing-grpc"), NO_DATABASE, changes=(("SIGNALBOX_GRPC_MESSAGE_BYTES", str(MESSAGE_BYTES)),))
    plane.keep(document(plane.artifacts))
    try:
        yield plane.start()
        assert plane.stop() == 0, plane.log_text()
    finally:
        if plane.process is not None and plane.process.poll() is None:
            plane.stop(signal.SIGKILL)
