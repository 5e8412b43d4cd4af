"""Try it through the page, with a real data plane behind it."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.conf import settings

from access.actors import Actor
from access.models import ApiKey
from registry.models import Build, Model, Version
from serving.create_endpoint import create_endpoint
from serving.deploy import deploy
from serving.edit_endpoint import edit_endpoint
from serving.table import BuildEntry
from tests.conftest import ClientOf
from tests.dataplane import models
from tests.dataplane.conftest import Plane, database, wait_for

__all__ = ["database"]

PATH = "/endpoints/sum/try/"
ROW = {"in.a": "1", "in.b": "2", "in.c": "3"}


def registered(entry: BuildEntry) -> None:
    """Write the rows that a conversion of this build would have left."""
    model, _ = Model.objects.get_or_create(name=entry.model)
    document = msgspec.to_builtins(entry.signature)
    version = Version.objects.create(model=model, number=entry.version, state=Version.State.READY, format=Version.Format.ONNX, signature=document)
    sizes = {"size_bytes": entry.size_bytes, "single_row_ms": 0.1}
    Build.objects.create(version=version, kind="onnx", digest=entry.digest, inputs=document["inputs"], outputs=document["outputs"], **sizes)


@pytest.fixture
def plane(database: str, transactional_db: None, operator: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    """``sum`` with v1 in blue and v2, which adds a half, in green; a data plane that answers, and a console that knows where."""
    plane = Plane(tmp_path, database)
    registered(models.regressor(plane.artifacts))
    registered(models.regressor(plane.artifacts, version=2, offset=0.5))
    create_endpoint(actor=operator, name="sum")
    deploy(actor=operator, endpoint="sum", model="sum", version=1)
    deploy(actor=operator, endpoint="sum", model="sum", version=2)
    try:
        plane.start()
        monkeypatch.setattr(settings, "ENVIRONMENT", settings.ENVIRONMENT.model_copy(update={"predict_port": plane.port}))
        yield plane
    finally:
        if plane.process is not None:
            plane.stop(signal.SIGKILL)


def text_of(answer: Any) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


def test_every_version_answers_and_no_key_appears(client_of: ClientOf, plane: Plane) -> None:
    client = client_of("scientist")
    shown = client.get(PATH)
    assert shown.status_code == 200
    assert 'name="in.a" value="1.0"' in text_of(shown)
    both = client.post(PATH, ROW)
    assert (both.status_code, [answer.headline for answer in both.context["answers"]]) == (200, [321.0, 321.5])
    one = client.post(PATH, ROW | {"slot": "green"})
    assert [answer.slot.name for answer in one.context["answers"]] == ["green"]
    assert ApiKey.objects.count() == 0
    assert "No keys yet" in client_of("admin").get("/keys/").content.decode()
    identifier = one.context["answers"][0].prediction_id
    page = wait_for(lambda: (found := client.get(f"/endpoints/sum/predictions/{identifier}/")).status_code == 200 and found, "the log")
    assert "the console, for Try it" in page.content.decode()


def test_what_is_wrong_stands_at_its_field(client_of: ClientOf, plane: Plane, operator: Actor) -> None:
    client = client_of("scientist")
    unread = client.post(PATH, ROW | {"in.b": "two"})
    assert unread.status_code == 422
    assert "b takes a number, not &#x27;two&#x27;." in text_of(unread)
    assert unread.context["answers"] == []
    assert {field.feature.name: bool(field.wrong) for field in unread.context["inputs"]} == {"a": False, "b": True, "c": False}
    edit_endpoint(actor=operator, endpoint="sum", changes={"validation": {"default": "refuse"}})
    refused = wait_for(lambda: (found := client.post(PATH, ROW | {"in.c": "77"})).status_code == 422 and found, "the new policy")
    assert {field.feature.name: bool(field.wrong) for field in refused.context["inputs"]} == {"a": False, "b": False, "c": True}
    assert "outside the bounds 0 to 9" in text_of(refused)
    assert 'name="in.c" value="77"' in text_of(refused)


def test_a_changed_secret_key_is_published_when_it_is_needed(client_of: ClientOf, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of("scientist")
    monkeypatch.setattr("serving.console_key._PURPOSE", b"another")
    assert client.post(PATH, ROW).status_code == 200


def test_a_viewer_is_told_what_sending_needs(client_of: ClientOf, plane: Plane) -> None:
    client = client_of("viewer")
    assert "<code>endpoint.predict</code>" in client.get(PATH).content.decode()
    assert client.post(PATH, ROW).status_code == 403


def test_a_data_plane_that_is_away_is_said_to_be(client_of: ClientOf, plane: Plane) -> None:
    plane.stop()
    answer = client_of("scientist").post(PATH, ROW)
    assert answer.status_code == 422
    assert "cannot be reached" in text_of(answer)
