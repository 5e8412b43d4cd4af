"""The log becomes windows exactly once, whoever runs at the same time and whatever comes late."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from django.conf import settings
from django.db import connection

from access.actors import Actor
from core.clock import now
from core.digests import artifact_path
from monitoring import bins, profile
from monitoring import reference as reference_module
from monitoring.evaluate import evaluate_waiting
from monitoring.models import Fault, Level, Reference, WindowProfile
from monitoring.profile_segments import profile_segments
from monitoring.reference import document_of, ensure_reference, ensure_references
from serving import segments
from serving.models import PredictionSegment
from tests.monitoring.world import ENDPOINT, FIVE_MINUTES, MODEL, VERSION, log, people, register, window


def _n(level: Level) -> int:
    return sum(WindowProfile.objects.filter(level=level).values_list("n", flat=True))


def test_every_level_holds_every_row_once(db: None) -> None:
    register()
    log(people(300, 1), window(1))
    log(people(200, 2), window(14))
    log(people(100, 3), window(1) + timedelta(seconds=60), slot="green")
    assert profile_segments() == 3
    assert profile_segments() == 0
    assert [_n(level) for level in Level] == [600, 600, 600]
    assert WindowProfile.objects.filter(level=Level.FIVE_MINUTES).count() == 3
    assert PredictionSegment.objects.filter(profiled_at__isnull=True).count() == 0


def test_the_windows_are_the_profile_of_their_rows(db: None) -> None:
    version = register()
    rows = people(400, 1)
    for part in range(4):
        log({name: values[part::4] for name, values in rows.items()}, window(1) + timedelta(seconds=part))
    profile_segments()
    row = WindowProfile.objects.get(level=Level.FIVE_MINUTES)
    reference = ensure_reference(version)
    assert reference is not None
    assert row.reference == reference.id
    found = profile.decode(row.document).features["in.charges"]
    edges = np.array(document_of(reference).features["in.charges"].bins.edges)
    assert found.counts == profile.counts_in(rows["charges"], edges)
    assert found.total == pytest.approx(rows["charges"].sum())
    assert found.maximum == rows["charges"].max()


def test_a_segment_over_two_windows_is_split_by_the_time_of_each_row(db: None) -> None:
    register()
    log(people(200), window(1) - timedelta(microseconds=50))
    profile_segments()
    windows = WindowProfile.objects.filter(level=Level.FIVE_MINUTES).order_by("start_at").values_list("start_at", "n")
    assert list(windows) == [(window(2), 50), (window(1), 150)]


def test_late_rows_merge_into_old_windows(db: None) -> None:
    register()
    log(people(100, 1), window(5))
    profile_segments()
    WindowProfile.objects.update(dirty=False)
    log(people(100, 2), window(5) + timedelta(seconds=9))
    profile_segments()
    row = WindowProfile.objects.get(level=Level.FIVE_MINUTES)
    assert (row.n, row.dirty) == (200, True)


@pytest.mark.django_db(transaction=True)
def test_two_profilers_at_once_count_every_row_once() -> None:
    register()
    for part in range(40):
        log(people(25, part), window(part % 5) - timedelta(seconds=2))
    done: list[int] = []

    def work() -> None:
        try:
            while taken := profile_segments(limit=3):
                done.append(taken)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while taken := profile_segments():
        done.append(taken)
    assert sum(done) == 40
    assert [_n(level) for level in Level] == [1000, 1000, 1000]


@pytest.mark.django_db(transaction=True)
def test_a_crash_in_between_neither_loses_nor_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    log(people(100), window(1))
    with monkeypatch.context() as patch:
        patch.setattr("monitoring.profile_segments.now", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            profile_segments()
    assert WindowProfile.objects.count() == 0
    profile_segments()
    assert _n(Level.HOUR) == 100


def test_a_segment_that_cannot_be_read_does_not_hold_up_the_others(db: None) -> None:
    register()
    broken = log(people(10), window(1))
    PredictionSegment.objects.filter(id=broken.id).update(columns=b"not arrow")
    log(people(20), window(1))
    assert profile_segments() == 2
    assert _n(Level.DAY) == 20


def test_a_segment_that_cannot_be_profiled_is_left_out_alone_and_once(db: None, caplog: pytest.LogCaptureFixture) -> None:
    register()
    for part in range(5):
        log(people(20, part), window(1))
    poison = log(people(10), window(1))
    without_times = segments.decode(poison.columns).drop_columns(["received_at"])
    PredictionSegment.objects.filter(id=poison.id).update(columns=segments.encode(without_times))
    log(people(20, 9), window(1))
    assert profile_segments() == 7
    assert profile_segments() == 0
    assert [_n(level) for level in Level] == [120, 120, 120]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [f"Segment {poison.id} cannot be profiled and is left out."]


def test_a_version_without_a_sample_is_profiled_all_the_same(db: None) -> None:
    log(people(100), window(1), version=99)
    profile_segments()
    row = WindowProfile.objects.get(level=Level.HOUR)
    assert (row.n, row.reference, row.version) == (100, None, 99)


def test_the_reference_is_made_once_when_the_version_is_ready(db: None) -> None:
    version = register()
    assert ensure_references() == 1
    assert ensure_references() == 0
    reference = Reference.objects.get()
    assert (reference.version, reference.rows, reference.source) == (version, 2000, "training")
    assert set(document_of(reference).features) == {"in.charges", "in.noise", "in.plan", "out.label", "out.probability"}


def test_counts_of_an_older_reference_are_made_anew_from_the_sketch(db: None) -> None:
    version = register()
    log(people(1000, 1), window(1))
    profile_segments()
    old = Reference.objects.get()
    old.active = False
    old.save()
    Reference.objects.create(version=version, endpoint=ENDPOINT, source="traffic", rows=2000, document=bytes(old.document))
    log(people(500, 2), window(1) + FIVE_MINUTES / 2)
    profile_segments()
    row = WindowProfile.objects.get(level=Level.FIVE_MINUTES, endpoint=ENDPOINT, model=MODEL, version=VERSION)
    charges = profile.decode(row.document).features["in.charges"]
    assert row.reference != old.id
    assert sum(charges.counts) == 1500
    exact = profile.counts_in(
        np.concatenate([people(1000, 1)["charges"], people(500, 2)["charges"]]), np.array(bins.decode(old.document).features["in.charges"].bins.edges)
    )
    assert np.abs(np.array(charges.counts) - np.array(exact)).max() <= 15


def test_a_reference_at_fault_loses_nothing_and_is_tried_again(db: None, operator: Actor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    reference = ensure_reference(register())
    register(VERSION + 1)
    assert reference is not None
    whole = bytes(reference.document)
    Reference.objects.filter(id=reference.id).update(document=b"no reference")
    reference_module._documents.clear()
    for part in range(3):
        log(people(100, part), window(1))
    log(people(40, 9), window(1), version=VERSION + 1)
    assert profile_segments() == 1
    assert PredictionSegment.objects.filter(profiled_at=None).count() == 3
    assert list(WindowProfile.objects.filter(level=Level.DAY).values_list("version", "n")) == [(VERSION + 1, 40)]
    fault = Fault.objects.get()
    assert (fault.part, fault.endpoint, fault.model, fault.version, fault.tries) == ("profile", ENDPOINT, MODEL, VERSION, 1)
    assert fault.text == "ValidationError: Expected `object`, got `int`"
    assert profile_segments() == 0
    assert Fault.objects.get().tries == 1  # it rests
    Fault.objects.update(try_at=now())
    assert profile_segments() == 0
    assert Fault.objects.get().tries == 2
    Reference.objects.filter(id=reference.id).update(document=whole)
    Fault.objects.update(try_at=now())
    assert profile_segments() == 3
    assert (Fault.objects.count(), _n(Level.DAY)) == (0, 340)


def test_a_bad_segment_of_a_good_reference_is_no_fault(db: None) -> None:
    register()
    poison = log(people(10), window(1))
    without_times = segments.decode(poison.columns).drop_columns(["received_at"])
    PredictionSegment.objects.filter(id=poison.id).update(columns=segments.encode(without_times))
    assert (profile_segments(), Fault.objects.count()) == (1, 0)


def test_windows_wait_while_the_reference_is_at_fault_and_other_endpoints_are_judged(db: None, operator: Actor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    reference = ensure_reference(register())
    assert reference is not None
    log(people(600), window(1))
    profile_segments()
    whole = bytes(reference.document)
    Reference.objects.filter(id=reference.id).update(document=b"no reference")
    reference_module._documents.clear()
    assert evaluate_waiting() == 1
    assert WindowProfile.objects.filter(dirty=True).count() == 3
    assert [(fault.part, fault.version) for fault in Fault.objects.all()] == [("judge", VERSION)]
    Reference.objects.filter(id=reference.id).update(document=whole)
    Fault.objects.update(try_at=now())
    evaluate_waiting()
    assert (WindowProfile.objects.filter(dirty=True).count(), Fault.objects.count()) == (0, 0)


def test_a_sample_of_which_no_reference_can_be_made_keeps_no_other_waiting(db: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    register()
    bad = register(VERSION + 1)
    artifact = bad.artifacts.get()
    sink = pa.BufferOutputStream()
    table = pa.table({"in.charges": pa.array([{"x": 1}])})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    path = artifact_path(settings.ENVIRONMENT.artifacts_dir, artifact.digest)
    path.write_bytes(sink.getvalue().to_pybytes())
    ensure_references()
    assert [reference.version.number for reference in Reference.objects.all()] == [VERSION]
    assert [(fault.part, fault.endpoint, fault.version) for fault in Fault.objects.all()] == [("reference", "", VERSION + 1)]
