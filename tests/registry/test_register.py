"""Registration: numbers without gaps or doubles, bytes with digests, a job on commit; or nothing at all."""

from __future__ import annotations

import io
import threading

import pytest
from django.db import connection, transaction

from access.models import AuditEntry, Person
from access.people import actor_of, add_grant
from core import bell
from core.digests import digest_of
from core.errors import Forbidden, StorageFull, TooLarge, Unprocessable
from core.models import Job
from registry import storage
from registry.archive import archive_model
from registry.errors import NotAllowed
from registry.models import Artifact, Model, Version
from registry.register import register_version
from registry.steps import TITLES


def _nothing_was_kept(*contents: bytes) -> bool:
    rows = (Model, Version, Artifact, Job, AuditEntry)
    return not any(table.objects.exists() for table in rows) and not any(storage.exists(digest_of(content)) for content in contents)


def test_registers_the_first_version_and_makes_the_model(scientist, bells, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        version = register_version(
            actor=scientist,
            model_name="churn",
            file=io.BytesIO(b"model"),
            filename="/home/ada/model.joblib",
            sample=io.BytesIO(b"a,b\n1,2\n"),
            sample_filename="X.csv",
            description="first",
            tags={"team": "growth"},
            metrics={"auc": 0.91},
        )
        assert bells == []
    version.refresh_from_db()
    assert (str(version), version.state, version.description, version.tags, version.metrics) == (
        "churn v1",
        "checking",
        "first",
        {"team": "growth"},
        {"auc": 0.91},
    )
    assert (version.created_by, version.model.owner_name, version.model.latest_number) == ("scientist", "scientist", 1)
    artifacts = {artifact.role: (artifact.filename, artifact.digest, artifact.size_bytes) for artifact in version.artifacts.all()}
    assert artifacts == {"original": ("model.joblib", digest_of(b"model"), 5), "sample": ("X.csv", digest_of(b"a,b\n1,2\n"), 8)}
    assert [step["key"] for step in version.steps] == list(TITLES)
    assert [step["state"] for step in version.steps] == ["passed", *["waiting"] * 6]
    assert [(job.kind, job.subject) for job in Job.objects.all()] == [("registry.tasks.check_version", str(version.id))]
    assert bell.wait(5)
    assert bells == ["registry.tasks.check_version"]
    assert sorted((entry.verb, entry.subject_name) for entry in AuditEntry.objects.all()) == [("create", "churn"), ("register", "churn v1")]


def test_counts_versions_up(register):
    assert [register("churn").number, register("churn").number, register("fraud").number, register("churn").number] == [1, 2, 1, 3]


def test_never_uses_a_number_again(register):
    register()
    register().delete()
    assert register().number == 3


def test_keeps_the_same_file_once_for_two_versions(register):
    first, second = register(data=b"same"), register(data=b"same")
    assert first.artifacts.get().digest == second.artifacts.get().digest


def test_gives_consecutive_numbers_to_registrations_at_once(transactional_db, scientist):
    together, numbers = threading.Barrier(6), []

    def one(place: int) -> None:
        try:
            together.wait()
            version = register_version(actor=scientist, model_name="race", file=io.BytesIO(f"{place}".encode()), filename="m.pkl")
            numbers.append(version.number)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=[place]) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]
    assert Model.objects.get().latest_number == Version.objects.count() == Artifact.objects.count() == Job.objects.count() == 6


def test_refuses_a_viewer_and_keeps_nothing(viewer):
    with pytest.raises(Forbidden, match=r"model\.register on model churn"):
        register_version(actor=viewer, model_name="churn", file=io.BytesIO(b"of a viewer"), filename="m.pkl")
    assert _nothing_was_kept(b"of a viewer")


def test_lets_a_viewer_with_a_grant_register_that_model_only(admin, viewer):
    add_grant(actor=admin, username="viewer", subject_kind="model", subject_name="churn", role="scientist")
    actor = actor_of(Person.objects.get(username="viewer"))
    assert register_version(actor=actor, model_name="churn", file=io.BytesIO(b"m"), filename="m.pkl").number == 1
    with pytest.raises(Forbidden):
        register_version(actor=actor, model_name="fraud", file=io.BytesIO(b"m"), filename="m.pkl")
    assert Model.objects.count() == 1


@pytest.mark.parametrize("wrong", [{"model_name": "../x"}, {"metrics": {"auc": float("nan")}}, {"tags": {"a": 1}}, {"description": "x" * 20_001}])
def test_refuses_wrong_words_before_a_byte_is_kept(scientist, wrong):
    with pytest.raises(NotAllowed):
        register_version(actor=scientist, **{"model_name": "churn", "file": io.BytesIO(b"wrong words"), "filename": "m.pkl", **wrong})
    assert _nothing_was_kept(b"wrong words")


def test_refuses_an_empty_file(scientist):
    with pytest.raises(Unprocessable, match="empty"):
        register_version(actor=scientist, model_name="churn", file=io.BytesIO(b""), filename="m.pkl")
    assert _nothing_was_kept(b"")


class _Large(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise TooLarge("too large")


class _Full(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise StorageFull("full")


@pytest.mark.parametrize("sample", [_Large(), _Full(), io.BytesIO(b"")])
def test_keeps_nothing_of_the_model_when_the_sample_fails(scientist, sample):
    with pytest.raises((TooLarge, StorageFull, Unprocessable)):
        register_version(actor=scientist, model_name="churn", file=io.BytesIO(b"good model"), filename="m.pkl", sample=sample, sample_filename="x.csv")
    assert _nothing_was_kept(b"good model")


def test_refuses_an_archived_model_and_keeps_its_numbers(scientist, register):
    register()
    archive_model(actor=scientist, model="churn")
    with pytest.raises(Unprocessable, match="archived"):
        register(data=b"into the archive")
    assert Model.objects.get().latest_number == Version.objects.count() == 1
    assert not storage.exists(digest_of(b"into the archive"))


def test_keeps_bytes_that_another_version_needs_when_one_registration_fails(scientist, register):
    register(data=b"shared")
    archive_model(actor=scientist, model="churn")
    with pytest.raises(Unprocessable):
        register(data=b"shared")
    assert storage.exists(digest_of(b"shared"))


def test_queues_nothing_when_the_transaction_around_it_rolls_back(transactional_db, scientist, bells):
    with transaction.atomic():
        register_version(actor=scientist, model_name="churn", file=io.BytesIO(b"m"), filename="m.pkl")
        transaction.set_rollback(True)
    assert bells == []
    assert not Job.objects.exists()
    assert not Version.objects.exists()
