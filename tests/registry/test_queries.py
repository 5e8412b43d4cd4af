"""Reads: right rows in the right order, and a known number of queries however many there are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from access.actors import system
from core.clock import now
from core.errors import Invalid
from registry import queries
from registry.aliases import set_alias
from registry.archive import archive_model, archive_version
from registry.compare import compare
from registry.delete import delete_version
from registry.errors import ModelNotFound, VersionNotFound
from registry.models import Build, Model, Version

ACTOR = system("tests")


def _many(models: int, versions: int) -> None:
    start = now()
    rows = [Model(name=f"model-{n:03}", latest_number=versions, updated_at=start + timedelta(seconds=n)) for n in range(models)]
    Model.objects.bulk_create(rows)
    Version.objects.bulk_create(Version(model=row, number=n + 1, state="ready" if n % 2 else "refused") for row in rows for n in range(versions))


def test_lists_models_the_last_changed_first(db):
    _many(3, 2)
    page = queries.models_page()
    assert [(row.name, row.versions, row.latest_number, row.latest_state, row.aliases) for row in page.results] == [
        (f"model-{n:03}", 2, 2, "ready", {}) for n in (2, 1, 0)
    ]
    assert page.next is None


def test_shows_the_newest_version_that_exists_and_all_aliases(ready):
    ready()
    ready()
    set_alias(actor=ACTOR, model="churn", alias="champion", version=1)
    set_alias(actor=ACTOR, model="churn", alias="backup", version=1)
    delete_version(actor=ACTOR, model="churn", version=2)
    row = queries.models_page().results[0]
    assert (row.latest_number, row.versions, row.aliases) == (1, 1, {"backup": 1, "champion": 1})
    detail = queries.model_detail("churn")
    assert (detail.latest_number, detail.states) == (1, {"checking": 0, "ready": 1, "refused": 0})


def test_filters_models(db, register):
    register("churn")
    register("fraud")
    Model.objects.filter(name="fraud").update(description="Card FRAUD scores", tags={"team": "risk", "tier": "1"})
    archive_model(actor=ACTOR, model="churn")

    def names(**wanted: Any) -> list[str]:
        return [row.name for row in queries.models_page(**wanted).results]

    assert (names(), names(archived=True)) == (["fraud"], ["churn"])
    assert names(q="card fraud") == names(tag="team") == names(tag="team:risk") == ["fraud"]
    assert names(q="nothing") == names(tag="team:growth") == names(tag="owner") == []


def test_filters_versions(ready, register):
    ready(description="small", tags={"kind": "tree"})
    register(description="large")
    ready()
    archive_version(actor=ACTOR, model="churn", version=3)

    def numbers(**wanted: Any) -> list[int]:
        return [version.number for version in queries.versions_page("churn", **wanted).results]

    assert (numbers(), numbers(archived=True)) == ([2, 1], [3])
    assert numbers(state="ready") == numbers(q="SMALL") == numbers(tag="kind:tree") == numbers(q="1") == [1]
    with pytest.raises(Invalid, match="no version state"):
        numbers(state="nice")
    with pytest.raises(ModelNotFound):
        queries.versions_page("nope")


@pytest.mark.parametrize("number", [0, 2, 2**31, 10**30])
def test_says_that_there_is_no_such_version(ready, number):
    ready()
    with pytest.raises(VersionNotFound):
        queries.version_detail("churn", number)


@pytest.mark.parametrize("rows", [3, 30])
def test_asks_the_same_number_of_queries_for_3_and_30_rows(db, rows, django_assert_num_queries):
    _many(rows, rows)
    for version in Version.objects.filter(number=1):
        Build.objects.create(version=version, kind="onnx", digest="0" * 64, size_bytes=1, inputs=[], outputs=[])
    Version.objects.filter(number=2).update(state="ready")
    for n in range(rows):
        set_alias(actor=ACTOR, model=f"model-{n:03}", alias="champion", version=2)
    with django_assert_num_queries(4):
        assert len(queries.models_page().results) == rows
    with django_assert_num_queries(5):
        queries.model_detail("model-000")
    with django_assert_num_queries(4):
        page = queries.versions_page("model-000")
        assert [(str(row), [b.kind for b in row.builds.all()], [a.name for a in row.aliases.all()]) for row in page.results][-2:] == [
            ("model-000 v2", [], ["champion"]),
            ("model-000 v1", ["onnx"], []),
        ]
    with django_assert_num_queries(4):
        queries.version_detail("model-000", 1)
    with django_assert_num_queries(2):
        assert [alias.version.number for alias in queries.aliases_of("model-000")] == [2]


def test_pages_through_10_000_versions_by_index(db, django_assert_num_queries):
    _many(1, 10_000)
    page, seen = queries.versions_page("model-000", limit=200), 0
    with django_assert_num_queries(4):
        assert queries.models_page().results[0].versions == 10_000
    while page.next:
        seen += len(page.results)
        page = queries.versions_page("model-000", limit=200, cursor=page.next)
    assert (seen + len(page.results), page.results[-1].number) == (10_000, 1)


def test_compares_metrics_and_columns(ready):
    ready(metrics={"auc": 0.5, "f1": 0.25})
    other = ready(metrics={"auc": 0.75, "brier": 0.125})
    features = other.signature["features"]
    other.signature["features"] = [{**features[0], "kind": "text"}, {"name": "region", "kind": "text"}]
    other.save()
    found = compare("churn", 1, 2)
    assert [(one.name, one.a, one.b, one.change) for one in found.metrics] == [
        ("auc", 0.5, 0.75, 0.25),
        ("brier", None, 0.125, None),
        ("f1", 0.25, None, None),
    ]
    assert [(one.name, one.change) for one in found.columns] == [("age", "changed"), ("charges", "removed"), ("region", "added")]
    assert found.blocks == ["age: integer in a, text in b", "charges: number, only in a", "region: text, only in b"]
    assert compare("churn", 1, 1).blocks == []


def test_says_that_an_unchecked_version_cannot_replace_one(ready, register):
    ready()
    register()
    assert compare("churn", 1, 2).blocks == ["churn v2 has no signature: it is checking"]
