"""What the tables of commands say of things that have a name or a form for machines."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from pytest_django.live_server_helper import LiveServer

from access.actors import Actor
from access.keys import create_key
from config.cli.main import signalbox
from monitoring.models import Alert


@pytest.mark.django_db(transaction=True)
def test_alerts_have_a_span_of_time_and_say_that_an_endpoint_is_deleted(live_server: LiveServer, admin: Actor) -> None:
    first = datetime(2026, 11, 22, 8, 30, tzinfo=UTC)
    for number, (name, cause, level) in enumerate((("price", "drift", 300), ("churn~20261122T090000Z", "performance", 86400), ("price", "crash", 300))):
        values = {"severity": "severe", "title": "It moved", "first_at": first, "last_at": first, "detail": {"level": level}}
        Alert.objects.create(endpoint=name, model="churn", version=1, cause=cause, dedup_key=str(number), **values)
    where = ("--url", live_server.url, "--key", create_key(actor=admin, name="reader", scopes=["read"]).text)
    lines = [line.split("  ") for line in CliRunner().invoke(signalbox, ["alerts", *where]).stdout.splitlines()]
    heading, *rows = [[part.strip() for part in line if part] for line in lines]
    assert (heading[3], heading[-1]) == ("ENDPOINT", "FIRST WINDOW")
    assert [(row[3], row[-1]) for row in rows] == [
        ("price", "2026-11-22 08:30:00 UTC"),
        ("churn (deleted)", "2026-11-22 08:30 to 2026-11-23 00:00 UTC"),
        ("price", "2026-11-22 08:30 to 08:35 UTC"),
    ]
    told = json.loads(CliRunner().invoke(signalbox, ["alerts", "--json", *where]).stdout)
    assert [row["endpoint"] for row in told] == ["price", "churn~20261122T090000Z", "price"]
