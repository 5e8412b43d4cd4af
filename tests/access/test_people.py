"""People: made, promoted, granted, locked out; and never left without an admin."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from access import people
from access.errors import LastAdmin, NameNotAllowed, NameTaken
from access.keys import create_key
from access.models import ApiKey, AuditEntry, Grant, Person
from access.rights import RIGHTS_OF_ROLE, Right
from core.errors import Forbidden, NotFound, SignalboxError, Unprocessable


def test_makes_somebody_who_has_no_password_yet(admin):
    person = people.create_person(actor=admin, username="ada", role="scientist", email="ada@example.org")
    assert (person.role, person.has_usable_password(), person.is_active) == ("scientist", False, True)
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.subject_name, entry.after) == ("create", "ada", {"role": "scientist", "email": "ada@example.org"})


@pytest.mark.parametrize("username", ["", "..", "-a", "a b", "a/b", "é", "a\0", "a" * 101])
def test_refuses_other_user_names(admin, username):
    with pytest.raises(NameNotAllowed):
        people.create_person(actor=admin, username=username, role="viewer")
    assert Person.objects.count() == 1


def test_refuses_a_name_that_is_taken(admin):
    with pytest.raises(NameTaken):
        people.create_person(actor=admin, username="admin", role="viewer")
    assert AuditEntry.objects.count() == 0


def test_gives_an_actor_with_role_and_grants_in_one_query(admin, django_assert_num_queries):
    person = people.create_person(actor=admin, username="ada", role="viewer")
    people.add_grant(actor=admin, username="ada", subject_kind="model", subject_name="churn", role="scientist")
    people.add_grant(actor=admin, username="ada", subject_kind="endpoint", subject_name="scorer", role="operator")
    with django_assert_num_queries(1):
        actor = people.actor_of(person, "10.0.0.7")
    assert actor.rights == {"*": RIGHTS_OF_ROLE["viewer"], "model:churn": RIGHTS_OF_ROLE["scientist"], "endpoint:scorer": RIGHTS_OF_ROLE["operator"]}
    assert actor.may(Right.MODEL_REGISTER, "model:churn")
    assert not actor.may(Right.MODEL_REGISTER, "model:fraud")


def test_changes_a_grant_that_is_there_and_removes_it(admin, viewer):
    people.add_grant(actor=admin, username="viewer", subject_kind="model", subject_name="churn", role="scientist")
    people.add_grant(actor=admin, username="viewer", subject_kind="model", subject_name="churn", role="operator")
    assert Grant.objects.get().role == "operator"
    people.remove_grant(actor=admin, username="viewer", subject_kind="model", subject_name="churn")
    assert Grant.objects.count() == 0
    with pytest.raises(NotFound):
        people.remove_grant(actor=admin, username="viewer", subject_kind="model", subject_name="churn")
    assert [entry.verb for entry in AuditEntry.objects.order_by("at")] == ["add_grant", "add_grant", "remove_grant"]


def test_changes_a_role_and_says_from_and_to(admin, viewer):
    people.change_role(actor=admin, username="viewer", role="operator", reason="on call")
    entry = AuditEntry.objects.get()
    assert (entry.before, entry.after, entry.reason) == ({"role": "viewer"}, {"role": "operator"}, "on call")
    assert Person.objects.get(username="viewer").role == "operator"


def test_ends_the_keys_that_may_do_more_than_the_new_role(admin, monkeypatch):
    people.create_person(actor=admin, username="ada", role="admin")
    ada = people.actor_of(Person.objects.get(username="ada"))
    issued = {scope: create_key(actor=ada, name=scope, scopes=[scope]).key.id for scope in ("admin", "operate", "predict", "read")}
    others = create_key(actor=admin, name="other", scopes=["admin"]).key.id
    announced: list[int] = []
    monkeypatch.setattr("access.keys.on_keys_changed", [lambda: announced.append(1)])
    people.change_role(actor=admin, username="ada", role="scientist")
    assert set(ApiKey.objects.filter(revoked_at=None).values_list("id", flat=True)) == {issued["predict"], issued["read"], others}
    assert announced == [1]
    assert AuditEntry.objects.filter(verb="revoke", subject_kind="key", actor_id=admin.id, reason="ada became scientist").count() == 2


def test_refuses_an_unknown_role(admin, viewer):
    with pytest.raises(Unprocessable, match="root"):
        people.change_role(actor=admin, username="viewer", role="root")
    assert Person.objects.get(username="viewer").role == "viewer"


@pytest.mark.parametrize("verb", [people.deactivate, lambda **who: people.change_role(role="operator", **who)])
def test_keeps_the_last_admin(admin, verb):
    with pytest.raises(LastAdmin):
        verb(actor=admin, username="admin")
    person = Person.objects.get()
    assert (person.role, person.is_active) == ("admin", True)
    assert AuditEntry.objects.count() == 0


def test_keeps_one_admin_when_two_lock_each_other_out_at_once(transactional_db, admin):
    people.create_person(actor=admin, username="second", role="admin")
    together, failures = threading.Barrier(2), []

    def lock_out(username: str) -> None:
        try:
            together.wait()
            people.deactivate(actor=admin, username=username)
        except SignalboxError as error:
            failures.append(type(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=lock_out, args=[name]) for name in ("admin", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [LastAdmin]
    assert Person.objects.filter(is_active=True, role="admin").count() == 1


def test_locks_out_at_once_and_revokes_the_keys(admin, client_of):
    people.create_person(actor=admin, username="second", role="admin")
    client = client_of("admin")
    create_key(actor=admin, name="mine", scopes=["read"])
    assert client.get("/api/v1/me/").status_code == 200
    second = people.actor_of(Person.objects.get(username="second"))
    people.deactivate(actor=second, username="admin", reason="left")
    assert client.get("/api/v1/me/").status_code == 401
    assert ApiKey.objects.get().revoked_at is not None
    people.activate(actor=second, username="admin")
    assert ApiKey.objects.get().revoked_at is not None
    assert [entry.verb for entry in AuditEntry.objects.order_by("at")] == ["create", "create", "revoke", "deactivate", "activate"]


def test_changes_role_and_lock_out_together_or_neither(admin, viewer):
    people.create_person(actor=admin, username="ada", role="scientist")
    person = people.change_person(actor=admin, username="ada", role="viewer", active=False)
    assert (person.role, person.is_active) == ("viewer", False)
    with pytest.raises(LastAdmin):
        people.change_person(actor=admin, username="admin", role="admin", active=False)


def test_sets_ones_own_password_if_it_is_good(viewer):
    with pytest.raises(Unprocessable, match="12 characters"):
        people.set_password(actor=viewer, password="short")
    person = people.set_password(actor=viewer, password="correct horse battery")
    assert person.check_password("correct horse battery")
    assert "horse" not in str(AuditEntry.objects.values().get())


@pytest.mark.parametrize("who", ["viewer", "scientist", "operator"])
def test_lets_only_an_admin_manage_people(request, admin, who):
    actor = request.getfixturevalue(who)
    attempts = [
        lambda: people.create_person(actor=actor, username="x", role="admin"),
        lambda: people.change_role(actor=actor, username=who, role="admin"),
        lambda: people.deactivate(actor=actor, username="admin"),
        lambda: people.activate(actor=actor, username="admin"),
        lambda: people.change_person(actor=actor, username=who, role="admin"),
        lambda: people.add_grant(actor=actor, username=who, subject_kind="model", subject_name="churn", role="admin"),
        lambda: people.remove_grant(actor=actor, username=who, subject_kind="model", subject_name="churn"),
    ]
    before = list(Person.objects.order_by("pk").values())
    for attempt in attempts:
        with pytest.raises(Forbidden, match=r"people\.manage"):
            attempt()
    assert list(Person.objects.order_by("pk").values()) == before
    assert AuditEntry.objects.count() == Grant.objects.count() == 0
