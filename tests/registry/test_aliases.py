"""Aliases move by compare-and-set, with an audit row each."""

from __future__ import annotations

from typing import Any

import pytest

from access.models import AuditEntry
from core.errors import Forbidden
from registry.aliases import remove_alias, set_alias
from registry.errors import AliasNotFound, Changed, NotAllowed, NotReady, VersionNotFound
from registry.models import Alias


@pytest.fixture(autouse=True)
def versions(ready):
    return [ready() for _ in range(2)]


def _on() -> dict[str, int]:
    return dict(Alias.objects.values_list("name", "version__number"))


def _audited() -> list[tuple[Any, Any]]:
    entries = AuditEntry.objects.filter(verb__endswith="_alias").order_by("id")
    changes: list[tuple[Any, Any]] = list(entries.values_list("before__version", "after__version"))
    return changes


def test_puts_moves_and_removes_an_alias(scientist):
    set_alias(actor=scientist, model="churn", alias="champion", version=1, seen=0)
    set_alias(actor=scientist, model="churn", alias="champion", version=2, seen=1)
    assert _on() == {"champion": 2}
    remove_alias(actor=scientist, model="churn", alias="champion", seen=2)
    assert _on() == {}
    assert sorted(_audited(), key=str) == sorted([(None, 1), (1, 2), (2, None)], key=str)


def test_refuses_who_saw_an_older_state(scientist):
    set_alias(actor=scientist, model="churn", alias="champion", version=1)
    for attempt in (
        lambda: set_alias(actor=scientist, model="churn", alias="champion", version=2, seen=0),
        lambda: set_alias(actor=scientist, model="churn", alias="champion", version=2, seen=2),
        lambda: remove_alias(actor=scientist, model="churn", alias="champion", seen=2),
    ):
        with pytest.raises(Changed, match="on version 1 now"):
            attempt()
    assert _on() == {"champion": 1}
    assert _audited() == [(None, 1)]


def test_refuses_versions_that_cannot_be_used(scientist, versions):
    versions[0].state = "refused"
    versions[0].save()
    with pytest.raises(NotReady):
        set_alias(actor=scientist, model="churn", alias="champion", version=1)
    with pytest.raises(VersionNotFound):
        set_alias(actor=scientist, model="churn", alias="champion", version=3)
    with pytest.raises(NotAllowed):
        set_alias(actor=scientist, model="churn", alias="latest", version=2)
    with pytest.raises(AliasNotFound):
        remove_alias(actor=scientist, model="churn", alias="champion")
    assert _on() == {}


def test_refuses_a_viewer(viewer):
    with pytest.raises(Forbidden):
        set_alias(actor=viewer, model="churn", alias="champion", version=1)
    assert _on() == {}
