"""The registry API through the front door, with real keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.test import Client

from access.keys import create_key
from access.models import AuditEntry
from core.digests import digest_of
from registry import storage
from registry.models import Alias, Model, Version

VERSIONS = "/api/v1/models/churn/versions/"


@pytest.fixture
def client_of_scopes(admin):
    def make(*scopes: str) -> Client:
        return Client(headers={"Authorization": f"Bearer {create_key(actor=admin, name='tests', scopes=scopes).text}"})

    return make


@pytest.fixture
def api(client_of_scopes: Callable[..., Client]) -> Client:
    return client_of_scopes("operate")


def _json(call, path: str, body: dict[str, object]):
    return call(path, body, content_type="application/json")


def test_lists_and_shows_models(api, ready):
    ready()
    listed = api.get("/api/v1/models/?q=chu").json()
    assert listed["next"] is None
    shown = api.get("/api/v1/models/churn/").json()
    assert shown.pop("states") == {"checking": 0, "ready": 1, "refused": 0}
    assert listed["results"] == [shown]
    assert (shown["name"], shown["owner"], shown["latest_number"], shown["latest_state"], shown["versions"]) == ("churn", "tests", 1, "ready", 1)
    assert api.get("/api/v1/models/nope/").json()["code"] == "model_not_found"


def test_lists_versions_and_shows_one(api, ready):
    ready(metrics={"auc": 0.5})
    ready()
    listed = api.get(f"{VERSIONS}?limit=1").json()
    assert [row["number"] for row in listed["results"]] == [2]
    second = api.get(VERSIONS, {"limit": 1, "cursor": listed["next"]}).json()
    assert [(row["number"], row["builds"], row["metrics"]) for row in second["results"]] == [(1, ["onnx"], {"auc": 0.5})]
    shown = api.get(f"{VERSIONS}1/").json()
    assert (shown["builds"][0]["inputs"], shown["signature"]["layout"]) == ([{"name": "input", "datatype": "FP32", "shape": [-1, 2]}], "matrix")
    assert api.get(f"{VERSIONS}?state=nice").status_code == 400
    assert api.get(f"{VERSIONS}99999999999999999999/").status_code == 404


@pytest.mark.parametrize("filename", ["../../../etc/cron.d/x", "/etc/passwd", "..\\..\\x", "a\r\nb", "x" * 300, "<script>"])
def test_takes_any_file_name_as_data_only(api, filename):
    answer = api.post(VERSIONS, {"file": SimpleUploadedFile(filename, b"by any name")})
    assert answer.status_code == 202
    shown = answer.json()["artifacts"][0]
    assert shown["digest"] == digest_of(b"by any name")
    assert storage.path_of(shown["digest"]).read_bytes() == b"by any name"
    assert "/" not in shown["filename"]
    assert "\n" not in shown["filename"]


def _none_kept(data: bytes) -> bool:
    return not Model.objects.exists() and not storage.exists(digest_of(data))


@pytest.mark.parametrize(
    ("name", "form", "status"),
    [
        ("..%2F..%2Fetc", {}, 404),
        ("a%20b", {}, 400),
        ("register", {}, 400),
        ("churn", {"metrics": "[1]"}, 400),
        ("churn", {"metrics": "{"}, 400),
        ("churn", {"metrics": '{"auc": NaN}'}, 400),
        ("churn", {"metrics": '{"auc": "high"}'}, 400),
        ("churn", {"metrics": "[" * 100_000}, 400),
        ("churn", {"tags": '{"a": {"b": 1}}'}, 400),
        ("churn", {"tags": '{"a": "\\u0000"}'}, 400),
        ("churn", {"path": "/etc/passwd"}, 400),
    ],
)
def test_keeps_nothing_of_a_wrong_form(api, name, form, status):
    answer = api.post(f"/api/v1/models/{name}/versions/", {"file": SimpleUploadedFile("m.pkl", b"wrong form"), **form})
    assert answer.status_code == status
    assert _none_kept(b"wrong form")


def test_wants_a_file(api):
    answer = api.post(VERSIONS, {"description": "nothing"})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["file"])
    assert _json(api.post, VERSIONS, {"file": "x"}).status_code == 415
    assert api.post(VERSIONS, {"file": SimpleUploadedFile("m.pkl", b"")}).status_code == 422
    assert not Model.objects.exists()


def test_refuses_a_large_upload_by_its_length_and_by_its_bytes(api, monkeypatch):
    answer = api.post(VERSIONS, {"file": SimpleUploadedFile("m.pkl", b"x")}, CONTENT_LENGTH=str(settings.ENVIRONMENT.upload_limit_bytes * 2))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    monkeypatch.setattr(storage, "environment", lambda: settings.ENVIRONMENT.model_copy(update={"upload_limit_bytes": 1024}))
    answer = api.post(VERSIONS, {"file": SimpleUploadedFile("m.pkl", b"x" * 1025)})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert _none_kept(b"x" * 1025)


@pytest.mark.parametrize(("scope", "status"), [("predict", 403), ("read", 403), ("outcomes", 403), ("register", 202), ("operate", 202), ("admin", 202)])
def test_needs_the_scope_to_register(client_of_scopes, scope, status):
    answer = client_of_scopes(scope).post(VERSIONS, {"file": SimpleUploadedFile("m.pkl", b"scoped")})
    assert answer.status_code == status
    assert Version.objects.count() == (status == 202)
    if status == 403:
        assert answer.json()["right"] == "model.register"
        assert _none_kept(b"scoped")


def test_downloads_as_an_attachment_and_says_so_in_the_audit_log(api, register):
    register(data=b"the bytes")
    answer = api.get(f"{VERSIONS}1/download/")
    assert b"".join(answer.streaming_content) == b"the bytes"
    assert answer["Content-Disposition"] == 'attachment; filename="model.joblib"'
    assert (answer["Content-Type"], answer["X-Content-Type-Options"], answer["Content-Length"]) == ("application/octet-stream", "nosniff", "9")
    assert AuditEntry.objects.get(verb="download").after == {"what": "original", "digest": digest_of(b"the bytes")}
    assert api.get(f"{VERSIONS}1/download/?what=onnx").status_code == 404
    assert api.get(f"{VERSIONS}1/download/?what=../secret_key").status_code == 400


@pytest.mark.parametrize("scope", ["predict", "read", "outcomes", "register"])
def test_keeps_downloading_a_right_of_its_own(client_of_scopes, register, scope):
    register()
    answer = client_of_scopes(scope).get(f"{VERSIONS}1/download/")
    assert (answer.status_code, answer.json()["right"]) == (403, "model.download")
    assert not AuditEntry.objects.filter(verb="download").exists()


def test_edits_words_with_the_revision(api, register):
    register()
    assert _json(api.patch, "/api/v1/models/churn/", {"description": "who leaves", "revision": 1}).json()["revision"] == 2
    answer = _json(api.patch, "/api/v1/models/churn/", {"description": "late", "revision": 1})
    assert (answer.status_code, answer.json()["revision"]) == (409, 2)
    edited = _json(api.patch, f"{VERSIONS}1/", {"metrics": {"auc": 0.9}, "tags": {"a": "b"}, "revision": 1}).json()
    assert (edited["metrics"], edited["revision"]) == ({"auc": 0.9}, 2)
    late = _json(api.patch, f"{VERSIONS}1/", {"metrics": {"auc": 0.1}, "revision": 1})
    assert (late.status_code, late.json()["code"], late.json()["revision"], late.json()["after"]["tags"]) == (409, "changed", 2, {"a": "b"})
    assert api.get(f"{VERSIONS}1/").json()["metrics"] == {"auc": 0.9}
    assert _json(api.patch, f"{VERSIONS}1/", {"state": "ready"}).status_code == 400
    assert Version.objects.get().state == "checking"
    assert Model.objects.get().description == "who leaves"


def test_moves_aliases(api, ready):
    ready()
    ready()
    assert _json(api.put, "/api/v1/models/churn/aliases/champion/", {"version": 1, "seen": 0}).json()["version"] == 1
    assert _json(api.put, "/api/v1/models/churn/aliases/champion/", {"version": 2, "seen": 0}).status_code == 409
    assert api.get("/api/v1/models/churn/aliases/champion/").json()["version"] == 1
    assert [row["name"] for row in api.get("/api/v1/models/churn/aliases/").json()["results"]] == ["champion"]
    assert api.delete("/api/v1/models/churn/aliases/champion/?seen=2").status_code == 409
    assert api.delete(f"{VERSIONS}1/").json()["code"] == "in_use"
    assert api.delete("/api/v1/models/churn/aliases/champion/?seen=1").status_code == 204
    assert not Alias.objects.exists()
    assert _json(api.put, "/api/v1/models/churn/aliases/latest/", {"version": 1}).status_code == 400


def test_archives_restores_deletes(api, ready):
    ready()
    assert _json(api.post, f"{VERSIONS}1/archive/", {"reason": "old"}).json()["archived_at"] is not None
    assert api.get(VERSIONS).json()["results"] == []
    assert _json(api.post, f"{VERSIONS}1/restore/", {}).json()["archived_at"] is None
    assert _json(api.post, "/api/v1/models/churn/archive/", {}).json()["archived_at"] is not None
    assert _json(api.post, "/api/v1/models/churn/restore/", {}).json()["archived_at"] is None
    assert api.post(f"{VERSIONS}1/recheck/").status_code == 422
    assert api.delete("/api/v1/models/churn/").status_code == 422
    assert api.delete(f"{VERSIONS}1/").status_code == 204
    assert api.delete("/api/v1/models/churn/").status_code == 204
    assert not Model.objects.exists()


def test_compares(api, ready):
    ready(metrics={"auc": 0.5})
    ready(metrics={"auc": 0.75})
    body = api.get("/api/v1/models/churn/compare/?a=1&b=2").json()
    assert body["metrics"] == [{"name": "auc", "a": 0.5, "b": 0.75, "change": 0.25}]
    assert [column["change"] for column in body["columns"]] == ["same", "same"]
    assert body["blocks"] == []
    assert sorted(api.get("/api/v1/models/churn/compare/?a=1").json()["errors"]) == ["b"]


@pytest.mark.parametrize("rows", [3, 30])
def test_asks_the_same_number_of_queries_for_3_and_30_rows(api, ready, rows, django_assert_num_queries):
    for number in range(rows):
        ready("churn", tags={"n": str(number)})
        ready(f"model-{number}")
    with django_assert_num_queries(5):
        assert len(api.get("/api/v1/models/").json()["results"]) == rows + 1
    with django_assert_num_queries(5):
        assert len(api.get(VERSIONS).json()["results"]) == rows
    with django_assert_num_queries(5):
        assert api.get(f"{VERSIONS}1/").status_code == 200


def test_reads_no_file_of_a_key_that_may_not_register(client_of_scopes, monkeypatch):
    read: list[object] = []
    monkeypatch.setattr(TemporaryFileUploadHandler, "new_file", lambda *_: read.append(1))
    answer = client_of_scopes("predict").post(VERSIONS, {"file": SimpleUploadedFile("model.joblib", b"x")})
    assert (answer.status_code, answer.json()["code"], read) == (403, "forbidden", [])
