"""Monitoring pages over a small world: what drifted is named, drawn and explained; what is thin is said to be thin."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from access.actors import Actor
from console.audit import changes
from core import jobs
from core.clock import now
from core.ids import uuid7
from core.models import Job
from monitoring.evaluate import evaluate_now
from monitoring.models import Alert, DriftResult, Outcome
from monitoring.outcomes import OutcomeIn, send_outcomes
from serving import seal
from serving.create_endpoint import create_endpoint
from serving.delete_endpoint import delete_endpoint
from serving.models import Endpoint, LedgerEntry, Slot
from tests.conftest import ClientOf
from tests.monitoring import world


@pytest.fixture
def drifted(operator: Actor) -> None:
    """Two windows of ``charges`` far from the reference, judged."""
    world.set_clock()
    world.register()
    for back in (2, 1):
        world.log(world.people(800, seed=back, shift=30), world.window(back) + timedelta(seconds=5))
    evaluate_now(actor=operator, endpoint=world.ENDPOINT)


def test_the_heat_map_names_what_drifted(client_of: ClientOf, drifted: None) -> None:
    page = client_of("viewer").get("/monitoring/churn-scorer/").content.decode()
    assert page.index(">charges</a>") < page.index(">plan</a>")
    assert 'class="l4' in page
    titles = re.findall(r'<td class="l\d[^"]*" title="([^"]+)"', page)
    assert titles
    assert [title for title in titles if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:00 UTC: PSI ", title)] == []
    assert "No outcomes yet" in page
    assert "/api/v1/outcomes/" in page


@pytest.mark.parametrize("path", ["/monitoring/churn-scorer/", "/endpoints/churn-scorer/"])
def test_the_verdict_colours_a_cell_and_not_the_bare_psi(client_of: ClientOf, judged: None, path: str) -> None:
    found = DriftResult.objects.filter(level=300)
    for feature, verdict in (("in.charges", "stable"), ("in.plan", "watch"), ("in.noise", "severe")):
        found.filter(feature=feature).update(psi=0.13, verdict=verdict)
    page = client_of("viewer").get(path).content.decode()
    drawn = re.findall(r'<td class="(\w+)[^"]*"[^>]*><span>0\.13</span>', page)
    assert drawn == ["l4", "l2", "l0"]


def test_the_feature_page_compares_with_the_reference(client_of: ClientOf, drifted: None) -> None:
    client = client_of("viewer")
    page = client.get("/monitoring/churn-scorer/features/in.charges/").content.decode()
    assert "2,000 training rows" in page
    assert "bar-compare" in page
    assert "Kolmogorov-Smirnov distance" in page
    assert "Total variation distance" in client.get("/monitoring/churn-scorer/features/in.plan/").content.decode()
    for chart, names in (("psi", {"PSI", "red.limit"}), ("missing", {"missing"}), ("quantiles", {"p5", "p25", "p50", "p75", "p95"})):
        columns = client.get(f"/monitoring/churn-scorer/features/in.charges/series/{chart}/").json()
        assert set(columns["lines"]) == names
        assert {len(line) for line in columns["lines"].values()} == {len(columns["t"])}
    assert client.get("/monitoring/churn-scorer/features/in.charges/series/other/").status_code == 404
    assert client.get("/monitoring/churn-scorer/features/in.nothing/").status_code == 404


def test_every_chart_of_measures_marks_what_was_changed(client_of: ClientOf, drifted: None) -> None:
    entry = {"verb": "deploy", "summary": "v12 deployed to blue", "actor_kind": "person", "actor_id": "1", "actor_name": "a.osei", "before": {}, "after": {}}
    at = world.window(1) + timedelta(seconds=60)
    endpoint = Endpoint.objects.get()
    Slot.objects.create(endpoint=endpoint, name="blue")
    LedgerEntry.objects.create(endpoint=endpoint, revision=2, table_revision=1, at=at, **entry)
    client, alert = client_of("viewer"), Alert.objects.get(cause="drift")
    feature = [f"/monitoring/churn-scorer/features/in.charges/series/{each}/" for each in ("psi", "missing", "quantiles")]
    for path in (*feature, f"/alerts/{alert.number}/series/", "/endpoints/churn-scorer/series.json?window=24h"):
        assert client.get(path).json()["marks"] == [{"t": at.timestamp(), "text": "v12 deployed to blue"}], path


def test_a_feature_is_of_the_version_it_was_chosen_for(client_of: ClientOf, operator: Actor) -> None:
    world.set_clock()
    odd = "what? #1/2"
    for number, shift in ((12, 0), (13, 30)):
        world.register(number, noise=odd)
        for back in (2, 1):
            world.log(world.people(800, back, shift=shift, noise=odd), world.window(back) + timedelta(seconds=5), version=number)
    evaluate_now(actor=operator, endpoint=world.ENDPOINT)
    client = client_of("operator")
    home = "/monitoring/churn-scorer/"
    for number in (12, 13):
        listed = client.get(f"{home}?version={number}").content.decode()
        assert f'href="{home}features/in.what%3F%20%231/2/?version={number}"' in listed
        address = f"{home}features/in.charges/?version={number}"
        page = client.get(address).content.decode()
        assert f"Feature of churn v{number}" in page
        assert f'src="{home}features/in.charges/series/psi/?hours=24&amp;version={number}"' in page
        assert client.post(f"{home}features/in.charges/mute/?version={number}", {"muted": "yes"})["Location"] == address
    shown = [client.get(f"{home}features/in.charges/series/psi/?version={number}").json()["lines"]["PSI"][-1] for number in (12, 13)]
    assert shown[0] < 0.1 < shown[1]
    assert client.get(f"{home}features/in.what%3F%20%231/2/?version=12").status_code == 200
    assert client.get(f"{home}features/in.charges/?version=x").status_code == 400
    assert f'href="{home}features/in.what%3F%20%231/2/?version=' in client.get("/endpoints/churn-scorer/").content.decode()
    alert = Alert.objects.get(cause="drift", version=13)
    assert "features/in.charges/?version=13" in client.get(f"/alerts/{alert.number}/").content.decode()


def test_every_page_of_an_endpoint_has_its_tabs_and_rolls_back_at_the_same_place(client_of: ClientOf, judged: None) -> None:
    client = client_of("viewer")
    log = "/endpoints/churn-scorer/predictions/"
    one = client.get(log).context["rows"].results[0].id
    monitored = [f"/monitoring/churn-scorer/{tail}" for tail in ("", "limits/", "reference/", "features/in.charges/")]
    sheets = [f"/endpoints/churn-scorer/{tail}" for tail in ("deploy/", "promote/", "roll-back/", "unload/", "slots/green/empty/")]
    for path in (*(f"/endpoints/churn-scorer/{tail}" for tail in ("", "try/", "ledger/", "settings/")), *sheets, log, f"{log}{one}/", *monitored):
        page = client.get(path).content.decode()
        assert page.count('<nav class="tabs" aria-label="churn-scorer">') == 1, path
        assert page.count('aria-keyshortcuts="r"') == 1, path
        assert page.count("<h1") == 1, path


def test_an_alert_shows_its_first_window_as_a_span(client_of: ClientOf, drifted: None) -> None:
    first = world.window(2)
    span = f"{first:%Y-%m-%d %H:%M} to {first + timedelta(minutes=5):%H:%M} UTC"
    client, alert = client_of("viewer"), Alert.objects.get(cause="drift")
    assert f"first window {span}" in client.get(f"/alerts/{alert.number}/").content.decode()
    assert f'title="{span}"' in client.get("/alerts/").content.decode()
    shown = client.get(f"/api/v1/alerts/{alert.number}/").json()["alert"]
    assert [datetime.fromisoformat(shown[name]) for name in ("first_at", "first_end_at")] == [first, first + timedelta(minutes=5)]
    assert shown["deleted"] is False


def test_a_deleted_endpoint_is_called_so_where_its_alerts_are_shown(client_of: ClientOf, drifted: None, operator: Actor) -> None:
    delete_endpoint(actor=operator, endpoint=world.ENDPOINT, revision=1)
    assert jobs.run(str(Job.objects.get(kind=seal.KIND).id), seal.seal)
    client, alert = client_of("viewer"), Alert.objects.get(cause="drift")
    assert "~" in alert.endpoint
    for path in ("/alerts/?state=all", f"/alerts/{alert.number}/"):
        page = client.get(path).content.decode()
        assert "churn-scorer (deleted)" in page
        assert "churn-scorer~" not in re.sub(r' (?:href|src|value)="[^"]*"', "", page)
        assert "/monitoring/churn-scorer~" not in page
    assert client.get("/api/v1/alerts/").json()["results"][0]["deleted"] is True


def test_a_refused_limit_is_named_as_its_form_names_it(client_of: ClientOf, drifted: None) -> None:
    path = "/monitoring/churn-scorer/limits/"
    form = {name: value for name, _, _, value, *_ in client_of("operator").get(path).context["fields"]}
    page = client_of("operator").post(path, form | {"windows_in_a_row": "99"})
    assert page.status_code == 422
    assert "“Windows in a row” must be a whole number from 1 to 20, not 99" in page.content.decode()


def test_muting_a_feature_needs_its_right(client_of: ClientOf, drifted: None) -> None:
    path = "/monitoring/churn-scorer/features/in.charges/"
    assert client_of("scientist").post(f"{path}mute/", {"muted": "yes"}).status_code == 403
    assert "Muting needs the right <code>monitoring.edit</code>" in client_of("scientist").get(path).content.decode()
    assert client_of("operator").post(f"{path}mute/", {"muted": "yes"})["Location"] == path
    assert "Let it alarm" in client_of("operator").get(path).content.decode()


def test_the_delay_of_outcomes_is_the_mean_that_is_measured(client_of: ClientOf, operator: Actor) -> None:
    world.set_clock()
    world.register()
    ids = [uuid7(int(world.window(1).timestamp() * 1000)) for _ in range(3)]
    world.log(world.people(3), world.window(1), ids=ids)
    send_outcomes(actor=operator, outcomes=[OutcomeIn(one, 1) for one in ids])
    for outcome, minutes in zip(Outcome.objects.all(), (60, 60, 240), strict=True):
        Outcome.objects.filter(id=outcome.id).update(received_at=world.window(1) + timedelta(minutes=minutes, seconds=1))
    evaluate_now(actor=operator, endpoint=world.ENDPOINT)
    page = client_of("viewer").get("/monitoring/churn-scorer/").content.decode()
    assert '<th scope="col" class="num">Delay, mean</th>' in page
    assert 'data-label="Delay">2 h</td>' in page


def test_without_a_version_the_page_says_how_to_deploy_one(client_of: ClientOf, operator: Actor) -> None:
    create_endpoint(actor=operator, name="price")
    page = client_of("viewer").get("/monitoring/price/").content.decode()
    assert "Nothing is deployed here yet" in page
    assert "signalbox deploy price MODEL VERSION" in page
    assert "That version never answered here" in client_of("viewer").get("/monitoring/price/?version=7").content.decode()


def test_few_rows_are_not_a_quiet_zero(client_of: ClientOf, operator: Actor) -> None:
    world.register()
    world.log(world.people(214), now() - timedelta(minutes=1))
    evaluate_now(actor=operator, endpoint=world.ENDPOINT)
    page = client_of("viewer").get("/monitoring/churn-scorer/").content.decode()
    assert "214 of 500 rows" in page


def test_the_audit_log_says_a_change_of_routing_in_words() -> None:
    def state(blue: int, green: int) -> dict[str, object]:
        slots = [{"name": "blue", "model": "churn", "version": 12, "weight": blue}, {"name": "green", "model": "churn", "version": 13, "weight": green}]
        return {"live_slot": "blue", "slots": slots}

    assert changes(state(100, 0), state(90, 10)) == [("slot blue", "churn v12, 100 %", "churn v12, 90 %"), ("slot green", "churn v13, 0 %", "churn v13, 10 %")]
