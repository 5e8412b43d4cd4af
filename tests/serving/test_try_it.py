"""Trying an endpoint from the console."""

from __future__ import annotations

import socket
import stat

import pytest
from django.conf import settings

from access.keys import actor_of_key, revoke_key
from access.models import ApiKey
from access.rights import Right
from core.errors import Forbidden, NotFound
from serving import try_it
from serving.errors import DataPlaneAway
from tests.serving.conftest import newest_table

ROWS = [{"tenure_months": 3, "monthly_charges": 70.5, "contract": "monthly"}]


@pytest.fixture
def nobody_listens(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(settings, "ENVIRONMENT", settings.ENVIRONMENT.model_copy(update={"predict_port": port}))


def test_says_so_when_no_data_plane_answers(endpoint, scientist, nobody_listens):
    with pytest.raises(DataPlaneAway, match="cannot be reached"):
        try_it.ask(actor=scientist, endpoint="churn-scorer", rows=ROWS)


def test_the_consoles_key_may_predict_and_nothing_else(endpoint, scientist, admin, nobody_listens):
    for _ in range(2):
        with pytest.raises(DataPlaneAway):
            try_it.ask(actor=scientist, endpoint="churn-scorer", rows=ROWS)
    path = settings.ENVIRONMENT.var_dir / "console.key"
    actor = actor_of_key(path.read_text())
    assert actor.rights == {"*": frozenset({Right.PREDICT})}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [key.name for key in newest_table().keys] == ["console"]
    revoke_key(actor=admin, key_id=actor.id.removeprefix("key:"))
    with pytest.raises(DataPlaneAway):
        try_it.ask(actor=scientist, endpoint="churn-scorer", rows=ROWS)
    assert ApiKey.objects.filter(revoked_at=None).count() == 1


def test_needs_the_right_to_predict(endpoint, viewer):
    with pytest.raises(Forbidden, match=r"endpoint\.predict on endpoint churn-scorer"):
        try_it.ask(actor=viewer, endpoint="churn-scorer", rows=ROWS)
    assert ApiKey.objects.count() == 0


def test_an_empty_slot_cannot_be_asked(endpoint, scientist):
    with pytest.raises(NotFound, match="no version in the slot red of churn-scorer"):
        try_it.ask(actor=scientist, endpoint="churn-scorer", rows=ROWS, slot="red")
