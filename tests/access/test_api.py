"""The access API through the front door, with real keys and sessions."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from access.audit import record
from access.keys import create_key
from access.models import ApiKey, AuditEntry, Person, SignInLink
from access.people import add_grant, create_person
from core.paging import MOST_ROWS


@pytest.fixture
def api(admin) -> Client:
    """A client with a key that may do everything."""
    return client_with(create_key(actor=admin, name="tests", scopes=["admin"]).text)


def client_with(key: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {key}"})


def test_says_who_asks(api):
    answer = api.get("/api/v1/me/").json()
    assert (answer["kind"], answer["name"]) == ("key", "tests")
    assert "key.manage" in answer["rights"]["*"]
    assert answer["predict_url"] == settings.ENVIRONMENT.predict_url


def test_answers_401_with_a_problem_to_nobody(db):
    answer = Client().get("/api/v1/me/")
    assert (answer.status_code, answer["Content-Type"], answer["WWW-Authenticate"]) == (401, "application/problem+json", 'Bearer realm="signalbox"')
    body = answer.json()
    assert (body["type"], body["title"], body["status"], body["code"]) == ("about:blank", "Unauthorized", 401, "not_signed_in")


def test_answers_401_to_a_bad_key_even_in_a_good_session(client_of):
    answer = client_of("admin").get("/api/v1/me/", headers={"Authorization": "Bearer sbx_wrong"})
    assert (answer.status_code, answer.json()["code"]) == (401, "key_not_valid")


def test_wants_the_csrf_token_of_a_session(client_of):
    client = client_of("admin")
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    answer = strict.post("/api/v1/keys/", {"name": "x", "scopes": ["read"]}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert ApiKey.objects.count() == 0


def test_issues_lists_and_revokes_a_key(api):
    answer = api.post("/api/v1/keys/", {"name": "scorer", "scopes": ["predict"], "endpoints": ["churn"]}, content_type="application/json")
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    issued = answer.json()
    assert client_with(issued["key"]).get("/api/v1/me/").json()["rights"] == {"endpoint:churn": ["endpoint.predict"]}
    listed = api.get("/api/v1/keys/?q=scorer").json()
    assert listed["next"] is None
    assert [(key["id"], key["state"], key["endpoints"]) for key in listed["results"]] == [(issued["id"], "open", ["churn"])]
    assert issued["key"] not in str(listed)
    assert api.delete(f"/api/v1/keys/{issued['id']}/").status_code == 204
    assert api.get(f"/api/v1/keys/{issued['id']}/").json()["state"] == "revoked"
    assert client_with(issued["key"]).get("/api/v1/me/").status_code == 401
    assert [len(api.get(f"/api/v1/keys/?state={state}").json()["results"]) for state in ("open", "expired", "revoked")] == [1, 0, 1]


def test_issues_and_changes_limits(api):
    body = {"name": "scorer", "scopes": ["predict"], "limits": {"requests_per_s": 2.5, "rows_per_day": 50_000, "max_rows": 0}}
    issued = api.post("/api/v1/keys/", body, content_type="application/json").json()
    address = f"/api/v1/keys/{issued['id']}/"
    assert issued["limits"] == {"requests_per_s": 2.5, "rows_per_day": 50_000}
    change = {"limits": {"rows_per_day": 0, "burst": 5, "max_body_bytes": 65_536, "timeout_ms": 500}, "reason": "they pay for more"}
    after = {"requests_per_s": 2.5, "burst": 5, "max_body_bytes": 65_536, "timeout_ms": 500}
    answer = api.patch(address, change, content_type="application/json")
    assert (answer.status_code, answer.json()["limits"]) == (200, after)
    assert api.get(address).json()["limits"] == api.get("/api/v1/keys/?q=scorer").json()["results"][0]["limits"] == after
    assert AuditEntry.objects.get(verb="limit").reason == "they pay for more"
    assert api.patch("/api/v1/keys/nope/", change, content_type="application/json").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({}, 400, "limits"),
        ({"limits": {"colour": 1}}, 400, "no limit 'colour'"),
        ({"limits": {"rows_per_day": "many"}}, 400, "rows_per_day"),
        ({"limits": {"rows_per_day": -1}}, 400, "rows_per_day is -1"),
        ({"limits": {"rows_in_all": 10**400}}, 400, "rows_in_all"),
        ({"limits": {"burst": 5}}, 400, "A burst needs a rate"),
        ({"limits": {"max_body_bytes": 2**30 + 1}}, 400, "max_body_bytes is 1073741825; it must lie between 0, which is no limit, and 1073741824"),
        ({"limits": {"timeout_ms": 300_001}}, 400, "timeout_ms is 300001"),
        ({"limits": {"timeout_ms": 0.5}}, 400, "timeout_ms"),
        ({"limits": [5]}, 400, "limits"),
        ({"limits": {"rows_per_day": None}}, 400, "rows_per_day"),
        ({"limits": {}, "name": "other"}, 400, "name"),
    ],
)
def test_refuses_wrong_limits_and_changes_nothing(api, body, status, named):
    key = api.post("/api/v1/keys/", {"name": "scorer", "scopes": ["predict"], "limits": {"rows_per_day": 7}}, content_type="application/json").json()
    answer = api.patch(f"/api/v1/keys/{key['id']}/", body, content_type="application/json")
    assert (answer.status_code, named in answer.content.decode()) == (status, True)
    assert ApiKey.objects.get(id=key["id"]).limits == {"rows_per_day": 7}
    if body:
        refused = api.post("/api/v1/keys/", {"name": "second", "scopes": ["predict"], "colour": 1, **body}, content_type="application/json")
        assert (refused.status_code, ApiKey.objects.count()) == (400, 2)


def test_names_every_wrong_field(api):
    answer = api.post("/api/v1/keys/", {"scopes": ["root"], "colour": "red"}, content_type="application/json")
    body = answer.json()
    assert (answer.status_code, body["code"], sorted(body["errors"])) == (400, "invalid", ["name", "scopes.0"])
    answer = api.post("/api/v1/keys/", {"name": "x", "scopes": ["read"], "colour": "red"}, content_type="application/json")
    assert (answer.status_code, sorted(answer.json()["errors"])) == (400, ["colour"])
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("{", "application/json", 400),
        ("[]", "application/json", 400),
        ("[" * 100_000, "application/json", 400),
        ('{"name": "\\u0000", "scopes": ["read"]}', "application/json", 400),
        ('{"name": NaN}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        ("name=x", "text/plain", 415),
    ],
)
def test_answers_a_problem_to_a_broken_body(api, body, kind, status):
    answer = api.post("/api/v1/keys/", body, content_type=kind)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert ApiKey.objects.count() == 1


def test_answers_a_problem_to_a_wrong_method_and_to_nul(api):
    assert api.put("/api/v1/me/").status_code == 405
    assert api.get("/api/v1/people/%00/").status_code == 400
    assert api.get("/api/v1/people/?q=%00").status_code == 400


def test_adds_changes_and_grants(api):
    answer = api.post("/api/v1/people/", {"username": "ada", "role": "scientist"}, content_type="application/json")
    assert (answer.status_code, answer.json()["role"], answer.json()["grants"]) == (201, "scientist", [])
    grant = {"subject_kind": "model", "subject_name": "churn", "role": "operator"}
    assert api.post("/api/v1/people/ada/grants/", grant, content_type="application/json").status_code == 201
    answer = api.patch("/api/v1/people/ada/", {"role": "viewer", "active": False, "reason": "left"}, content_type="application/json")
    assert {name: answer.json()[name] for name in ("role", "active")} == {"role": "viewer", "active": False}
    assert [{name: one[name] for name in grant} for one in answer.json()["grants"]] == [grant]
    assert api.delete("/api/v1/people/ada/grants/model/churn/").status_code == 204
    assert api.get("/api/v1/people/ada/").json()["grants"] == []
    assert api.get("/api/v1/people/nobody/").status_code == 404


def test_makes_a_link_that_signs_somebody_in_once(api, admin):
    create_person(actor=admin, username="ada", role="viewer")
    answer = api.post("/api/v1/people/ada/sign-in-link/")
    assert (answer.status_code, answer["Cache-Control"], list(answer.json())) == (201, "no-store", ["url"])
    browser, link = Client(), answer.json()["url"].removeprefix("http://testserver")
    assert browser.post(link).status_code == 302
    assert browser.get("/api/v1/me/").json()["name"] == "ada"
    assert Client().post(link).status_code == 401
    assert [entry.verb for entry in AuditEntry.objects.filter(subject_name="ada").order_by("at")] == ["create", "invite", "sign_in"]


def test_makes_no_link_for_nobody_and_none_without_the_right(api, admin, client_of):
    create_person(actor=admin, username="ada", role="viewer")
    assert api.post("/api/v1/people/nobody/sign-in-link/").status_code == 404
    refused = client_of("operator").post("/api/v1/people/ada/sign-in-link/")
    assert (refused.status_code, refused.json()["right"]) == (403, "people.manage")
    assert SignInLink.objects.count() == 0


def test_keeps_the_last_admin(api):
    answer = api.patch("/api/v1/people/admin/", {"active": False}, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (422, "last_admin")
    assert Person.objects.get().is_active


def test_names_the_missing_right(client_of):
    answer = client_of("operator").get("/api/v1/people/")
    assert (answer.status_code, answer.json()["right"]) == (403, "people.manage")


def test_filters_the_audit_log(api, admin, viewer):
    record(actor=admin, verb="register", subject_kind="version", subject_name="churn v1", reason="better recall")
    record(actor=viewer, verb="edit", subject_kind="model", subject_name="churn")

    def found(query: str) -> list[str]:
        return [entry["verb"] for entry in api.get(f"/api/v1/audit/?{query}").json()["results"]]

    assert found("") == ["edit", "register", "create"]
    assert found("actor=viewer") == ["edit"]
    assert found("q=recall") == found("subject_kind=version") == ["register"]
    assert found("since=2000-01-01T00:00:00Z&until=2001-01-01T00:00:00Z") == []
    assert api.get("/api/v1/audit/?since=yesterday").status_code == 400


def test_walks_all_pages(api, admin):
    for number in range(7):
        record(actor=admin, verb="edit", subject_kind="model", subject_name=str(number))
    seen: list[str] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        page = api.get(f"/api/v1/audit/?limit=3&cursor={page['next']}").json()
        seen += [entry["id"] for entry in page["results"]]
    assert seen == [str(key) for key in AuditEntry.objects.order_by("-id").values_list("id", flat=True)]
    assert len(seen) == 8


@pytest.mark.parametrize("limit", ["0", "-1", "x", str(MOST_ROWS + 1), "1e2", "", "99999999999"])
def test_refuses_a_limit_out_of_range(api, limit):
    answer = api.get(f"/api/v1/audit/?limit={limit}")
    assert (answer.status_code, "limit" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("rows", [3, 30])
def test_asks_the_same_number_of_queries_for_3_and_30_rows(api, admin, rows, django_assert_num_queries):
    for number in range(rows):
        create_person(actor=admin, username=f"person{number}", role="viewer")
        add_grant(actor=admin, username=f"person{number}", subject_kind="model", subject_name="churn", role="scientist")
        create_key(actor=admin, name=f"key{number}", scopes=["read"])
    for path, queries in (("people", 3), ("keys", 2), ("audit", 2)):
        with django_assert_num_queries(queries):
            assert len(api.get(f"/api/v1/{path}/").json()["results"]) > rows
