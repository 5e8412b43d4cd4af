"""Versions to test with: registered through the verb, and ready ones without the sandbox's work."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from access.actors import system
from config.celery import app as celery_app
from core.digests import digest_of
from registry import storage
from registry.models import Build, Version
from registry.register import register_version
from registry.signature import Feature, Kind, Layout, Signature, Tensor

Register = Callable[..., Version]
SIGNATURE = Signature(
    layout=Layout.MATRIX,
    features=(Feature(name="age", kind=Kind.INTEGER), Feature(name="charges", kind=Kind.NUMBER)),
    inputs=(Tensor("input", "FP32", (-1, 2)),),
    outputs=(Tensor("label", "INT64", (-1,)), Tensor("probabilities", "FP32", (-1, 2))),
    labels=("0", "1"),
    task="classification",
)


@pytest.fixture(autouse=True)
def bells(monkeypatch) -> list[str]:
    """What was rung; no worker runs here."""
    rung: list[str] = []
    monkeypatch.setattr(celery_app, "send_task", lambda kind, args, **_: rung.append(kind))
    return rung


@pytest.fixture
def register(db) -> Register:
    """Register a version with bytes of its own: ``register("churn", metrics={"auc": 0.9})``."""

    def make(model: str = "churn", *, data: bytes | None = None, **words: Any) -> Version:
        content = io.BytesIO(data if data is not None else f"a model {Version.objects.count()}".encode())
        return register_version(actor=system("tests"), model_name=model, file=content, filename="model.joblib", **words)

    return make


@pytest.fixture
def ready(register: Register) -> Register:
    """Register a version and make it ready, with a build."""

    def make(model: str = "churn", **words: Any) -> Version:
        version = register(model, **words)
        data = f"onnx of {version.id}".encode()
        signature = msgspec.to_builtins(SIGNATURE)
        storage.store_bytes(data)
        Build.objects.create(
            version=version,
            kind="onnx",
            digest=digest_of(data),
            size_bytes=len(data),
            inputs=signature["inputs"],
            outputs=signature["outputs"],
            single_row_ms=0.05,
        )
        version.state, version.signature = "ready", signature
        version.save()
        return version

    return make
