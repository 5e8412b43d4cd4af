"""The check from upload to verdict, with real files, the real sandbox and the task function itself."""

from __future__ import annotations

import io
import pickle
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client
from sklearn.linear_model import LogisticRegression

from access.keys import create_key
from access.models import AuditEntry
from core import jobs
from core.digests import digest_of
from core.models import Job
from registry import storage
from registry.check import check_version
from registry.delete import delete_version
from registry.errors import NotReady
from registry.models import Build, Version
from registry.queries import version_detail
from registry.recheck import recheck_version
from registry.signature import Kind
from registry.storable import storable
from registry.tasks import check_version as task


def _trained() -> tuple[bytes, bytes]:
    rng = np.random.default_rng(7)
    rows = pd.DataFrame({"age": rng.integers(18, 90, 200), "charges": rng.normal(70, 20, 200)})
    model = LogisticRegression().fit(rows, (rows.charges > rows.age).astype(int))
    file = io.BytesIO()
    joblib.dump(model, file)
    return file.getvalue(), rows.to_csv(index=False).encode()


@pytest.fixture(scope="module")
def trained() -> tuple[bytes, bytes]:
    return _trained()


@pytest.fixture
def api(admin) -> Client:
    return Client(headers={"Authorization": f"Bearer {create_key(actor=admin, name='ci', scopes=['register']).text}"})


def _post(api: Client, data: bytes, sample: bytes | None = None, **words: str) -> dict[str, Any]:
    files = {"file": SimpleUploadedFile("../../model.joblib", data)} | ({"sample": SimpleUploadedFile("X.csv", sample)} if sample else {})
    answer = api.post("/api/v1/models/churn/versions/", files | words)
    assert answer.status_code == 202, answer.content
    body: dict[str, Any] = answer.json()
    return body


def _run() -> None:
    task(str(Job.objects.latest("created_at").id))


def test_registers_through_the_api_checks_and_is_ready(api, trained):
    data, sample = trained
    posted = _post(api, data, sample, metrics='{"auc": 0.97}', tags='{"team": "growth"}', description="first")
    assert (posted["state"], posted["number"], posted["metrics"], posted["artifacts"][0]["filename"]) == ("checking", 1, {"auc": 0.97}, "model.joblib")
    _run()
    version = api.get("/api/v1/models/churn/versions/1/").json()
    assert (version["state"], version["refusal"], version["not_servable_reason"]) == ("ready", "", "")
    assert {step["key"]: step["state"] for step in version["steps"]} == dict.fromkeys(
        ["received", "format", "signature", "converted", "agreement", "speed", "ready"], "passed"
    )
    assert [build["kind"] for build in version["builds"]] == ["onnx"]
    assert version["builds"][0]["single_row_ms"] > 0
    assert version["conversion"]["agreement"]["agreeing"] == version["conversion"]["agreement"]["rows"] == 200

    detail = version_detail("churn", 1)
    assert detail.signature is not None
    assert detail.build is not None
    assert [(feature.name, feature.kind) for feature in detail.signature.features] == [("age", Kind.INTEGER), ("charges", Kind.NUMBER)]
    assert detail.signature.labels == ("0", "1")
    assert digest_of(storage.open_artifact(detail.build.digest).read()) == detail.build.digest
    assert {artifact.role for artifact in detail.artifacts} == {"original", "sample", "reference"}
    reference = next(artifact for artifact in detail.artifacts if artifact.role == "reference")
    table = pa.ipc.open_stream(storage.open_artifact(reference.digest).read()).read_all()
    assert (table.num_rows, {"in.age", "in.charges", "out.label", "out.probabilities"} <= set(table.column_names)) == (200, True)
    assert Job.objects.get().state == "done"
    assert AuditEntry.objects.filter(actor_name="converter", verb="check", subject_name="churn v1").count() == 1


def test_changes_nothing_when_the_task_comes_again(api, trained):
    _post(api, *trained)
    _run()
    before = (Version.objects.values().get(), list(Build.objects.values()), AuditEntry.objects.count())
    _run()
    again = Job.objects.create(kind="registry.tasks.check_version", subject=str(Version.objects.get().id))
    task(str(again.id))
    assert (Version.objects.values().get(), list(Build.objects.values()), AuditEntry.objects.count()) == before


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("__import__('os').system('touch /tmp/signalbox-was-here')",)


@pytest.mark.parametrize("data", [pickle.dumps(_Evil()), b"this is no model", b"\x80\x04garbage", b"PK\x03\x04nothing"])
def test_refuses_with_a_reason_and_advice(register, data):
    version = register(data=data)
    _run()
    version.refresh_from_db()
    assert (version.state, version.ready_at, version.signature, version.builds.count()) == ("refused", None, None, 0)
    last = version.steps[-1]
    assert version.refusal
    assert (last["key"], last["state"], last["text"]) == ("ready", "failed", version.refusal)
    assert last["advice"]
    assert {step["state"] for step in version.steps} <= {"passed", "failed", "skipped"}
    assert Job.objects.get().state == "done"


def test_writes_nothing_when_another_attempt_has_taken_over(register, trained):
    version = register(data=trained[0])
    Job.objects.update(state="running", attempt=1, lease_until_at=Now())
    late = Job.objects.get()
    Job.objects.update(attempt=2)
    before = Version.objects.values().get()
    with pytest.raises(jobs.JobLost), transaction.atomic():
        check_version(version.id, late)
    assert Version.objects.values().get() == before
    assert Build.objects.count() == 0


def test_leaves_nothing_behind_when_the_version_is_deleted_meanwhile(register, trained, operator):
    version = register(data=trained[0])
    delete_version(actor=operator, model="churn", version=1)
    _run()
    assert not Version.objects.filter(id=version.id).exists()
    assert Job.objects.get().state == "done"


def test_refuses_a_version_whose_check_died_and_checks_it_again(register, trained, scientist):
    version = register(data=trained[0])
    Job.objects.update(state="running", attempt=jobs.ATTEMPTS, lease_until_at=Now())
    jobs.sweep()
    version.refresh_from_db()
    assert (version.state, Job.objects.get().state) == ("refused", "dead")
    assert version.refusal == "The check was interrupted three times, the last time with: The worker was lost three times."
    assert "again" in version.steps[-1]["advice"]

    recheck_version(actor=scientist, model="churn", version=1)
    with pytest.raises(NotReady, match="being checked"):
        recheck_version(actor=scientist, model="churn", version=1)
    assert Job.objects.filter(state="queued").count() == 1
    _run()
    version.refresh_from_db()
    assert (version.state, version.refusal) == ("ready", "")
    with pytest.raises(NotReady, match="frozen"):
        recheck_version(actor=scientist, model="churn", version=1)


def test_makes_any_report_fit_for_the_database():
    dirty = {"a\0": ["\ud800", float("nan"), float("inf"), 1, 1.5, True, None], "b": ("x",)}
    assert storable(dirty) == {"a\ufffd": ["?", None, None, 1, 1.5, True, None], "b": ["x"]}
