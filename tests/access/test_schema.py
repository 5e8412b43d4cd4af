"""The OpenAPI document: made without a warning, complete, and shown on a page without anything inline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.staticfiles import finders
from django.core.management import call_command

from access.keys import create_key
from core.environment import environment
from tests.access.addresses import every_address


@pytest.fixture(scope="module")
def document(tmp_path_factory) -> dict[str, Any]:
    path: Path = tmp_path_factory.mktemp("schema") / "schema.yml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(path), skip_checks=True)
    made: dict[str, Any] = yaml.safe_load(path.read_text())
    return made


def test_documents_every_address_of_the_api(document):
    views = {address for address in every_address() if address.path.startswith("/api/v1/")}
    assert len(document["paths"]) == len(views)
    assert sum(len(operations) for operations in document["paths"].values()) == sum(len(address.methods - {"HEAD"}) for address in views)


def test_documents_keys_problems_and_summaries(document):
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert "application/problem+json" in operation["responses"]["default"]["content"], (path, method)
            assert operation["summary"], (path, method)
            assert len(operation["tags"]) == 1, (path, method)


def test_names_each_operation_once(document):
    names = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(names) == len(set(names))


def test_serves_the_document_to_whoever_may_ask(client, admin):
    assert client.get("/api/schema/").status_code == 401
    key = create_key(actor=admin, name="docs", scopes=["predict"]).text
    answer = client.get("/api/schema/?format=json", headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["info"]["title"]) == (200, "Signalbox")


def test_answers_304_to_whoever_has_the_document(client_of):
    viewer, admin = client_of("viewer"), client_of("admin")
    first = viewer.get("/api/schema/?format=json")
    again = admin.get("/api/schema/?format=json", headers={"If-None-Match": first["ETag"]})
    assert (first.status_code, first["Content-Type"], first["Cache-Control"]) == (200, "application/vnd.oai.openapi+json", "private, no-cache")
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])


def test_tells_the_forms_of_the_document_apart(client_of):
    viewer = client_of("viewer")
    written = viewer.get("/api/schema/")
    other = viewer.get("/api/schema/?format=json", headers={"If-None-Match": written["ETag"]})
    assert (written["Content-Type"], other.status_code) == ("application/vnd.oai.openapi", 200)
    assert yaml.safe_load(written.content) == other.json()
    assert "Accept" in written["Vary"]


def test_the_page_tells_where_predictions_are_answered(client_of):
    page = client_of("viewer").get("/api/").content.decode()
    here = environment()
    assert f"at <code>{here.predict_url}</code>" in page
    for form in ("predict", "infer", "invocations"):
        assert f"<code>POST /v2/models/{{endpoint}}/{form}</code>" in page
    assert f"<code>inference.GRPCInferenceService</code> at <code>{here.grpc_address}</code>" in page


def test_shows_the_document_on_a_page_that_a_strict_policy_lets_run(client_of):
    answer = client_of("viewer").get("/api/")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert not re.search(r"<style|<script>|\sstyle=|\son\w+=", html)
    for path in re.findall(r'(?:src|href)="/static/([^"]+)"', html):
        assert finders.find(path), path
