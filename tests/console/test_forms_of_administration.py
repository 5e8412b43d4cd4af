"""Signing in, API keys, people, the audit log: each form's success, its refusal, and that a refusal changes nothing."""

from __future__ import annotations

import csv
import io

import pytest
from django.test import Client

from access.actors import Actor
from access.models import ApiKey, AuditEntry, Grant, Person
from access.people import create_person
from access.sign_in import create_link
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
