"""API keys: issued once, limited to scopes and endpoints, revoked at once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from access import keys
from access.errors import KeyNotValid, NameNotAllowed
from access.keys import actor_of_key, create_key, limit_key, revoke_key
from access.models import ApiKey, AuditEntry
from access.rights import READ_RIGHTS, Right
from core.clock import now
from core.errors import Forbidden, Invalid, NotFound, Unprocessable
from tests.at_once import at_once


def test_shows_the_key_once_and_keeps_only_its_digest(admin):
    issued = create_key(actor=admin, name="scorer", scopes=["predict"])
    row = ApiKey.objects.values().get()
    assert issued.text not in str(row)
    assert issued.text.split("_")[2] not in str(row) + str(AuditEntry.objects.values().get()) + repr(issued)
    assert row["secret_digest"] == issued.key.secret_digest


def test_gives_the_actor_of_the_key_in_one_query(admin, django_assert_num_queries):
    issued = create_key(actor=admin, name="scorer", scopes=["predict", "outcomes"])
    with django_assert_num_queries(1):
        actor = actor_of_key(issued.text, "10.0.0.7")
    assert (actor.kind, actor.id, actor.name, actor.address) == ("key", f"key:{issued.key.id}", "scorer", "10.0.0.7")
    assert actor.rights == {"*": {Right.PREDICT, Right.OUTCOMES_SEND}}


def test_limits_a_key_to_its_endpoints(admin):
    actor = actor_of_key(create_key(actor=admin, name="one", scopes=["read", "predict"], endpoints=["churn"]).text)
    assert actor.rights == {"endpoint:churn": READ_RIGHTS | {Right.PREDICT}}
    assert actor.may(Right.PREDICT, "endpoint:churn")
    assert not actor.may(Right.PREDICT, "endpoint:fraud")
    assert not actor.may(Right.PREDICT)


def test_refuses_a_revoked_key(admin):
    issued = create_key(actor=admin, name="scorer", scopes=["predict"])
    revoke_key(actor=admin, key_id=issued.key.id)
    with pytest.raises(KeyNotValid):
        actor_of_key(issued.text)


def test_refuses_an_expired_key(admin):
    issued = create_key(actor=admin, name="scorer", scopes=["predict"], expires_at=now() + timedelta(hours=1))
    assert actor_of_key(issued.text).name == "scorer"
    ApiKey.objects.update(expires_at=now())
    with pytest.raises(KeyNotValid):
        actor_of_key(issued.text)


def test_refuses_the_right_id_with_another_secret(admin):
    first, second = (create_key(actor=admin, name=name, scopes=["predict"]) for name in ("one", "two"))
    ApiKey.objects.filter(id=first.key.id).update(secret_digest=second.key.secret_digest)
    with pytest.raises(KeyNotValid):
        actor_of_key(first.text)


@pytest.mark.parametrize("text", ["", "sbx", "sbx_a_b", "Bearer", "sbx_000000000000_" + "0" * 49, "\0", "é" * 66])
def test_refuses_what_is_no_key(db, text):
    with pytest.raises(KeyNotValid):
        actor_of_key(text)


@pytest.mark.parametrize("who", ["viewer", "scientist", "operator"])
def test_lets_only_an_admin_issue_and_revoke(request, admin, who):
    issued, actor = create_key(actor=admin, name="scorer", scopes=["read"]), request.getfixturevalue(who)
    with pytest.raises(Forbidden, match=r"key\.manage"):
        create_key(actor=actor, name="mine", scopes=["admin"])
    with pytest.raises(Forbidden):
        revoke_key(actor=actor, key_id=issued.key.id)
    with pytest.raises(Forbidden):
        limit_key(actor=actor, key_id=issued.key.id, limits={"max_rows": 1})
    assert (ApiKey.objects.get().revoked_at, ApiKey.objects.get().limits) == (None, {})
    assert AuditEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": " "}, NameNotAllowed),
        ({"name": "a\nb"}, NameNotAllowed),
        ({"scopes": []}, Unprocessable),
        ({"scopes": ["predict", "root"]}, Unprocessable),
        ({"expires_at": now() - timedelta(days=1)}, Unprocessable),
        ({"limits": {"burst": 5}}, Invalid),
    ],
)
def test_issues_nothing_when_something_is_wrong(admin, changes, error):
    with pytest.raises(error):
        create_key(actor=admin, **{"name": "scorer", "scopes": ["predict"], **changes})
    assert ApiKey.objects.count() == AuditEntry.objects.count() == 0


def test_revokes_once_and_audits_once(admin):
    issued = create_key(actor=admin, name="scorer", scopes=["predict"])
    first = revoke_key(actor=admin, key_id=issued.key.id, reason="leaked").revoked_at
    assert revoke_key(actor=admin, key_id=issued.key.id).revoked_at == first
    entry = AuditEntry.objects.get(verb="revoke")
    assert (entry.subject_kind, entry.subject_name, entry.reason, entry.actor_name) == ("key", f"scorer ({issued.key.id})", "leaked", "admin")


def test_says_that_there_is_no_such_key(admin):
    with pytest.raises(NotFound):
        revoke_key(actor=admin, key_id="nope")


def test_tells_whoever_holds_keys_in_memory(admin, monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(keys, "on_keys_changed", [lambda: told.append(ApiKey.objects.filter(revoked_at=None).count())])
    issued = create_key(actor=admin, name="scorer", scopes=["predict"])
    revoke_key(actor=admin, key_id=issued.key.id)
    revoke_key(actor=admin, key_id=issued.key.id)
    assert told == [1, 0]


def test_sets_the_named_limits_and_audits_from_and_to(admin):
    first = {"requests_per_s": 10.0, "burst": 20}
    issued = create_key(actor=admin, name="scorer", scopes=["predict"], limits={"requests_per_s": 10, "burst": 20, "max_rows": 0})
    assert (issued.key.limits, AuditEntry.objects.values_list("after__limits", flat=True).get()) == (first, first)
    key = limit_key(actor=admin, key_id=issued.key.id, limits={"burst": 0, "rows_per_day": 500}, reason="trial")
    assert key.limits == ApiKey.objects.get().limits == {"requests_per_s": 10.0, "rows_per_day": 500}
    entry = AuditEntry.objects.get(verb="limit")
    assert (entry.before, entry.after, entry.reason) == ({"limits": first}, {"limits": key.limits}, "trial")


def test_limits_that_stay_write_and_announce_nothing(admin, monkeypatch):
    issued = create_key(actor=admin, name="scorer", scopes=["predict"], limits={"rows_per_day": 500})
    told: list[dict[str, int]] = []
    monkeypatch.setattr(keys, "on_keys_changed", [lambda: told.append(ApiKey.objects.get().limits)])
    limit_key(actor=admin, key_id=issued.key.id, limits={"rows_per_day": 500, "max_rows": 0})
    assert (told, AuditEntry.objects.filter(verb="limit").count()) == ([], 0)
    limit_key(actor=admin, key_id=issued.key.id, limits={"rows_per_day": 501})
    assert told == [{"rows_per_day": 501}]


def test_limits_no_revoked_and_no_unknown_key(admin):
    issued = create_key(actor=admin, name="scorer", scopes=["predict"])
    revoke_key(actor=admin, key_id=issued.key.id)
    with pytest.raises(Unprocessable, match="scorer is revoked"):
        limit_key(actor=admin, key_id=issued.key.id, limits={"max_rows": 1})
    with pytest.raises(NotFound):
        limit_key(actor=admin, key_id="nope", limits={"max_rows": 1})
    assert (ApiKey.objects.get().limits, AuditEntry.objects.filter(verb="limit").count()) == ({}, 0)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_limit_a_key_at_once_none_undoes_another(admin):
    key = create_key(actor=admin, name="scorer", scopes=["predict"]).key
    wanted = {"max_rows": 100, "max_concurrency": 4, "rows_per_day": 500, "rows_in_all": 9_000}
    results = at_once(*[lambda one=one: limit_key(actor=admin, key_id=key.id, limits=dict([one])) for one in wanted.items()] * 2)
    assert [result for result in results if isinstance(result, Exception)] == []
    assert ApiKey.objects.get().limits == wanted
    chain = list(AuditEntry.objects.filter(verb="limit").order_by("id").values_list("before", "after"))
    assert len(chain) == 4
    assert {str(after) for _, after in chain} - {str(before) for before, _ in chain} == {str({"limits": ApiKey.objects.get().limits})}


@pytest.mark.django_db(transaction=True)
def test_a_key_that_is_revoked_meanwhile_is_limited_before_or_not_at_all(admin):
    key = create_key(actor=admin, name="scorer", scopes=["predict"]).key
    limited, _ = at_once(lambda: limit_key(actor=admin, key_id=key.id, limits={"max_rows": 1}), lambda: revoke_key(actor=admin, key_id=key.id))
    row = ApiKey.objects.get()
    assert row.revoked_at is not None
    assert row.limits == ({} if isinstance(limited, Unprocessable) else {"max_rows": 1})
