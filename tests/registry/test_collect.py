"""What killed processes left goes away; what is in use, or just coming in, stays."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from config.cli import doctor
from core.environment import environment
from registry import leftovers, references, storage
from registry.collect import collect_leftovers
from registry.models import Artifact, Version
from tests.registry.conftest import Register


@pytest.fixture(autouse=True)
def empty_store() -> None:
    """Other tests leave blobs of rows that were rolled back."""
    for path in [*environment().artifacts_dir.rglob("*"), *environment().uploads_dir.iterdir()]:
        if path.is_file():
            path.unlink()


def _old(path: Path, age_s: float = leftovers.AGE_S + 60) -> Path:
    os.utime(path, (time.time() - age_s,) * 2)
    return path


def _blob(data: bytes) -> Path:
    return storage.path_of(storage.store(io.BytesIO(data)).digest)


def _collect_all() -> int:
    return sum(collect_leftovers(part) for part in range(leftovers.PARTS))


def test_removes_old_blobs_that_no_row_names(db: None) -> None:
    orphan, fresh = _old(_blob(b"orphan")), _blob(b"fresh")
    assert _collect_all() == 1
    assert (orphan.exists(), fresh.exists()) == (False, True)


def test_keeps_what_a_version_or_a_build_refers_to_however_old(ready: Register) -> None:
    version = ready()
    kept = [_old(storage.path_of(row.digest)) for row in (version.artifacts.get(), version.builds.get())]
    assert _collect_all() == 0
    assert [path.exists() for path in kept] == [True, True]


def test_removes_old_half_written_files_and_keeps_those_still_coming_in(db: None) -> None:
    settings = environment()
    incoming = settings.artifacts_dir / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    files = {}
    for folder in (incoming, settings.uploads_dir):
        for name, age_s in (("abandoned", leftovers.AGE_S + 60), ("coming", 3600.0)):
            (folder / name).write_bytes(b"half")
            files[folder.name, name] = _old(folder / name, age_s)
    assert collect_leftovers(0) == 2
    assert {name: path.exists() for name, path in files.items()} == {
        ("incoming", "abandoned"): False,
        ("incoming", "coming"): True,
        ("uploads", "abandoned"): False,
        ("uploads", "coming"): True,
    }


def test_leaves_files_alone_that_are_no_blobs(db: None) -> None:
    stranger = environment().artifacts_dir / "ab" / "cd" / "README"
    stranger.parent.mkdir(parents=True, exist_ok=True)
    stranger.write_text("not ours")
    _old(stranger)
    assert _collect_all() == 0
    assert stranger.exists()


def test_looks_at_a_bounded_number_of_files(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.collect.MOST_FILES", 2)
    for name in ("one", "two", "three"):
        path = environment().uploads_dir / name
        path.write_bytes(b"half")
        _old(path)
    assert [collect_leftovers(0) for _ in range(3)] == [2, 1, 0]


def test_never_takes_a_blob_that_is_just_being_registered(transactional_db: None, register: Register) -> None:
    """The collector has found the blob unused when a registration names it: whoever is first, the row has its bytes."""
    version = register(data=b"other")
    path = _old(_blob(b"the same bytes"))
    named, looked = threading.Event(), threading.Event()

    def register_the_same() -> None:
        try:
            with transaction.atomic():
                references.hold()
                assert storage.exists(path.name)
                Artifact.objects.create(version=version, role="sample", filename="s.csv", digest=path.name, size_bytes=1)
                named.set()
                assert looked.wait(10)
        finally:
            connection.close()

    def collect() -> None:
        try:
            removed.append(collect_leftovers(int(path.name[:2], 16)))
        finally:
            connection.close()

    removed: list[int] = []
    threads = [threading.Thread(target=work) for work in (register_the_same, collect)]
    threads[0].start()
    assert named.wait(10)
    threads[1].start()
    _wait_until(_somebody_waits_for_the_lock)
    looked.set()
    for thread in threads:
        thread.join()
    assert (removed, path.exists(), Version.objects.count()) == ([0], True, 1)


def _somebody_waits_for_the_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return bool(cursor.fetchone()[0])


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_doctor_says_how_many_and_how_large(transactional_db: None, register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> Any:
        return next(finding for finding in doctor.examine() if finding.name == "leftovers")

    used = register(data=b"used")
    _old(storage.path_of(used.artifacts.get().digest))
    here = environment().model_copy(update={"external_database_url": _url_of_the_test_database()})
    monkeypatch.setattr(doctor, "environment", lambda: here)
    assert (seen().state, seen().text) == ("good", "no files of killed processes")
    _old(_blob(bytes(2**20)))
    _old(_blob(bytes(2**19)))
    assert seen().text == "2 files, 1.5 MiB, of killed processes: the workers remove them within a day."
    assert _collect_all() == 2
    assert seen().text == "no files of killed processes"


def _url_of_the_test_database() -> str:
    name = connection.settings_dict["NAME"]
    return environment().database_url.replace("/signalbox?", f"/{name}?")
