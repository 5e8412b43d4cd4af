"""Comparing what two versions answer, with real files in the real sandbox."""

from __future__ import annotations

import io

import joblib
import numpy as np
import pandas as pd
import pytest
from django.apps import apps
from django.db.models import Model
from django.test import Client
from sklearn.linear_model import LogisticRegression

from access.actors import Actor
from access.keys import create_key
from core.errors import Forbidden
from core.models import Job
from registry import storage
from registry.compare import compare
from registry.compare_answers import COMPARE, compare_answers, give_up_comparison
from registry.delete import delete_version
from registry.errors import NotReady
from registry.models import AnswerComparison, Artifact, Build, Version
from registry.register import register_version
from registry.tasks import check_version
from registry.tasks import compare_answers as task

_ROWS = 200


def _files(flip: int = 0) -> tuple[bytes, bytes]:
    """A model of the same 200 rows; of the first ``flip`` the label was wrong in training."""
    rng = np.random.default_rng(7)
    rows = pd.DataFrame({"age": rng.integers(18, 90, _ROWS), "charges": rng.normal(70, 20, _ROWS)})
    truth = (rows.charges > rows.age).astype(int)
    truth[:flip] = 1
    file = io.BytesIO()
    joblib.dump(LogisticRegression().fit(rows, truth), file)
    return file.getvalue(), rows.to_csv(index=False).encode()


def _register(actor: Actor, flip: int, *, with_sample: bool = True) -> Version:
    data, sample = _files(flip)
    rows = io.BytesIO(sample) if with_sample else None
    version = register_version(actor=actor, model_name="churn", file=io.BytesIO(data), filename="m.joblib", sample=rows, sample_filename="X.csv")
    check_version(str(Job.objects.latest("created_at").id))
    return version


_kept: list[Model] = []


@pytest.fixture
def two(scientist: Actor) -> None:
    """Two versions that went through the sandbox: once for all these tests, since that takes seconds. The files outlive a test, the rows are written again."""
    if not all(storage.exists(row.digest) for row in _kept if isinstance(row, Artifact | Build)):
        _kept.clear()  # another test has collected what no version has
    if not _kept:
        _register(scientist, 0)
        _register(scientist, 80)
        _kept.extend(row for model in apps.get_app_config("registry").get_models() for row in model._default_manager.all())
        return
    for row in _kept:
        row.save(force_insert=True)


def _run() -> None:
    task(str(Job.objects.filter(kind=COMPARE).latest("created_at").id))


@pytest.mark.usefixtures("two")
def test_both_versions_answer_the_newer_one_s_sample_once(scientist: Actor, django_assert_num_queries):
    assert compare("churn", 1, 2).answers_state == "none"
    row = compare_answers(actor=scientist, model="churn", a=2, b=1)
    assert (row.state, row.older.number, row.newer.number) == ("comparing", 1, 2)
    assert compare_answers(actor=scientist, model="churn", a=1, b=2).id == row.id
    assert Job.objects.filter(kind=COMPARE).count() == 1
    _run()
    with django_assert_num_queries(9):
        found = compare("churn", 1, 2)
    assert (found.answers_state, found.answers_reason, found.sample_number) == ("done", "", 2)
    assert found.answers is not None
    assert (found.answers.kind, found.answers.rows) == ("classes", _ROWS)
    assert 0 < found.answers.agreeing < _ROWS
    assert found.answers.verdict == "different"
    shares = {pair.name: pair for pair in found.answers.shares}
    assert shares["1"].b > shares["1"].a
    back = compare("churn", 2, 1).answers
    assert back is not None
    assert {pair.name: (pair.b, pair.a) for pair in back.shares} == {name: (pair.a, pair.b) for name, pair in shares.items()}
    assert compare_answers(actor=scientist, model="churn", a=1, b=2).state == "done"
    assert Job.objects.filter(kind=COMPARE).count() == 1


