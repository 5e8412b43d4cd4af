"""Uploads to pages are refused before they are read: of strangers, and those that are too large."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.wsgi import WSGIRequest
from django.test import Client

from registry.models import Version
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


def form() -> dict[str, Any]:
    return {"name": "churn", "file": SimpleUploadedFile("m.skops", b"x" * 20_000)}


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
