"""What the store of builds keeps on disk."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from serving.dataplane import store
from serving.dataplane.store import BuildStore
from serving.table import BuildEntry
from tests.dataplane import models


def test_what_a_process_with_a_newer_table_has_just_made_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = BuildStore(tmp_path, tmp_path / "artifacts")
    for folder in ("builds", "facts"):
        for digest in ("present", "newer"):
            (tmp_path / folder / digest).touch()
    builds.forget_all_but({"present"})
    assert _kept(tmp_path) == ["builds/newer", "builds/present", "facts/newer", "facts/present"]
    monkeypatch.setattr(store, "_YOUNG_S", -1)
    builds.forget_all_but({"present"})
    assert _kept(tmp_path) == ["builds/present", "facts/present"]


def _answers(store: BuildStore, entry: BuildEntry) -> list[float]:
    outputs = store.load(entry).run({"input": np.array([[0.1], [0.9]], np.float32)})
    return [round(float(value), 3) for value in outputs[0].ravel()]


def test_trees_are_loaded_from_a_prepared_form_that_is_made_once_and_again_if_it_was_changed(tmp_path: Path) -> None:
    entry = models.forest(tmp_path / "artifacts", version=7)
    store = BuildStore(tmp_path, tmp_path / "artifacts")
    assert _answers(store, entry) == [7, 0]
    (prepared,) = _prepared(tmp_path)
    made = prepared.stat().st_mtime_ns
    assert _answers(store, entry) == [7, 0]
    assert [(path, path.stat().st_mtime_ns) for path in _prepared(tmp_path)] == [(prepared, made)]
    prepared.write_bytes(b"changed")
    assert _answers(store, entry) == [7, 0]
    assert [path.stat().st_size > 2**20 for path in _prepared(tmp_path)] == [True]
    (tmp_path / "prepared" / "0.9.0").mkdir()
    BuildStore(tmp_path, tmp_path / "artifacts").forget_all_but({entry.digest})
    assert len(_prepared(tmp_path)) == len(list((tmp_path / "prepared").iterdir())) == 1


def test_what_cannot_be_prepared_is_loaded_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small, large = (models.forest(tmp_path / "artifacts", version=megabytes, megabytes=megabytes) for megabytes in (2, 9))
    store = BuildStore(tmp_path, tmp_path / "artifacts")
    shutil.rmtree(tmp_path / "prepared")
    assert (_answers(store, small), _answers(store, large)) == ([2, 0], [9, 0])
    assert caplog.text.count("is loaded as it is, into more memory") == 2


def test_only_trees_are_prepared_and_large_ones_by_a_process_of_their_own(tmp_path: Path) -> None:
    large, small, forest = (
        models.large(tmp_path / "artifacts"),
        models.regressor(tmp_path / "artifacts"),
        models.forest(tmp_path / "artifacts", version=3, megabytes=9),
    )
    store = BuildStore(tmp_path, tmp_path / "artifacts")
    for entry in (large, small):
        store.load(entry)
    assert _prepared(tmp_path) == []
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert _answers(store, forest) == [3, 0]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > before
    assert [path.name.partition(".")[0] for path in _prepared(tmp_path)] == [forest.digest]


def _prepared(folder: Path) -> list[Path]:
    return list((folder / "prepared").glob("*/*"))


def _kept(folder: Path) -> list[str]:
    return sorted(f"{each}/{path.name}" for each in ("builds", "facts") for path in (folder / each).iterdir())