@pytest.mark.usefixtures("two")
def test_a_failed_comparison_says_why_and_begins_anew(scientist: Actor):
    row = compare_answers(actor=scientist, model="churn", a=1, b=2)
    build = row.older.builds.get()
    whole = storage.path_of(build.digest)
    kept = whole.read_bytes()
    storage.remove(build.digest)
    broken = storage.store_bytes(b"no ONNX file")
    row.older.builds.update(digest=broken.digest)
    _run()
    found = compare("churn", 1, 2)
    assert (found.answers_state, found.answers) == ("failed", None)
    assert found.answers_reason.startswith("v1: ")
    storage.store_bytes(kept)
    row.older.builds.update(digest=build.digest)
    assert compare_answers(actor=scientist, model="churn", a=1, b=2).state == "comparing"
    _run()
    assert compare("churn", 1, 2).answers_state == "done"


@pytest.mark.usefixtures("two")
def test_a_dead_job_fails_its_comparison_and_no_other(scientist: Actor):
    row = compare_answers(actor=scientist, model="churn", a=1, b=2)
    job = Job.objects.get(kind=COMPARE)
    job.error = "MemoryError: none left"
    give_up_comparison(job)
    row.refresh_from_db()
    assert (row.state, row.failure) == ("failed", "The comparison was interrupted three times, the last time with: MemoryError: none left")
    row.state = AnswerComparison.State.DONE
    row.save()
    give_up_comparison(job)
    row.refresh_from_db()
    assert row.state == "done"


@pytest.mark.usefixtures("two")
def test_a_version_that_is_deleted_meanwhile_takes_its_comparison_along(scientist: Actor, operator: Actor):
    compare_answers(actor=scientist, model="churn", a=1, b=2)
    delete_version(actor=operator, model="churn", version=1)
    assert AnswerComparison.objects.count() == 0
    _run()
    assert Job.objects.get(kind=COMPARE).state == Job.State.DONE


def test_refuses_what_cannot_be_compared_and_queues_nothing(scientist: Actor, viewer: Actor):
    _register(scientist, 0, with_sample=False)
    _register(scientist, 80, with_sample=False)
    with pytest.raises(NotReady, match=r"Neither was registered with sample rows\. Nothing was compared\."):
        compare_answers(actor=scientist, model="churn", a=1, b=2)
    with pytest.raises(NotReady, match="one and the same version"):
        compare_answers(actor=scientist, model="churn", a=1, b=1)
    with pytest.raises(Forbidden):
        compare_answers(actor=viewer, model="churn", a=1, b=2)
    assert compare("churn", 1, 2).answers_state == "impossible"
    assert (AnswerComparison.objects.count(), Job.objects.filter(kind=COMPARE).count()) == (0, 0)


@pytest.mark.usefixtures("two")
def test_programs_begin_and_read_it_through_the_api(admin: Actor):
    api = Client(headers={"Authorization": f"Bearer {create_key(actor=admin, name='ci', scopes=['register']).text}"})
    begun = api.post("/api/v1/models/churn/compare/", {"a": 1, "b": 2}, content_type="application/json")
    assert (begun.status_code, begun.json()["answers_state"], begun.json()["answers"]) == (202, "comparing", None)
    _run()
    answer = api.get("/api/v1/models/churn/compare/?a=1&b=2").json()
    assert (answer["answers_state"], answer["answers"]["rows"], answer["answers"]["verdict"], answer["sample_number"]) == ("done", _ROWS, "different", 2)


@pytest.mark.usefixtures("two")
def test_the_page_begins_shows_and_keeps_it(client_of):
    page = "/models/churn/compare/?a=1&b=2"
    assert "needs the right <code>model.register</code>" in client_of("viewer").get(page).content.decode()
    assert client_of("viewer").post("/models/churn/compare/answers/?a=1&b=2").status_code == 403
    assert AnswerComparison.objects.count() == 0
    client = client_of("scientist")
    assert client.post("/models/churn/compare/answers/?a=1&b=2").status_code == 302
    fragment = client.get("/models/churn/compare/answers/?a=1&b=2", headers={"HX-Request": "true"}).content.decode()
    assert 'hx-trigger="every 2s"' in fragment
    _run()
    body = client_of("viewer").get(page).content.decode()
    assert "Both versions on the sample rows of v2: 200 rows." in body
    assert "every 2s" not in body
