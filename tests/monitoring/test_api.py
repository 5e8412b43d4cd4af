"""The REST API of monitoring: rights, shapes, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.test import Client
from rest_framework.renderers import JSONRenderer

from access.actors import Actor
from access.keys import create_key
from core.ids import uuid7
from monitoring.api.serializers import DriftGridOut
from monitoring.evaluate import evaluate_now
from monitoring.models import Alert, Outcome
from monitoring.queries import drift_overview
from monitoring.tasks import delete_old_windows
from tests.monitoring.world import ENDPOINT, MODEL, VERSION, answers, log, people, register, window

URL = f"/api/v1/endpoints/{ENDPOINT}"


@pytest.fixture
def traffic(operator: Actor) -> None:
    register()
    for back in range(1, 4):
        log(people(600, back, shift=20), window(back))
    evaluate_now(actor=operator, endpoint=ENDPOINT)


@pytest.mark.usefixtures("traffic")
def test_a_viewer_reads_everything(client_of: Callable[[str], Client]) -> None:
    client = client_of("viewer")
    grid = client.get(f"{URL}/drift/?hours=6").json()
    assert (grid["verdict"], len(grid["hours"]), len(grid["rows"]), grid["rows"][0]["verdict"]) == ("severe", 6, 5, "severe")
    assert client.get(f"{URL}/drift/charges/").json()["row"]["key"] == "in.charges"
    assert client.get(f"{URL}/quality/").json()["n"] == 1800
    assert client.get(f"{URL}/performance/").json()["summary"][0]["text"] == "No outcomes yet."
    assert client.get(f"{URL}/rule/").json()["minimum_rows"] == 500
    alerts = client.get("/api/v1/alerts/?state=open").json()
    assert len(alerts["results"]) == 2
    number = alerts["results"][0]["number"]
    assert client.get(f"/api/v1/alerts/{number}/").json()["alert"]["number"] == number
    assert client.post(f"{URL}/evaluate/").json()["verdict"] == "severe"


@pytest.mark.usefixtures("traffic")
def test_drift_is_answered_as_it_is_documented(client_of: Callable[[str], Client]) -> None:
    grid = DriftGridOut(drift_overview(ENDPOINT, hours=6)).data
    assert client_of("viewer").get(f"{URL}/drift/?hours=6").json() == json.loads(JSONRenderer().render(grid))


def test_a_feature_with_a_slash_in_its_name_is_read_like_any_other(client_of: Callable[[str], Client], operator: Actor) -> None:
    name = "od280/od315_of_diluted_wines"
    register(noise=name)
    log(people(600, noise=name), window(1))
    evaluate_now(actor=operator, endpoint=ENDPOINT)
    client = client_of("viewer")
    assert client.get(f"{URL}/drift/{name}/").json()["row"]["key"] == f"in.{name}"
    refused = client.get(f"{URL}/drift/{name}/more/")
    assert (refused.status_code, f"no feature '{name}/more'" in refused.content.decode()) == (404, True)


@pytest.mark.usefixtures("traffic")
def test_a_viewer_changes_nothing(client_of: Callable[[str], Client]) -> None:
    client, number = client_of("viewer"), Alert.objects.latest("number").number
    refused = [
        client.post(f"/api/v1/alerts/{number}/resolve/", {}, content_type="application/json"),
        client.post(f"/api/v1/alerts/{number}/acknowledge/", {}, content_type="application/json"),
        client.post(f"/api/v1/alerts/{number}/notes/", {"text": "x"}, content_type="application/json"),
        client.patch(f"{URL}/rule/", {"changes": {"alpha": 0.1}}, content_type="application/json"),
        client.post(f"{URL}/reference/", {"model": MODEL, "version": VERSION}, content_type="application/json"),
        client.post("/api/v1/outcomes/", {"outcomes": [{"prediction_id": str(uuid7()), "value": 1}]}, content_type="application/json"),
    ]
    assert [answer.status_code for answer in refused] == [403] * 6
    assert Alert.objects.exclude(state="open").count() == 0
    assert Outcome.objects.count() == 0


@pytest.mark.usefixtures("traffic")
def test_an_operator_handles_an_alert(client_of: Callable[[str], Client]) -> None:
    client, number = client_of("operator"), Alert.objects.latest("number").number
    acknowledged = client.post(f"/api/v1/alerts/{number}/acknowledge/", {"revision": 1}, content_type="application/json")
    assert (acknowledged.status_code, acknowledged.json()["alert"]["state"], acknowledged.json()["revision"]) == (200, "acknowledged", 2)
    stale = client.post(f"/api/v1/alerts/{number}/resolve/", {"revision": 1}, content_type="application/json")
    assert (stale.status_code, stale.headers["Content-Type"]) == (409, "application/problem+json")
    assert client.post(f"/api/v1/alerts/{number}/notes/", {"text": "Hm."}, content_type="application/json").status_code == 201
    resolved = client.post(f"/api/v1/alerts/{number}/resolve/", {"text": "ok", "false_alarm": True}, content_type="application/json").json()
    assert (resolved["alert"]["state"], resolved["false_alarm"], len(resolved["notes"])) == ("resolved", True, 3)


@pytest.mark.usefixtures("traffic")
def test_an_operator_changes_limits_and_reference(client_of: Callable[[str], Client]) -> None:
    client = client_of("operator")
    changed = client.patch(f"{URL}/rule/", {"changes": {"alpha": 0.05}, "revision": 1}, content_type="application/json")
    assert (changed.status_code, changed.json()["alpha"]) == (200, 0.05)
    assert client.patch(f"{URL}/rule/", {"changes": {"alpha": 9}}, content_type="application/json").status_code == 422
    made = client.post(f"{URL}/reference/", {"model": MODEL, "version": VERSION, "days": 1}, content_type="application/json").json()
    assert (made["source"], made["rows"]) == ("traffic", 1800)


def test_a_key_with_the_scope_sends_outcomes_as_json_and_csv(admin: Actor, client: Client) -> None:
    register()
    ids, inputs = [uuid7(int(window(1).timestamp() * 1000)) for _ in range(3)], people(3)
    log(inputs, window(1), ids=ids)
    labels = [int(label) for label in answers(inputs)["label"]]
    headers = {"Authorization": f"Bearer {create_key(actor=admin, name='billing', scopes=['outcomes']).text}"}
    sent = {"outcomes": [{"prediction_id": str(ids[0]), "value": labels[0]}, {"prediction_id": str(ids[1]), "value": None}]}
    answer = client.post("/api/v1/outcomes/", sent, content_type="application/json", headers=headers).json()
    assert (answer["accepted"], answer["parked"], answer["refused"]) == (1, 0, 1)
    assert answer["errors"][0]["index"] == 1
    csv = "prediction_id,value\n" + "".join(f"{one},{label}\n" for one, label in zip(ids, labels, strict=True))
    answer = client.post("/api/v1/outcomes/", csv, content_type="text/csv", headers=headers).json()
    assert (answer["accepted"], answer["parked"], answer["refused"]) == (3, 0, 0)
    assert client.post("/api/v1/outcomes/", b"\xff\xfe", content_type="text/csv", headers=headers).status_code == 400
    for nothing in ("", "prediction_id,value\n"):
        refused = client.post("/api/v1/outcomes/", nothing, content_type="text/csv", headers=headers | {"content-type": "text/csv"})
        assert (refused.status_code, refused.json()["code"]) == (400, "wrong_outcomes")
    assert refused.json()["detail"] == "There are no outcomes. Send at least one."
    form = client.post("/api/v1/outcomes/", "{}", content_type="application/x-www-form-urlencoded", headers=headers)
    assert form.json()["detail"].endswith("Send the header 'Content-Type: application/json or text/csv'.")
    assert client.get(f"{URL}/drift/", headers=headers).status_code == 403


def test_what_does_not_exist_is_404_and_strangers_are_401(client: Client, client_of: Callable[[str], Client]) -> None:
    viewer = client_of("viewer")
    for url in ("/api/v1/endpoints/nowhere/drift/", "/api/v1/endpoints/nowhere/performance/", "/api/v1/alerts/999/"):
        assert viewer.get(url).status_code == 404
        assert client.get(url).status_code == 401
    assert viewer.post("/api/v1/endpoints/nowhere/evaluate/").status_code == 404


def test_the_hourly_task_runs(db: None) -> None:
    delete_old_windows()
