"""How a data-plane process ends: every part of it is asked to, whatever another one does."""

from __future__ import annotations

import threading

import pytest

from serving.dataplane import process
from serving.dataplane.process import stop_together


def test_a_part_that_fails_or_hangs_keeps_no_other_from_being_stopped(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(process, "_STOPPED_WITHIN_S", 0.2)
    never = threading.Event()
    stopped: list[str] = []

    def fails() -> None:
        raise RuntimeError("the disk is gone")

    def hangs() -> None:
        never.wait()

    stop_together(fails, hangs, lambda: stopped.append("last"))
    never.set()
    assert stopped == ["last"]
    assert "could not be stopped" in caplog.text
    assert "the disk is gone" in caplog.text
