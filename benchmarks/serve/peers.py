"""The peers: how each is started with the same scikit-learn model, and the same row in its own native form."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.serve.environments import LISTS, NotInstalled, made
from benchmarks.serve.load import Case, Request, Trouble
from benchmarks.serve.models import BenchModel
from benchmarks.serve.processes import PROCESSES, Server, free_port, spawn
from benchmarks.serve.signalbox import last_tensor, tensor_json

_JSON = {"Content-Type": "application/json"}
_QUIET = {
    "OMP_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "UVICORN_ACCESS_LOG": "0",
}


@dataclass(frozen=True, slots=True)
class Peer:
    """``start`` gives the running server, ``request`` the row in its own form."""

    name: str
    environment: str
    start: Callable[[Path, Path, BenchModel], Server]
    request: Callable[[BenchModel], Request]

    def case(self, folder: Path, model: BenchModel) -> Case:
        """Start it; raises Trouble if it cannot be installed or started."""
        try:
            programs = made(self.environment)
        except NotInstalled as error:
            raise Trouble(f"cannot be installed: {error}") from None
        return Case(self.name, self.start(programs, folder, model), self.request(model))


def _uvicorn(module: str, model_of: Callable[[Path, BenchModel], Path]) -> Callable[[Path, Path, BenchModel], Server]:
    def start(programs: Path, folder: Path, model: BenchModel) -> Server:
        port = free_port()
        command = [programs / "uvicorn", "--app-dir", LISTS, "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        command += ["--port", str(port), "--workers", str(PROCESSES), f"{module}:app"]
        return spawn(module, command, folder=folder, changes=_QUIET | {"MODEL": str(model_of(folder, model))}, port=port)

    return start


def _onnx(folder: Path, model: BenchModel) -> Path:
    path = folder / f"{model.name}.onnx"
    path.write_bytes(model.onnx)
    return path


def _joblib(_: Path, model: BenchModel) -> Path:
    return model.joblib


def _mlserver(settings: dict[str, object]) -> Callable[[Path, Path, BenchModel], Server]:
    def start(programs: Path, folder: Path, model: BenchModel) -> Server:
        home = folder / "mlserver"
        home.mkdir(exist_ok=True)
        port = free_port()
        ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        general = {"host": "127.0.0.1", "parallel_workers": PROCESSES, "debug": False, "access_logger": False, "environments_dir": str(home / "environments")}
        (home / "settings.json").write_text(json.dumps(general | ports))
        own = {"name": "bench", "implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": str(model.joblib), "version": "1"}}
        (home / "model-settings.json").write_text(json.dumps(own | settings))
        return spawn("mlserver", [programs / "mlserver", "start", home], folder=folder, changes=_QUIET, port=port, cwd=home)

    return start


def _bentoml(programs: Path, folder: Path, model: BenchModel) -> Server:
    port = free_port()
    command = [programs / "bentoml", "serve", "bentoml_service:Bench", "--host", "127.0.0.1", "--port", str(port)]
    changes = _QUIET | {"MODEL": str(model.joblib), "WORKERS": str(PROCESSES), "BENTOML_HOME": str(folder / "bentoml")}
    return spawn("bentoml", command, folder=folder, changes=changes, port=port, cwd=LISTS)


def _litserve(programs: Path, folder: Path, model: BenchModel) -> Server:
    port = free_port()
    command = [programs / "python", LISTS / "litserve_server.py", str(port), str(PROCESSES)]
    return spawn("litserve", command, folder=folder, changes=_QUIET | {"MODEL": str(model.joblib)}, port=port)


def _mlflow(programs: Path, folder: Path, model: BenchModel) -> Server:
    saved = folder / f"mlflow-{model.name}"
    if not saved.exists():
        done = subprocess.run([programs / "python", LISTS / "mlflow_save.py", model.joblib, saved], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Trouble(f"does not save the model: {done.stderr.strip().splitlines()[-1]}")
    port = free_port()
    command = [programs / "mlflow", "models", "serve", "-m", saved, "-h", "127.0.0.1", "-p", str(port), "-w", str(PROCESSES), "--env-manager", "local"]
    path = f"{programs}:{os.environ['PATH']}"  # it looks for uvicorn there
    return spawn("mlflow", command, folder=folder, changes=_QUIET | {"PATH": path}, port=port)


def _tensors(model: BenchModel) -> Request:
    return Request("/v2/models/bench/infer", tensor_json(model), _JSON, last_tensor)


def _tensors_of_mlserver(model: BenchModel) -> Request:
    output = "predict_proba" if len(model.expected) > 1 else "predict"
    body = json.loads(tensor_json(model)) | {"outputs": [{"name": output}]}
    return Request("/v2/models/bench/infer", json.dumps(body).encode(), _JSON, last_tensor)


def _rows(path: str, key: str) -> Callable[[BenchModel], Request]:
    def request(model: BenchModel) -> Request:
        return Request(path, json.dumps({key: [model.row]}).encode(), _JSON, _predictions)

    return request


def _predictions(response: httpx.Response) -> list[float]:
    answer = response.json()
    values: list[float] = answer["predictions"] if isinstance(answer, dict) else answer
    return values


HAND_WRITTEN = Peer("FastAPI + onnxruntime", "fastapi", _uvicorn("fastapi_onnx", _onnx), _tensors)
SLOW = (
    Peer("FastAPI + scikit-learn", "fastapi", _uvicorn("fastapi_sklearn", _joblib), _tensors),
    Peer("MLServer", "mlserver", _mlserver({}), _tensors_of_mlserver),
    Peer("MLServer, adaptive batching", "mlserver", _mlserver({"max_batch_size": 64, "max_batch_time": 0.002}), _tensors_of_mlserver),
    Peer("BentoML", "bentoml", _bentoml, _rows("/predict", "rows")),
    Peer("LitServe", "litserve", _litserve, _rows("/predict", "rows")),
    Peer("`mlflow models serve`", "mlflow", _mlflow, _rows("/invocations", "inputs")),
)
