"""Ready versions to deploy, without the sandbox: the rows that a conversion would have left."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from registry.models import Build, Model, Version
from registry.signature import Feature, Kind, Layout, Signature, Tensor

MakeVersion = Callable[..., Version]
COLUMNS = {"tenure_months": Kind.INTEGER, "monthly_charges": Kind.NUMBER, "contract": Kind.TEXT}


def signature_with(columns: dict[str, Kind], outputs: tuple[str, ...] = ("label", "probabilities")) -> Signature:
    return Signature(
        layout=Layout.COLUMNS,
        features=tuple(Feature(name=name, kind=kind) for name, kind in columns.items()),
        inputs=tuple(Tensor(name, "FP32", (-1, 1)) for name in columns),
        outputs=tuple(Tensor(name, "FP32", (-1, 2)) for name in outputs),
        labels=("no", "yes"),
        task="classification",
    )


def make_version(number: int, model: str = "churn", columns: dict[str, Kind] | None = None, outputs: tuple[str, ...] = ("label", "probabilities")) -> Version:
    """Write a ready version with one ONNX build."""
    owner, _ = Model.objects.get_or_create(name=model)
    signature = signature_with(columns or COLUMNS, outputs)
    document = msgspec.to_builtins(signature)
    version = Version.objects.create(model=owner, number=number, state=Version.State.READY, format=Version.Format.SKOPS, signature=document)
    Build.objects.create(
        version=version,
        kind=Build.Kind.ONNX,
        digest=hashlib.sha256(f"{model} {number}".encode()).hexdigest(),
        size_bytes=1000 + number,
        inputs=document["inputs"],
        outputs=document["outputs"],
        single_row_ms=0.1,
    )
    return version


@pytest.fixture
def version(db: None) -> MakeVersion:
    return make_version
