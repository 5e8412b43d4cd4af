"""Sign-in links work once, for 15 minutes, for people who are not locked out."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection

from access.errors import LinkNotValid
from access.models import AuditEntry, Person, SignInLink
from access.people import create_person
from access.sign_in import check_link, create_link, invite, use_link
from core.clock import now
from core.errors import Forbidden, NotFound


@pytest.fixture
def ada(admin) -> Person:
    return create_person(actor=admin, username="ada", role="viewer")


def test_signs_in_once(ada):
    token = create_link(ada)
    assert use_link(token, "10.0.0.7") == ada
    with pytest.raises(LinkNotValid):
        use_link(token)
    entry = AuditEntry.objects.get(verb="sign_in")
    assert (entry.subject_name, entry.address) == ("ada", "10.0.0.7")


def test_a_link_is_looked_at_without_being_spent_and_says_that_it_was_used(ada):
    token = create_link(ada)
    check_link(token)
    assert SignInLink.objects.get().used_at is None
    use_link(token)
    used_at = SignInLink.objects.get().used_at
    for again in (check_link, use_link):
        with pytest.raises(LinkNotValid, match=rf"was used at {used_at:%H:%M:%S} UTC.* works once\. Ask an admin .* “signalbox sign-in”"):
            again(token)
    for unknown in ("", "x"):
        with pytest.raises(LinkNotValid, match=r"older than 15 minutes, or there never was .* “signalbox sign-in”"):
            check_link(unknown)


def test_keeps_only_the_digest(ada):
    token = create_link(ada)
    assert token not in str(SignInLink.objects.values().get())


def test_lasts_fifteen_minutes(ada):
    token = create_link(ada)
    left = SignInLink.objects.get().expires_at - now()
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    SignInLink.objects.update(expires_at=now())
    with pytest.raises(LinkNotValid, match="older than 15 minutes"):
        use_link(token)


def test_refuses_somebody_who_is_locked_out(ada):
    token = create_link(ada)
    Person.objects.filter(pk=ada.pk).update(is_active=False)
    for attempt in (check_link, use_link):
        with pytest.raises(LinkNotValid, match=r"^This sign-in link is for somebody who may not sign in any more\. Ask an admin\.$"):
            attempt(token)
    assert SignInLink.objects.get().used_at is None


@pytest.mark.parametrize("token", ["", "x", "\0", "\ud800", "a" * 10_000])
def test_refuses_what_is_no_token(db, token):
    with pytest.raises(LinkNotValid):
        use_link(token)


def test_lets_one_of_two_uses_at_once_in(transactional_db, ada):
    token, together, results = create_link(ada), threading.Barrier(2), []

    def use() -> None:
        try:
            together.wait()
            results.append(use_link(token).username)
        except LinkNotValid:
            results.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["ada", "refused"]


def test_lets_an_admin_invite(admin, operator, ada):
    assert use_link(invite(actor=admin, username="ada")) == ada
    with pytest.raises(NotFound):
        invite(actor=admin, username="nobody")
    with pytest.raises(Forbidden):
        invite(actor=operator, username="ada")
    assert SignInLink.objects.count() == 1
