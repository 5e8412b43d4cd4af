"""What keeps traffic from being profiled is seen: on the endpoint's page and by the doctor."""

from __future__ import annotations

import pytest
from django.db import connection

from access.actors import Actor
from config.cli import doctor
from core.clock import now
from core.environment import environment
from monitoring import faults
from monitoring.evaluate import evaluate_now
from monitoring.models import Fault
from monitoring.set_reference import set_reference
from tests.conftest import ClientOf
from tests.monitoring.test_evaluate import _fill
from tests.monitoring.world import ENDPOINT, MODEL, VERSION, register

SUBJECT = (ENDPOINT, MODEL, VERSION)


def test_the_page_of_the_endpoint_says_what_is_wrong_until_another_reference_is_set(client_of: ClientOf, operator: Actor) -> None:
    register()
    _fill(range(1, 3))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    client = client_of("viewer")
    assert "cannot be profiled" not in client.get(f"/monitoring/{ENDPOINT}/").content.decode()
    faults.note(Fault.Part.PROFILE, SUBJECT, ValueError("no <edges>"))
    page = client.get(f"/monitoring/{ENDPOINT}/").content.decode()
    assert "The traffic of churn v12 cannot be profiled" in page
    assert "ValueError: no &lt;edges&gt;" in page
    set_reference(actor=operator, endpoint=ENDPOINT, model=MODEL, version=VERSION, days=1)
    assert "cannot be profiled" not in client.get(f"/monitoring/{ENDPOINT}/").content.decode()


def test_rests_twice_as_long_after_each_try_and_at_most_ten_minutes(db: None) -> None:
    waits = []
    for _ in range(7):
        faults.note(Fault.Part.JUDGE, SUBJECT, ValueError("x"))
        waits.append(round((Fault.objects.get().try_at - now()).total_seconds()))
    assert waits == [30, 60, 120, 240, 480, 600, 600]


def test_the_doctor_names_it(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    url = environment().database_url.replace("/signalbox?", f"/{connection.settings_dict['NAME']}?")
    here = environment().model_copy(update={"external_database_url": url})
    monkeypatch.setattr(doctor, "environment", lambda: here)
    assert (doctor._monitoring().state, doctor._monitoring().text) == ("good", "all logged traffic can be profiled and judged")
    faults.note(Fault.Part.PROFILE, SUBJECT, ValueError("no edges"))
    assert doctor._monitoring().state == "warning"
    assert doctor._monitoring().text.endswith("churn-scorer churn v12: ValueError: no edges")
