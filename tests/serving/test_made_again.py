"""An endpoint that is deleted and made again under the same name begins empty; what was logged stays under another."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from access.actors import Actor
from access.keys import create_key, rights_of
from access.models import ApiKey, AuditEntry, Grant
from access.people import actor_of, add_grant
from access.rights import Right
from core import jobs
from core.clock import now
from core.errors import Conflict
from core.ids import uuid7
from core.models import Job
from monitoring.models import Alert, DriftResult, Outcome, OutcomeBatch, Reference, Rule, Standing, WindowProfile
from registry.models import Version
from serving import seal
from serving.create_endpoint import create_endpoint
from serving.delete_endpoint import delete_endpoint
from serving.models import Endpoint, PredictionSegment, TrafficWindow
from serving.sealed_names import sealed_name
from tests.conftest import _person

NAME = "churn-scorer"


def _segment(name: str = NAME, *, age_s: float = 5.0) -> PredictionSegment:
    at = now() - timedelta(seconds=age_s)
    fixed = {"slot": "blue", "model": "churn", "version": 12, "build_digest": "0" * 64, "table_revision": 1, "rows": 1}
    return PredictionSegment.objects.create(id=uuid7(), endpoint=name, first_at=at, last_at=at, columns=b"", profiled_at=at, **fixed)


def _logged(name: str) -> None:
    """Leave something in each table that tells what happened at an endpoint."""
    at, of = now(), {"endpoint": name, "model": "churn", "version": 12}
    _segment(name)
    TrafficWindow.objects.create(level=10, start_at=at - timedelta(seconds=30), endpoint=name, slot="blue", version=12, process=uuid7(), latency=[])
    WindowProfile.objects.create(**of, slot="blue", level=300, start_at=at)
    DriftResult.objects.create(**of, feature="in.age", level=300, start_at=at, n=1, verdict="stable")
    Outcome.objects.create(**of, batch=OutcomeBatch.objects.create(actor_id="k", actor_name="k", rows=1), prediction_id=uuid7(), value=1, state="joined")
    Alert.objects.create(**of, cause="drift", dedup_key=f"{name} drift", severity="watch", title="t", first_at=at, last_at=at)
    Standing.objects.create(**of, verdict="severe", text="severe")
    Rule.objects.create(endpoint=name, alpha=0.5)
    Reference.objects.create(version=Version.objects.get(model__name="churn", number=12), endpoint=name, source="traffic", rows=1, document=b"")


TELLING = (PredictionSegment, TrafficWindow, WindowProfile, DriftResult, Outcome, Alert)
SETTING = (Standing, Rule, Reference)


def _seal() -> None:
    assert jobs.run(str(Job.objects.get(kind=seal.KIND, state="queued").id), seal.seal)


def test_a_re_made_endpoint_begins_empty_and_the_old_log_stays_readable(endpoint: Endpoint, operator: Actor) -> None:
    _logged(NAME)
    _logged("other")
    delete_endpoint(actor=operator, endpoint=NAME, revision=3)
    assert [table.objects.filter(endpoint=NAME).count() for table in SETTING] == [0, 0, 0]
    assert [(alert.state, alert.resolution) for alert in Alert.objects.filter(endpoint=NAME)] == [("resolved", "The endpoint was deleted.")]
    _seal()
    made = create_endpoint(actor=operator, name=NAME)
    assert [table.objects.filter(endpoint=made.name).count() for table in TELLING] == [0] * 6
    assert [table.objects.filter(endpoint__startswith=f"{NAME}~").count() for table in TELLING] == [1] * 6
    assert [table.objects.filter(endpoint="other").count() for table in TELLING + SETTING] == [1] * 9
    assert Alert.objects.get(endpoint="other").state == "open"


def test_the_name_is_not_free_before_its_log_is_sealed(endpoint: Endpoint, operator: Actor) -> None:
    _logged(NAME)
    delete_endpoint(actor=operator, endpoint=NAME, revision=3)
    with pytest.raises(Conflict, match="under way; try again"):
        create_endpoint(actor=operator, name=NAME)
    assert Endpoint.objects.count() == 0
    Job.objects.filter(kind=seal.KIND).update(state="dead")
    with pytest.raises(Conflict, match="has failed"):
        create_endpoint(actor=operator, name=NAME)
    Job.objects.filter(kind=seal.KIND).update(state="queued")
    _seal()
    assert create_endpoint(actor=operator, name=NAME).revision == 1


def test_can_be_deleted_and_made_again_any_number_of_times(endpoint: Endpoint, operator: Actor) -> None:
    for turn in range(3):
        _segment()
        delete_endpoint(actor=operator, endpoint=NAME, revision=Endpoint.objects.get().revision)
        Job.objects.filter(kind=seal.KIND, state="queued").update(payload={"sealed": sealed_name(NAME, f"turn{turn}")})
        _seal()
        create_endpoint(actor=operator, name=NAME)
    assert sorted(PredictionSegment.objects.values_list("endpoint", flat=True)) == [f"{NAME}~turn{turn}" for turn in range(3)]


def test_seals_in_small_steps_and_goes_on_after_a_crash(endpoint: Endpoint, operator: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "_BATCH", 2)
    for _ in range(5):
        _segment()
    delete_endpoint(actor=operator, endpoint=NAME, revision=3)
    PredictionSegment.objects.filter(id=PredictionSegment.objects.earliest("id").id).update(endpoint=Job.objects.get(kind=seal.KIND).payload["sealed"])
    _seal()
    assert len(set(PredictionSegment.objects.values_list("endpoint", flat=True))) == 1
    assert PredictionSegment.objects.filter(endpoint=NAME).count() == 0


def test_what_comes_late_is_sealed_too_and_what_is_new_is_not(endpoint: Endpoint, operator: Actor) -> None:
    delete_endpoint(actor=operator, endpoint=NAME, revision=3)
    _seal()
    made = create_endpoint(actor=operator, name=NAME)
    old, new = _segment(age_s=60.0), _segment(age_s=-1.0)
    process = UUID(int=1)
    for start in (made.created_at - timedelta(seconds=60), made.created_at + timedelta(seconds=1)):
        TrafficWindow.objects.create(level=10, start_at=start, endpoint=NAME, slot="blue", version=12, process=process, latency=[0] * 64)
    assert seal.seal_strays() == 1
    old.refresh_from_db()
    new.refresh_from_db()
    assert (old.endpoint, new.endpoint) == (f"{NAME}~stray", NAME)
    assert TrafficWindow.objects.filter(endpoint=NAME).count() == 1


def test_a_long_name_is_sealed_within_the_column(operator: Actor) -> None:
    create_endpoint(actor=operator, name="n" * 100)
    _segment("n" * 100)
    delete_endpoint(actor=operator, endpoint="n" * 100, revision=1)
    _seal()
    sealed = PredictionSegment.objects.get().endpoint
    assert (len(sealed), sealed[:84]) == (100, "n" * 83 + "~")


def test_grants_on_it_end_with_it(endpoint: Endpoint, operator: Actor, admin: Actor) -> None:
    viewer = _person("viewer")
    for name in (NAME, "other"):
        add_grant(actor=admin, username="viewer", subject_kind="endpoint", subject_name=name, role="operator")
    delete_endpoint(actor=operator, endpoint=NAME, revision=3)
    assert list(Grant.objects.values_list("subject_name", flat=True)) == ["other"]
    assert not actor_of(viewer).may(Right.ENDPOINT_DEPLOY, f"endpoint:{NAME}")
    assert AuditEntry.objects.filter(verb="remove_grant", subject_name="viewer", actor_name="operator").count() == 1


def test_keys_for_it_alone_are_revoked_and_others_lose_it(endpoint: Endpoint, operator: Actor, admin: Actor) -> None:
    alone, both, every = (
        create_key(actor=admin, name=f"key for {endpoints}", scopes=["predict"], endpoints=endpoints).key for endpoints in ([NAME], [NAME, "other"], [])
    )
    delete_endpoint(actor=operator, endpoint=NAME, revision=3)
    rows = {key.id: (key.endpoints, key.revoked_at is None) for key in ApiKey.objects.all()}
    assert rows == {alone.id: ([NAME], False), both.id: (["other"], True), every.id: ([], True)}
    assert set(rights_of(ApiKey.objects.get(id=both.id))) == {"endpoint:other"}
    verbs = AuditEntry.objects.filter(subject_kind="key").exclude(verb="create").order_by("verb").values_list("verb", "reason")
    assert list(verbs) == [("limit", f"{NAME} was deleted"), ("revoke", f"{NAME} was deleted")]


def test_a_refused_deletion_ends_nothing(endpoint: Endpoint, operator: Actor, admin: Actor) -> None:
    _logged(NAME)
    add_grant(actor=admin, username="operator", subject_kind="endpoint", subject_name=NAME, role="operator")
    with pytest.raises(Conflict):
        delete_endpoint(actor=operator, endpoint=NAME, revision=2)
    assert (Grant.objects.count(), Job.objects.filter(kind=seal.KIND).count(), Rule.objects.count()) == (1, 0, 1)
    assert Alert.objects.get().state == "open"
