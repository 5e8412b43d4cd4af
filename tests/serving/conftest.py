"""Ready versions to deploy, without the sandbox: the rows that a conversion would have left."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest

from access.actors import Actor
from registry.models import Build, Model, Version
from registry.signature import Feature, Kind, Layout, Signature, Tensor
from serving.create_endpoint import create_endpoint
from serving.deploy import deploy
from serving.models import Endpoint, LedgerEntry, PublishedTable, Slot
from serving.table import RouteTable, decode

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


@pytest.fixture
def endpoint(operator: Actor, version: MakeVersion) -> Endpoint:
    """``churn-scorer`` with v12 live in blue and v13 warm in green, at revision 3."""
    version(12)
    version(13)
    create_endpoint(actor=operator, name="churn-scorer")
    deploy(actor=operator, endpoint="churn-scorer", model="churn", version=12)
    return deploy(actor=operator, endpoint="churn-scorer", model="churn", version=13)


def shares(name: str = "churn-scorer") -> dict[str, tuple[int | None, int]]:
    """Give slot name to (version, weight) as the tables have it."""
    slots = Slot.objects.filter(endpoint__name=name).values_list("name", "build__version__number", "weight")
    return {slot: (number, weight) for slot, number, weight in slots}


def summaries(name: str = "churn-scorer") -> list[str]:
    return list(LedgerEntry.objects.filter(endpoint__name=name).order_by("revision").values_list("summary", flat=True))


def newest_table() -> RouteTable:
    return decode(bytes(PublishedTable.objects.latest("revision").document))
