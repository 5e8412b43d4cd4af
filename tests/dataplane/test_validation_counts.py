"""What validation did, from the wire to the pages: counted by the hour, over a kill, a restart and a database that was away."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from uuid import UUID

import psycopg
import pytest

from registry.signature import Feature, Kind
from serving.dataplane import validation_counts
from serving.dataplane.live import SlotStats
from serving.dataplane.validation_counts import HOUR_S, ValidationCounts
from serving.models import Endpoint
from serving.table import ValidationPolicy
from tests.conftest import ClientOf
from tests.dataplane import models
from tests.dataplane.conftest import Log, Plane, endpoint, table, wait_for
from tests.serving.conftest import endpoint as deployed
from tests.serving.conftest import version

__all__ = ["deployed", "version"]
ROW = {"tenure_months": 1, "monthly_charges": 2, "contract": 3}
NAME = "churn-scorer"


@pytest.fixture
def asked(plane_with_log: Plane, log: Log, deployed: Endpoint) -> Plane:
    """A plane that answers for v12 of the deployed endpoint, with a policy per feature."""
    policies = {"monthly_charges": "replace", "contract": "refuse"}
    features = tuple(Feature(name=name, kind=Kind.NUMBER, minimum=0, maximum=9, typical=5.0) for name in ROW)
    build = models.regressor(plane_with_log.artifacts, version=12, features=features)
    Endpoint.objects.update(validation={"default": "clip", "features": policies})
    log.publish(table([build], [endpoint(NAME, build, validation=ValidationPolicy(default="clip", features=policies))]))
    return plane_with_log.start()


def _ask(plane: Plane, *changes: dict[str, object]) -> int:
    return plane.client.post(f"/v2/models/{NAME}/predict", json={"rows": [ROW | change for change in changes]}).status_code


@pytest.mark.django_db(transaction=True)
def test_pages_and_rest_show_what_was_done_before_a_kill_and_after_a_restart(asked: Plane, log: Log, client_of: ClientOf) -> None:
    changes: list[dict[str, object]] = [{}] * 6 + [{"tenure_months": 99}, {"tenure_months": -1}, {"monthly_charges": 99}, {"monthly_charges": None}]
    assert [_ask(asked, *changes), _ask(asked, {"contract": 99}), _ask(asked, {"contract": None})] == [200, 400, 400]
    wait_for(lambda: log.run("SELECT sum(count) FROM serving_validationcount WHERE action <> 'checked'") == [(6,)], "the counts")
    asked.stop(signal.SIGKILL)
    asked.start()
    assert _ask(asked, {"tenure_months": 99}) == 200
    assert asked.stop() == 0
    nothing = dict.fromkeys(("clipped", "replaced", "filled", "flagged", "refused"), 0)
    answer = client_of("viewer").get(f"/api/v1/endpoints/{NAME}/validation/").json()
    answer.pop("since")
    assert answer == {
        "endpoint": NAME,
        "version": None,
        "hours": 24,
        "rows": 11,
        "features": [
            nothing | {"feature": "tenure_months", "policy": "clip", "clipped": 3, "share": 3 / 11},
            nothing | {"feature": "monthly_charges", "policy": "replace", "replaced": 1, "filled": 1, "share": 2 / 11},
            nothing | {"feature": "contract", "policy": "refuse", "refused": 2, "share": 0.0},
        ],
    }
    settings = client_of("operator").get(f"/endpoints/{NAME}/settings/").content.decode()
    assert "what was done with the 11 rows of the last 24 h" in settings
    for note in ("3 clipped, 27.3 % of the rows", "1 replaced, 1 missing and replaced, 18.2 % of the rows", "2 requests refused"):
        assert f'<span class="note">{note}</span>' in settings
    monitored = client_of("viewer").get(f"/monitoring/{NAME}/").content.decode()
    assert "With the 11 rows checked in the last 24 h" in monitored
    assert '<td class="num" data-label="Clipped">3</td>' in monitored
    assert '<td class="num" data-label="Share of rows">27.3 %</td>' in monitored


@pytest.mark.django_db
def test_counts_are_absolute_and_kept_until_they_are_written(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, since an hour must pass."""
    stats, counts = {(NAME, "blue", "12"): SlotStats()}, ValidationCounts(UUID(int=1))
    slot = stats[NAME, "blue", "12"]
    begun = 1_790_000_000 // HOUR_S * HOUR_S

    def look(at: int, rows: int, clipped: int) -> None:
        monkeypatch.setattr(validation_counts, "time", SimpleNamespace(time=lambda: at))
        slot.rows, slot.actions["age", "clipped"] = rows, clipped
        counts.look(stats)

    def written() -> list[tuple[int, str, int]]:
        rows = log.run("SELECT extract(epoch FROM start_at)::bigint, action, count FROM serving_validationcount ORDER BY start_at, action")
        return [(int(at - begun) // HOUR_S, action, count) for at, action, count in rows]

    with psycopg.connect(log.url, autocommit=True) as connection:
        look(begun, 100, 4)
        counts.write(connection, [NAME])
        look(begun + 3599, 150, 5)
        slot.cached_rows = 40
        look(begun + 3600, 200, 5)
        with psycopg.connect(log.url) as closed:
            closed.close()
            with pytest.raises(psycopg.OperationalError):
                counts.write(closed, [NAME])
        counts.write(connection, [NAME])
        expected = [(0, "checked", 150), (0, "clipped", 5), (1, "checked", 10)]
        assert written() == expected
        counts.write(connection, [NAME])
        assert written() == expected
        look(begun + 3700, 240, 7)
        counts.write(connection, [])  # the endpoint is deleted, and its log sealed
        log.run("UPDATE serving_validationcount SET endpoint = 'churn-scorer~sealed'")
        look(begun + 3800, 250, 8)
        counts.write(connection, [NAME])
        assert log.run("SELECT action, count FROM serving_validationcount WHERE endpoint = %s ORDER BY action", NAME) == [("checked", 10), ("clipped", 1)]
        look(begun + 10 * HOUR_S, 260, 8)
        look(begun + 40 * HOUR_S, 260, 8)  # a day without Postgres is kept, no more
        counts.write(connection, [NAME])
        assert max(hour for hour, *_ in written()) == 1
