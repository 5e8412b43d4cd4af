"""The console's lines in the access log: who asked for what, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client

from access.keys import create_key
from console import observe
from core.access_log import AccessLog

pytestmark = pytest.mark.django_db


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give what ends the log of this process and reads its lines."""
    log = AccessLog("console", tmp_path / "access.jsonl")
    monkeypatch.setattr(observe, "access_log", lambda *_: log)

    def read() -> list[dict[str, Any]]:
        log.stop()
        return [json.loads(line) for line in (tmp_path / "access.jsonl").read_text().splitlines()]

    return read


def test_has_one_line_per_request(client_of, admin, lines: Any) -> None:
    key = create_key(actor=admin, name="reads", scopes=["read"])
    answer = client_of("viewer").get("/endpoints/?search=secret-word", headers={"X-Request-Id": "order-7"})
    Client(headers={"Authorization": f"Bearer {key.text}"}).get("/api/v1/models/")
    Client().get("/sign-in/a-secret-token/")
    page, api, link = lines()
    assert (page["status"], page["method"], page["path"], page["request_id"]) == (200, "GET", "/endpoints/", "order-7")
    assert page["bytes_out"] == len(answer.content)
    assert page["actor"] == f"person:{answer.wsgi_request.user.pk}"
    assert (api["status"], api["actor"]) == (200, f"key:{key.key.id}")
    assert (link["path"], "actor" in link) == ("/sign-in/<str:token>/", False)
    text = json.dumps([page, api, link])
    assert not any(secret in text for secret in ("secret-word", "a-secret-token", key.text))


def test_asks_the_database_nothing_for_a_line(rf, lines: Any, django_assert_num_queries) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    with django_assert_num_queries(0):
        observe.Observe(answer)(rf.get("/"))
    assert [line["status"] for line in lines()] == [200]
