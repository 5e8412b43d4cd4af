"""Signing in, API keys, people, the audit log: each form's success, its refusal, and that a refusal changes nothing."""

from __future__ import annotations

import csv
import io
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from access.actors import Actor
from access.keys import create_key, revoke_key
from access.models import ApiKey, AuditEntry, Grant, Person
from access.people import create_person
from access.sign_in import create_link
from console.settings_page import settings_of
from core.clock import now
from core.environment import SET_BY_UP, Environment
from serving.models import KeyUsage
from tests.conftest import ClientOf


@pytest.fixture
def ada(admin: Actor) -> Person:
    return Person.objects.create_user(username="ada", role="operator", password="a long password here")


def test_a_password_signs_in_and_goes_where_it_was_wanted(client: Client, ada: Person) -> None:
    answer = client.post("/sign-in/", {"username": "ada", "password": "a long password here", "next": "/models/"})
    assert answer["Location"] == "/models/"
    assert client.get("/models/").status_code == 200


def test_signing_in_never_leads_to_another_site(client: Client, ada: Person) -> None:
    answer = client.post("/sign-in/", {"username": "ada", "password": "a long password here", "next": "https://elsewhere.example/"})
    assert answer["Location"] == "/"


def test_five_wrong_passwords_lock_the_name_and_say_until_when(client: Client, ada: Person) -> None:
    answers = [client.post("/sign-in/", {"username": "ada", "password": "wrong"}) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [422, 422, 422, 422, 429]
    assert "locked until" in answers[-1].content.decode()
    assert client.post("/sign-in/", {"username": "ada", "password": "a long password here"}).status_code == 429
    assert "_auth_user_id" not in client.session


def test_looking_at_a_link_does_not_use_it_up(client: Client, ada: Person) -> None:
    token = create_link(ada)
    assert [client.get(f"/sign-in/{token}/").status_code for _ in range(3)] == [200, 200, 200]
    assert client.post(f"/sign-in/{token}/")["Location"] == "/"
    assert Client().post(f"/sign-in/{token}/").status_code == 401
    used = Client().get(f"/sign-in/{token}/")
    assert (used.status_code, "works once and for" in used.content.decode()) == (401, False)
    assert "This sign-in link was used at" in used.content.decode()
    assert "“signalbox sign-in”" in used.content.decode()


def test_somebody_without_a_password_is_asked_to_set_one(client: Client, admin: Actor) -> None:
    token = create_link(create_person(actor=admin, username="new", role="viewer"))
    assert client.post(f"/sign-in/{token}/")["Location"] == "/password/"
    assert client.post("/password/", {"new_password1": "short", "new_password2": "short"}).status_code == 422
    assert not Person.objects.get(username="new").has_usable_password()
    assert client.post("/password/", {"new_password1": "corn flower 1887", "new_password2": "corn flower 1887"}).status_code == 302
    assert Person.objects.get(username="new").check_password("corn flower 1887")
    assert AuditEntry.objects.filter(verb="set_password", subject_name="new").count() == 1


def test_changing_a_password_needs_the_present_one(client: Client, ada: Person) -> None:
    client.force_login(ada, backend="django.contrib.auth.backends.ModelBackend")
    new = {"new_password1": "corn flower 1887", "new_password2": "corn flower 1887"}
    assert client.post("/password/", {"old_password": "wrong", **new}).status_code == 422
    assert Person.objects.get(username="ada").check_password("a long password here")


def test_signing_out_takes_a_post(client: Client, ada: Person) -> None:
    client.force_login(ada, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/")["Location"] == "/sign-in/"
    assert client.get("/models/").status_code == 302


def test_a_new_key_is_shown_once(client_of: ClientOf) -> None:
    client = client_of("admin")
    answer = client.post("/keys/", {"name": "billing", "scopes": ["predict"], "expires": "2099-01-31"})
    key = ApiKey.objects.get()
    assert (answer.status_code, answer["Cache-Control"].find("no-store") >= 0) == (201, True)
    assert f"sbx_{key.id}_" in answer.content.decode()
    assert key.secret_digest not in answer.content.decode()
    assert f"sbx_{key.id}_…" in client.get("/keys/").content.decode()
    assert (key.scopes, key.expires_at and key.expires_at.isoformat()) == (["predict"], "2099-01-31T23:59:59.999999+00:00")


@pytest.mark.parametrize(
    "form",
    [
        {"name": "", "scopes": ["predict"]},
        {"name": "x"},
        {"name": "x", "scopes": ["predict"], "expires": "2001-01-01"},
        {"name": "x", "scopes": ["predict"], "expires": "soon"},
    ],
)
def test_a_wrong_key_form_issues_nothing_and_keeps_what_was_typed(client_of: ClientOf, form: dict[str, object]) -> None:
    answer = client_of("admin").post("/keys/", form)
    assert answer.status_code in {400, 422}
    assert 'role="alert"' in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_revoking_asks_first(client_of: ClientOf) -> None:
    client = client_of("admin")
    client.post("/keys/", {"name": "billing", "scopes": ["predict"]})
    key = ApiKey.objects.get()
    assert "Revoke the key billing?" in client.get(f"/keys/{key.id}/revoke/").content.decode()
    assert ApiKey.objects.get().revoked_at is None
    assert client.post(f"/keys/{key.id}/revoke/")["Location"] == "/keys/"
    assert ApiKey.objects.get().revoked_at is not None


def test_a_new_key_has_the_limits_of_the_form_and_an_empty_field_is_none(client_of: ClientOf) -> None:
    form = {"name": "billing", "scopes": ["predict"], "requests_per_s": "2.5", "burst": "5", "max_rows": "", "rows_per_day": "50000"}
    form |= {"max_body_bytes": "65536", "timeout_ms": "500"}
    client = client_of("admin")
    assert client.post("/keys/", form).status_code == 201
    assert ApiKey.objects.get().limits == {"requests_per_s": 2.5, "burst": 5, "rows_per_day": 50_000, "max_body_bytes": 65_536, "timeout_ms": 500}
    assert "2.5/s, burst 5 · 65.5 kB per request · 500 ms per answer" in client.get("/keys/").content.decode()


@pytest.mark.parametrize(("name", "value"), [("rows_per_day", "many"), ("burst", "5"), ("max_rows", "-1"), ("requests_per_s", "nan"), ("rows_in_all", "1e99")])
def test_a_wrong_limit_issues_nothing_and_is_shown_again(client_of: ClientOf, name: str, value: str) -> None:
    answer = client_of("admin").post("/keys/", {"name": "billing", "scopes": ["predict"], name: value})
    html = answer.content.decode()
    assert (answer.status_code in {400, 422}, 'role="alert"' in html, f'value="{value}"' in html) == (True, True, True)
    assert '<details class="group" open>' in html
    assert not ApiKey.objects.exists()


def test_the_list_shows_limits_and_use_beside_the_budget_in_a_known_number_of_queries(
    client_of: ClientOf, admin: Actor, django_assert_max_num_queries: Any
) -> None:
    client = client_of("admin")
    limits = {"requests_per_s": 10, "burst": 20, "max_rows": 1, "rows_per_day": 50_000, "rows_in_all": 1_000_000}
    keys = [create_key(actor=admin, name=f"billing {number}", scopes=["predict"], limits=limits).key for number in range(3)]
    plain = create_key(actor=admin, name="plain", scopes=["predict"]).key
    for key, process in [(keys[0].id, uuid4()), (keys[0].id, uuid4()), (plain.id, uuid4())]:
        KeyUsage.objects.create(key_id=key, day=now().date(), process=process, requests=2, rows=6_200)
    with django_assert_max_num_queries(12):
        html = client.get("/keys/").content.decode()
    assert [html.count(text) for text in (">12,400 of 50,000 rows today", ">12,400 of 1,000,000 rows in all", ">0 of 50,000 rows today")] == [1, 1, 2]
    assert html.count("10/s, burst 20 · 1 row per request") == 3
    assert html.count(">6,200 rows today<") == 1


def test_limits_are_shown_with_the_last_days_and_changed_with_a_reason(client_of: ClientOf, admin: Actor) -> None:
    client = client_of("admin")
    key = create_key(actor=admin, name="billing", scopes=["predict"], limits={"requests_per_s": 10, "burst": 20}).key
    KeyUsage.objects.create(key_id=key.id, day=date(2026, 1, 1), process=uuid4(), requests=2, rows=6_200)
    KeyUsage.objects.create(key_id=key.id, day=now().date(), process=uuid4(), requests=3, rows=1_234)
    html = client.get(f"/keys/{key.id}/limits/").content.decode()
    assert [html.count(text) for text in ('value="10"', 'value="20"', ">1,234<", ">6,200<", "1,234 rows today")] == [1, 1, 1, 0, 1]
    answer = client.post(f"/keys/{key.id}/limits/", {"requests_per_s": "", "burst": "", "rows_per_day": "500", "reason": "a trial"})
    assert (answer.status_code, answer["Location"], ApiKey.objects.get().limits) == (302, "/keys/", {"rows_per_day": 500})
    assert AuditEntry.objects.get(verb="limit").reason == "a trial"


def test_wrong_limits_change_nothing_and_are_shown_again(client_of: ClientOf, admin: Actor) -> None:
    client = client_of("admin")
    key = create_key(actor=admin, name="billing", scopes=["predict"], limits={"rows_per_day": 7}).key
    answer = client.post(f"/keys/{key.id}/limits/", {"burst": "5", "rows_per_day": "8", "reason": "why"})
    html = answer.content.decode()
    assert (answer.status_code, "A burst needs a rate" in html, 'value="8"' in html, 'value="why"' in html) == (400, True, True, True)
    assert ApiKey.objects.get().limits == {"rows_per_day": 7}
    revoke_key(actor=admin, key_id=key.id)
    assert client.post(f"/keys/{key.id}/limits/", {"rows_per_day": "8"}).status_code == 422
    assert "Save the limits" not in client.get(f"/keys/{key.id}/limits/").content.decode()
    assert ApiKey.objects.get().limits == {"rows_per_day": 7}
    assert client_of("operator").post(f"/keys/{key.id}/limits/", {"rows_per_day": "8"}).status_code == 403


def test_operators_cannot_make_keys(client_of: ClientOf) -> None:
    assert client_of("operator").post("/keys/", {"name": "x", "scopes": ["admin"]}).status_code == 403
    assert not ApiKey.objects.exists()


def test_adding_somebody_shows_their_link_once(client_of: ClientOf) -> None:
    client = client_of("admin")
    answer = client.post("/people/", {"username": "new", "role": "scientist"})
    assert answer.status_code == 201
    assert "http://testserver/sign-in/" in answer.content.decode()
    assert "/sign-in/" not in client.get("/people/").content.decode().replace('action="/sign-out/"', "")
    assert Person.objects.get(username="new").role == "scientist"


@pytest.mark.parametrize("form", [{"username": "admin", "role": "viewer"}, {"username": "a b", "role": "viewer"}, {"username": "new", "role": "king"}])
def test_a_wrong_person_form_adds_nobody(client_of: ClientOf, form: dict[str, str]) -> None:
    client = client_of("admin")
    assert client.post("/people/", form).status_code in {400, 409, 422}
    assert Person.objects.count() == 1


def test_a_role_is_changed_with_its_reason(client_of: ClientOf, ada: Person) -> None:
    assert client_of("admin").post("/people/ada/", {"do": "role", "role": "viewer", "reason": "left the team"}).status_code == 302
    assert Person.objects.get(username="ada").role == "viewer"
    assert AuditEntry.objects.get(verb="change_role").reason == "left the team"


@pytest.mark.parametrize("form", [{"do": "role", "role": "viewer"}, {"do": "deactivate"}])
def test_the_last_admin_stays(client_of: ClientOf, form: dict[str, str]) -> None:
    answer = client_of("admin").post("/people/admin/", form)
    assert answer.status_code == 422
    assert "last admin" in answer.content.decode()
    assert Person.objects.filter(role="admin", is_active=True).count() == 1


def test_a_grant_is_given_and_taken(client_of: ClientOf, ada: Person) -> None:
    client = client_of("admin")
    where = {"subject_kind": "model", "subject_name": "churn"}
    client.post("/people/ada/", {"do": "grant", "role": "operator", **where})
    assert Grant.objects.get().role == "operator"
    client.post("/people/ada/", {"do": "ungrant", **where})
    assert not Grant.objects.exists()


def test_a_form_that_says_nothing_changes_nothing(client_of: ClientOf, ada: Person) -> None:
    assert client_of("admin").post("/people/ada/", {"do": "explode"}).status_code == 422


def test_the_audit_log_is_filtered_and_exported_alike(client_of: ClientOf, ada: Person) -> None:
    client = client_of("admin")
    client.post("/people/ada/", {"do": "role", "role": "viewer", "reason": "=1+1"})
    client.post("/keys/", {"name": "billing", "scopes": ["predict"]})
    page = client.get("/audit/", {"kind": "person"}).content.decode()
    assert ("change_role" in page, "billing" in page) == (True, False)
    answer = client.get("/audit/export/", {"kind": "person"})
    rows = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))  # type: ignore[attr-defined]  # it streams
    assert [(row["verb"], row["reason"]) for row in rows] == [("change_role", "'=1+1")]
    assert "attachment" in answer["Content-Disposition"]


def test_no_secret_is_on_the_settings_page(client_of: ClientOf) -> None:
    from core.environment import environment

    page = client_of("viewer").get("/settings/").content.decode()
    assert environment().session_secret not in page
    assert "SIGNALBOX_VAR_DIR" in page


def test_the_settings_page_says_who_set_what(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"SIGNALBOX_VAR_DIR": str(Environment.model_fields["var_dir"].default), "SIGNALBOX_CONSOLE_PORT": "43210", "SIGNALBOX_PREDICT_PORT": "8701"}
    for name, value in {**chosen, SET_BY_UP: ",".join(chosen), "SIGNALBOX_HOST": "0.0.0.0", "SIGNALBOX_GRPC_PORT": "8702"}.items():
        monkeypatch.setenv(name, value)
    sources = {setting.variable.removeprefix("SIGNALBOX_"): setting.source for setting in settings_of(Environment())}
    asked = ("VAR_DIR", "CONSOLE_PORT", "PREDICT_PORT", "HOST", "GRPC_PORT", "WORKER_PROCESSES")
    assert [sources[name] for name in asked] == ["default", "signalbox up", "default", "environment", "environment", "default"]
