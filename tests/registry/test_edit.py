"""Words can be edited, against the revision that was seen; everything else is frozen."""

from __future__ import annotations

import pytest

from access.models import AuditEntry
from core.errors import Forbidden
from registry.edit import edit_model, edit_version
from registry.errors import Changed, NotAllowed
from registry.models import Model, Version


def test_edits_a_model_and_says_from_and_to(scientist, register):
    register()
    edited = edit_model(actor=scientist, model="churn", description="who leaves", tags={"team": "growth"}, revision=1)
    assert (edited.revision, Model.objects.get().description) == (2, "who leaves")
    entry = AuditEntry.objects.get(verb="edit")
    assert (entry.before, entry.after) == ({"description": "", "tags": {}}, {"description": "who leaves", "tags": {"team": "growth"}})


def test_refuses_a_stale_revision_and_overwrites_nothing(scientist, register):
    register()
    edit_model(actor=scientist, model="churn", description="first", revision=1)
    with pytest.raises(Changed) as refusal:
        edit_model(actor=scientist, model="churn", description="second", revision=1)
    assert refusal.value.detail == {"revision": 2, "seen_revision": 1, "by": "scientist", "after": {"description": "first"}}
    assert Model.objects.get().description == "first"


def test_tells_the_second_editor_of_a_version_what_the_first_did(scientist, operator, register):
    register()
    edited = edit_version(actor=operator, model="churn", version=1, tags={"team": "growth"}, metrics={"auc": 0.9}, revision=1)
    assert edited.revision == 2
    with pytest.raises(Changed) as refusal:
        edit_version(actor=scientist, model="churn", version=1, tags={}, revision=1)
    assert refusal.value.message == (
        "churn v1 was edited while you looked at it. operator set metrics to auc = 0.9; tags to team = growth. "
        "Nothing was overwritten; look at it again, at revision 2."
    )
    assert Version.objects.get().tags == {"team": "growth"}
    assert AuditEntry.objects.filter(verb="edit").count() == 1
    assert edit_version(actor=scientist, model="churn", version=1, tags={}, revision=2).revision == 3


def test_writes_nothing_when_nothing_changes(scientist, register):
    register()
    assert edit_model(actor=scientist, model="churn", description="").revision == 1
    assert edit_version(actor=scientist, model="churn", version=1, metrics={}).revision == 1
    assert not AuditEntry.objects.filter(verb="edit").exists()


def test_edits_the_words_of_a_version_only(scientist, register):
    register()
    before = Version.objects.values("id", "number", "state", "signature", "created_by", "created_at").get()
    edit_version(actor=scientist, model="churn", version=1, description="better", tags={"a": "b"}, metrics={"auc": 0.9})
    version = Version.objects.get()
    assert (version.description, version.tags, version.metrics) == ("better", {"a": "b"}, {"auc": 0.9})
    assert Version.objects.values(*before).get() == before


def test_refuses_wrong_words_and_people(scientist, viewer, register):
    register()
    with pytest.raises(NotAllowed):
        edit_version(actor=scientist, model="churn", version=1, metrics={"auc": float("inf")})
    with pytest.raises(Forbidden):
        edit_version(actor=viewer, model="churn", version=1, description="x")
    with pytest.raises(Forbidden):
        edit_model(actor=viewer, model="churn", description="x")
    assert not AuditEntry.objects.filter(verb="edit").exists()
