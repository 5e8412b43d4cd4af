"""Deletion: refused while held, whole when done, and never of bytes that another version needs. Archiving too."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from access.models import AuditEntry
from core.digests import digest_of
from core.errors import Forbidden
from registry import delete, storage
from registry.aliases import set_alias
from registry.archive import archive_model, archive_version
from registry.delete import delete_model, delete_version
from registry.errors import InUse
from registry.models import Artifact, Build, Model, Version
from registry.register import register_version


def test_deletes_rows_and_bytes(operator, ready):
    version = ready(data=b"to be deleted")
    build = version.builds.get()
    delete_version(actor=operator, model="churn", version=1, reason="wrong data")
    assert not Version.objects.exists()
    assert not Artifact.objects.exists()
    assert not Build.objects.exists()
    assert not storage.exists(digest_of(b"to be deleted"))
    assert not storage.exists(build.digest)
    entry = AuditEntry.objects.get(verb="delete")
    assert (entry.subject_name, entry.reason) == ("churn v1", "wrong data")
    assert Model.objects.get().latest_number == 1


def test_keeps_bytes_that_another_version_has(operator, register):
    register(data=b"in two versions")
    register(data=b"in two versions")
    delete_version(actor=operator, model="churn", version=1)
    assert storage.exists(digest_of(b"in two versions"))
    delete_version(actor=operator, model="churn", version=2)
    assert not storage.exists(digest_of(b"in two versions"))


def test_refuses_while_something_holds_it_and_names_everything(operator, ready, monkeypatch):
    version = ready()
    set_alias(actor=operator, model="churn", alias="champion", version=1)
    monkeypatch.setattr(delete, "guards", [lambda row: f"it is in the slot blue of {row.model.name}-scorer", lambda _: ""])
    for verb in (delete_version, archive_version):
        with pytest.raises(InUse) as refusal:
            verb(actor=operator, model="churn", version=1)
        assert refusal.value.detail == {"held": ["it has the alias champion", "it is in the slot blue of churn-scorer"]}
    version.refresh_from_db()
    assert version.archived_at is None
    assert storage.exists(version.artifacts.get().digest)


def test_refuses_a_scientist(scientist, register):
    register()
    with pytest.raises(Forbidden, match=r"model\.delete"):
        delete_version(actor=scientist, model="churn", version=1)
    with pytest.raises(Forbidden):
        delete_model(actor=scientist, model="churn")
    assert Version.objects.count() == 1


def test_deletes_a_model_only_when_it_is_empty(operator, register):
    register()
    with pytest.raises(InUse, match="1 versions"):
        delete_model(actor=operator, model="churn")
    delete_version(actor=operator, model="churn", version=1)
    delete_model(actor=operator, model="churn")
    assert not Model.objects.exists()


def test_never_loses_bytes_when_the_same_file_is_registered_and_deleted_at_once(transactional_db, operator):
    import io

    def put(_: int = 0) -> Version:
        return register_version(actor=operator, model_name="race", file=io.BytesIO(b"contended"), filename="m.pkl")

    put()
    for _ in range(8):
        number = Version.objects.get().number
        together = threading.Barrier(2)

        def deleting(number: int = number, together: threading.Barrier = together) -> None:
            try:
                together.wait()
                delete_version(actor=operator, model="race", version=number)
            finally:
                connection.close()

        def registering(together: threading.Barrier = together) -> None:
            try:
                together.wait()
                put()
            finally:
                connection.close()

        threads = [threading.Thread(target=deleting), threading.Thread(target=registering)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Version.objects.count() == 1
        assert storage.exists(digest_of(b"contended"))


def test_archives_and_restores_and_audits_each_once(scientist, ready):
    ready()
    for _ in range(2):
        assert archive_version(actor=scientist, model="churn", version=1).archived_at is not None
    assert archive_version(actor=scientist, model="churn", version=1, archived=False).archived_at is None
    assert archive_model(actor=scientist, model="churn").archived_at is not None
    assert archive_model(actor=scientist, model="churn", archived=False).archived_at is None
    verbs = AuditEntry.objects.filter(verb__in=["archive", "restore"]).values_list("verb", "subject_kind")
    assert sorted(verbs) == [("archive", "model"), ("archive", "version"), ("restore", "model"), ("restore", "version")]
