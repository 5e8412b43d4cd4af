"""What the store of builds keeps on disk."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.digests import artifact_path, digest_of_file
from serving.dataplane import store
from serving.dataplane.store import BuildStore
from serving.runtimes.onnx import RUNTIME, write_prepared
from serving.table import BuildEntry
from tests.dataplane import models
from tests.dataplane.conftest import wait_for


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


def test_what_a_dead_process_was_writing_is_cleared_away(tmp_path: Path) -> None:
    builds = BuildStore(tmp_path, tmp_path / "artifacts")
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        dead = process.pid
    folders = (tmp_path / "builds", tmp_path / "facts", tmp_path / "prepared" / RUNTIME)
    for folder in folders:
        for pid in (dead, os.getpid()):
            (folder / f"present.{pid}").touch()
    builds.forget_all_but({"present"})
    assert [[path.name for path in folder.iterdir()] for folder in folders] == [[f"present.{os.getpid()}"]] * 3


def _answers(store: BuildStore, entry: BuildEntry) -> list[float]:
    outputs = store.load(entry).run({"input": np.array([[0.1], [0.9]], np.float32)})
    return [round(float(value), 3) for value in outputs[0].ravel()]


def test_trees_are_prepared_once_and_again_if_that_was_changed(tmp_path: Path) -> None:
    entry = models.forest(tmp_path / "artifacts", version=7)
    store = BuildStore(tmp_path, tmp_path / "artifacts")
    assert _answers(store, entry) == [7, 0]
    (prepared,) = _prepared(tmp_path)
    made = prepared.stat().st_ino
    assert _answers(store, entry) == [7, 0]
    assert [(path, path.stat().st_ino) for path in _prepared(tmp_path)] == [(prepared, made)]
    prepared.write_bytes(b"changed")
    assert _answers(store, entry) == [7, 0]
    assert [path.stat().st_size > 2**20 for path in _prepared(tmp_path)] == [True]


@pytest.mark.parametrize("megabytes", [2, 9])
def test_trees_are_loaded_from_what_was_prepared(tmp_path: Path, megabytes: int) -> None:
    entry = models.forest(tmp_path / "artifacts", version=megabytes, megabytes=megabytes)
    store = BuildStore(tmp_path, tmp_path / "artifacts")
    assert _answers(store, entry) == [megabytes, 0]
    (prepared,) = _prepared(tmp_path)
    prepared.unlink()
    other = models.forest(tmp_path / "artifacts", version=8)
    planted = prepared.with_name("planted")
    write_prepared(artifact_path(tmp_path / "artifacts", other.digest), planted)
    planted.rename(prepared.with_name(f"{entry.digest}.{digest_of_file(planted)}.ort"))
    assert _answers(store, entry) == [8, 0]


def test_what_another_onnx_runtime_loads_is_left_until_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    entry = models.forest(tmp_path / "artifacts", version=7)
    other = tmp_path / "prepared" / "0.9.0"
    other.mkdir(parents=True)
    (other / f"{entry.digest}.d.ort").touch()
    builds = BuildStore(tmp_path, tmp_path / "artifacts")
    assert _answers(builds, entry) == [7, 0]
    builds.forget_all_but({entry.digest})
    assert len(_prepared(tmp_path)) == 2
    monkeypatch.setattr(store, "_YOUNG_S", -1)
    builds.forget_all_but({entry.digest})
    assert ([path.parent.name for path in _prepared(tmp_path)], other.exists()) == ([RUNTIME], False)
    shutil.rmtree(tmp_path / "prepared" / RUNTIME)  # as the other does, which then is the newer one
    assert _answers(builds, entry) == [7, 0]
    assert ([path.parent.name for path in _prepared(tmp_path)], caplog.text) == ([RUNTIME], "")


@contextlib.contextmanager
def _largest_file(size_bytes: int) -> Iterator[None]:
    """Let this process and its children write no larger file, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("megabytes", [2, 9])
def test_what_cannot_be_prepared_is_loaded_as_it_is_and_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, megabytes: int) -> None:
    entry = models.forest(tmp_path / "artifacts", version=megabytes, megabytes=megabytes)
    store = BuildStore(tmp_path, tmp_path / "artifacts")
    with _largest_file(2**19):
        assert _answers(store, entry) == [megabytes, 0]
    assert caplog.text.count("is loaded as it is, into more memory") == 1
    assert _prepared(tmp_path) == []
    assert _answers(store, entry) == [megabytes, 0]
    assert caplog.text.count("is loaded as it is, into more memory") == 1


def _hang(folder: Path, entry: BuildEntry) -> None:
    """Let whoever prepares the build wait for ever: it writes into a pipe that nobody reads."""
    os.mkfifo(folder / "prepared" / RUNTIME / f"{entry.digest}.{os.getpid()}")


def test_preparing_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(store, "_PREPARED_WITHIN_S", 1)
    entry = models.forest(tmp_path / "artifacts", version=9, megabytes=9)
    builds = BuildStore(tmp_path, tmp_path / "artifacts")
    _hang(tmp_path, entry)
    assert _answers(builds, entry) == [9, 0]
    assert "timed out after 1 seconds" in caplog.text
    assert _prepared(tmp_path) == []


def test_preparing_ends_with_the_process(tmp_path: Path) -> None:
    entry = models.forest(tmp_path / "artifacts", version=9, megabytes=9)
    builds = BuildStore(tmp_path, tmp_path / "artifacts")
    _hang(tmp_path, entry)
    loading = threading.Thread(target=builds.load, args=(entry,), daemon=True)
    loading.start()
    loading.join(0.5)
    assert loading.is_alive()

    def ended() -> bool:
        builds.end_loading()
        return not loading.is_alive()

    wait_for(ended, "the build to be loaded as it is")
    assert _prepared(tmp_path) == []


def test_a_process_that_ends_begins_to_prepare_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(store, "_PREPARED_WITHIN_S", 3)
    entry = models.forest(tmp_path / "artifacts", version=9, megabytes=9)
    builds = BuildStore(tmp_path, tmp_path / "artifacts")
    _hang(tmp_path, entry)
    builds.end_loading()
    assert _answers(builds, entry) == [9, 0]
    assert "timed out after 0 seconds" in caplog.text


def test_a_copy_that_finds_no_room_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = models.large(tmp_path / "artifacts", megabytes=1)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:  # a file system of its own: there a copy is no link
        with _largest_file(2**19):
            BuildStore(Path(elsewhere), tmp_path / "artifacts").load(entry)
        assert list((Path(elsewhere) / "builds").iterdir()) == []
    assert "No copy of the build" in caplog.text


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
