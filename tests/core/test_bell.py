"""The bell rings from a thread of its own: a broker that hangs or is away keeps nobody waiting."""

from __future__ import annotations

import os
import threading

import pytest
from django.db import transaction
from kombu.exceptions import OperationalError

from config.celery import app as celery_app
from core import bell, jobs
from core.ids import uuid7

KIND = "tests.work"


def test_a_broker_that_hangs_keeps_no_caller_waiting(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    thawed, threads = threading.Event(), []

    def frozen(*_: object, **__: object) -> None:
        threads.append(threading.current_thread())
        thawed.wait(30)

    monkeypatch.setattr(celery_app, "send_task", frozen)
    with transaction.atomic():
        jobs.enqueue(kind=KIND, subject="a")
    for _ in range(1000):
        bell.ring(KIND, uuid7())  # more than are kept
    assert not bell.wait(0)
    monkeypatch.setattr(celery_app, "send_task", lambda *_, **__: None)
    thawed.set()
    assert bell.wait(5)
    assert [thread.name for thread in threads] == ["bell"]


@pytest.mark.parametrize("error", [OperationalError("Connection refused"), OSError("gone"), ValueError("unexpected")])
def test_survives_a_broker_that_is_away(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    def away(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(celery_app, "send_task", away)
    bell.ring(KIND, uuid7())
    assert bell.wait(5)
    assert "for the sweeper" in caplog.text
    rung: list[str] = []
    monkeypatch.setattr(celery_app, "send_task", lambda kind, **_: rung.append(kind))
    bell.ring(KIND, uuid7())
    assert bell.wait(5)
    assert rung == [KIND]


def test_rings_in_a_forked_child_too(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(celery_app, "send_task", lambda *_, **__: os.write(writer, str(os.getpid()).encode()))
    bell.ring(KIND, uuid7())
    assert bell.wait(5)
    assert os.read(reader, 100) == str(os.getpid()).encode()
    child = os.fork()
    if not child:
        bell.ring(KIND, uuid7())
        os._exit(0 if bell.wait(5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert os.read(reader, 100) == str(child).encode()
