"""Trying an endpoint from the console."""

from __future__ import annotations

import socket

import pytest
from django.conf import settings

from access.errors import KeyNotValid
from access.keys import actor_of_key
from access.models import ApiKey
from core.errors import Forbidden, NotFound
from serving import console_key, try_it
from serving.dataplane.keys import KeyRing
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


def test_the_consoles_key_may_predict_and_nothing_else_and_stands_on_no_list(endpoint, scientist, nobody_listens):
    with pytest.raises(DataPlaneAway):
        try_it.ask(actor=scientist, endpoint="churn-scorer", rows=ROWS)
    (entry,) = newest_table().keys
    assert (entry.name, entry.scopes, entry.endpoints, entry.expires_at) == ("console", ("predict",), (), None)
    assert KeyRing([entry]).check(f"Bearer {console_key.text()}".encode(), None) == entry
    assert ApiKey.objects.count() == 0
    with pytest.raises(KeyNotValid):
        actor_of_key(console_key.text())


def test_needs_the_right_to_predict(endpoint, viewer):
    with pytest.raises(Forbidden, match=r"endpoint\.predict on endpoint churn-scorer"):
        try_it.ask(actor=viewer, endpoint="churn-scorer", rows=ROWS)
    assert ApiKey.objects.count() == 0


def test_an_empty_slot_cannot_be_asked(endpoint, scientist):
    with pytest.raises(NotFound, match="no version in the slot red of churn-scorer"):
        try_it.ask(actor=scientist, endpoint="churn-scorer", rows=ROWS, slot="red")
