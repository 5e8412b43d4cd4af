"""Uploads to pages are refused before they are read: of strangers, and those that are too large."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.wsgi import WSGIRequest
from django.test import Client

from access.actors import Actor
from access.people import add_grant
from registry.models import Model, Version
from tests.conftest import ClientOf

REGISTER = "/models/register/"


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every request whose form is read."""
    read: list[str] = []
    load = WSGIRequest._load_post_and_files  # where Django parses a form and writes its files

    def noted(request: WSGIRequest) -> None:
        read.append(request.path)
        load(request)

    monkeypatch.setattr(WSGIRequest, "_load_post_and_files", noted)
    return read


def form(path: str = REGISTER) -> dict[str, Any]:
    """Give what is sent to the page, whose form has the model's name in it, or to the API."""
    name = {"name": "churn"} if path == REGISTER else {}
    return name | {"file": SimpleUploadedFile("m.skops", b"x" * 20_000)}


@pytest.mark.parametrize("path", [REGISTER, "/sign-in/", "/keys/", "/nowhere/"])
def test_files_of_somebody_not_signed_in_are_not_read(db: None, unread: list[str], path: str) -> None:
    answer = Client(enforce_csrf_checks=True).post(path, form())
    assert (answer.status_code, answer["Location"]) == (302, f"/sign-in/?next={path}")
    assert unread == []
    assert Version.objects.count() == 0


def test_what_says_that_it_is_too_large_is_not_read(client_of: ClientOf, unread: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ENVIRONMENT", settings.ENVIRONMENT.model_copy(update={"upload_limit_bytes": 1024}))
    client = client_of("scientist")
    for kind in ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        answer = client.post(REGISTER, b"x", content_type=kind, CONTENT_LENGTH=str(2**20 + 1025))
        assert answer.status_code == 413
        assert "larger than 1,024 bytes" in answer.content.decode()
    assert unread == []


def test_the_api_reads_nothing_that_says_that_it_is_too_large(client_of: ClientOf, unread: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ENVIRONMENT", settings.ENVIRONMENT.model_copy(update={"upload_limit_bytes": 1024}))
    client = client_of("viewer")
    client.handler.enforce_csrf_checks = True
    for path in ("/api/v1/models", "/api/v1/models/churn/versions"):
        answer = client.post(path, b"x", content_type="multipart/form-data; boundary=x", CONTENT_LENGTH=str(2**20 + 1025))
        assert (answer.status_code, answer["Content-Type"], answer.json()["code"]) == (413, "application/problem+json", "too_large")
    assert unread == []


def test_somebody_signed_in_may_upload_and_anybody_may_sign_in(client_of: ClientOf, unread: list[str]) -> None:
    assert client_of("scientist").post(REGISTER, form()).status_code == 302
    assert Version.objects.count() == 1
    assert Client().post("/sign-in/", {"username": "scientist", "password": "x"}, content_type="application/x-www-form-urlencoded").status_code in {200, 422}
    assert unread == [REGISTER, "/sign-in/"]


def _enforcing(client: Client) -> Client:
    client.handler.enforce_csrf_checks = True
    return client


@pytest.mark.parametrize("path", [REGISTER, "/api/v1/models/churn/versions/"])
def test_files_of_somebody_who_may_not_register_are_not_read(client_of: ClientOf, unread: list[str], path: str) -> None:
    answer = _enforcing(client_of("viewer")).post(path, form())
    assert answer.status_code == 403
    assert "model.register" in answer.content.decode()
    assert (unread, Version.objects.count(), Model.objects.count()) == ([], 0, 0)


@pytest.mark.parametrize("path", ["/keys/", "/models/churn/edit/", "/api/v1/models/", "/api/v1/models/churn/archive/"])
def test_files_are_not_read_where_none_are_taken(client_of: ClientOf, unread: list[str], path: str) -> None:
    answer = _enforcing(client_of("admin")).post(path, form())
    assert answer.status_code == 400
    assert "takes no files" in answer.content.decode()
    assert unread == []


def test_a_right_on_one_model_is_no_right_on_another(client_of: ClientOf, admin: Actor, unread: list[str]) -> None:
    client = client_of("viewer")
    Model.objects.create(name="churn")
    add_grant(actor=admin, username="viewer", subject_kind="model", subject_name="churn", role="scientist")
    refused = client.post("/api/v1/models/fraud/versions/", form("/api/v1/models/fraud/versions/"))
    assert (refused.status_code, refused.json()["code"], unread) == (403, "forbidden", [])
    assert client.post("/api/v1/models/churn/versions/", form("/api/v1/models/churn/versions/")).status_code == 202
    assert client.post(REGISTER, form()).status_code == 302
    assert [str(version) for version in Version.objects.order_by("id")] == ["churn v1", "churn v2"]


def test_the_token_is_still_asked_for(client_of: ClientOf) -> None:
    client = _enforcing(client_of("scientist"))
    assert client.post(REGISTER, form()).status_code == 403
    assert client.post("/api/v1/models/churn/versions/", form("/api/v1/models/churn/versions/")).status_code == 403
    client.cookies["csrftoken"] = token = "t" * 32
    assert client.post("/api/v1/models/churn/versions/", form("/api/v1/models/churn/versions/"), headers={"X-CSRFToken": "u" * 32}).status_code == 403
    assert Version.objects.count() == 0
    assert client.post("/api/v1/models/churn/versions/", form("/api/v1/models/churn/versions/"), headers={"X-CSRFToken": token}).status_code == 202
    assert client.post(REGISTER, form(), headers={"X-CSRFToken": token}).status_code == 302
    assert Version.objects.count() == 2


def test_a_page_of_another_site_makes_nobody_read_an_upload(client_of: ClientOf, unread: list[str]) -> None:
    client = _enforcing(client_of("scientist"))
    client.cookies["csrftoken"] = "t" * 32
    for path in (REGISTER, "/api/v1/models/churn/versions/"):
        assert client.post(path, form(), headers={"Origin": "https://evil.example"}).status_code == 403
    assert (unread, Version.objects.count()) == ([], 0)


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process takes more than 10 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("enforced", [True, False])
@pytest.mark.parametrize("path", [REGISTER, "/api/v1/models/churn/versions/"])
def test_an_upload_that_finds_no_room_is_told_so_and_leaves_nothing(client_of: ClientOf, full_disk: None, path: str, enforced: bool) -> None:
    """``enforced``: Django reads the form when it looks for its token; else the page or the view does."""
    client = client_of("scientist")
    client.handler.enforce_csrf_checks, client.raise_request_exception = enforced, False
    client.cookies["csrftoken"] = token = "t" * 32
    answer = client.post(path, form(path), headers={"X-CSRFToken": token})
    assert (answer.status_code, "The disk of the server is full. Nothing was kept" in answer.content.decode()) == (507, True)
    assert (Version.objects.count(), Model.objects.count()) == (0, 0)
    assert list(Path(settings.FILE_UPLOAD_TEMP_DIR).iterdir()) == []
    assert client.get("/models/").status_code == 200
