"""The REST API of serving."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client

from access.keys import create_key
from core.clock import now
from serving.create_endpoint import create_endpoint
from serving.models import Endpoint
from serving.split import split
from tests.serving.conftest import shares, summaries
from tests.serving.test_predictions import segment

URL = "/api/v1/endpoints/"
ONE = f"{URL}churn-scorer/"


@pytest.fixture
def api(client_of):
    """``api("operator").post(url, {...})`` with JSON in and out."""

    def of(role: str) -> JsonClient:
        return JsonClient(client_of(role))

    return of


class JsonClient:
    def __init__(self, client: Client, **headers: str) -> None:
        self.client, self.headers = client, headers

    def get(self, url, **query):
        return self.client.get(url, query, headers=self.headers)

    def post(self, url, body=None):
        return self.client.post(url, body or {}, content_type="application/json", headers=self.headers)

    def patch(self, url, body):
        return self.client.patch(url, body, content_type="application/json", headers=self.headers)

    def delete(self, url):
        return self.client.delete(url, headers=self.headers)


def test_the_whole_way_over_rest(version, api):
    version(12)
    version(13)
    operator = api("operator")
    created = operator.post(URL, {"name": "churn-scorer", "sticky_on": "customer_id"})
    assert (created.status_code, created.json()["revision"], created.json()["standing"]) == (201, 1, "No version yet")
    assert operator.post(f"{ONE}deploy/", {"model": "churn", "version": 12}).json()["standing"] == "Steady on v12"
    answer = operator.post(f"{ONE}deploy/", {"model": "churn", "version": 13}).json()
    answer = operator.post(f"{ONE}split/", {"weights": {"blue": 90, "green": 10}, "revision": answer["revision"]}).json()
    assert [(slot["name"], slot["version"], slot["weight"], slot["role"]) for slot in answer["slots"]] == [
        ("blue", 12, 90, "Live"),
        ("green", 13, 10, "Candidate"),
    ]
    answer = operator.post(f"{ONE}promote/", {"revision": answer["revision"], "reason": "better"}).json()
    assert (answer["live_slot"], answer["standing"]) == ("green", "Steady on v13")
    answer = operator.post(f"{ONE}roll-back/").json()
    assert (answer["live_slot"], answer["standing"], answer["revision"]) == ("blue", "Steady on v12", 6)
    answer = operator.post(f"{ONE}empty-slot/", {"slot": "green"}).json()
    assert answer["slots"][1]["role"] == "Empty"
    answer = operator.patch(ONE, {"log_policy": "durable", "revision": 7}).json()
    assert (answer["log_policy"], answer["revision"]) == ("durable", 8)
    wrong = operator.patch(ONE, {"log_policy": "fats", "revision": 8})
    assert (wrong.status_code, wrong.json()["errors"]["log_policy"]) == (400, ['"fats" is not one of durable, fast, sampled, off.'])
    assert operator.delete(f"{ONE}?revision=8").status_code == 204
    assert operator.get(ONE).status_code == 404


@pytest.mark.parametrize(("verb", "body"), [("split", {"weights": {"blue": 50, "green": 50}}), ("promote", {})])
def test_a_missing_revision_is_refused_with_how_to_get_it(endpoint, api, verb, body):
    answer = api("operator").post(f"{ONE}{verb}/", body)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert "Send the revision that you saw" in answer.json()["errors"]["revision"][0]
    assert "GET /api/v1/endpoints/{name}/" in answer.json()["detail"]
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_a_deletion_without_a_revision_is_refused(endpoint, api):
    assert api("operator").delete(ONE).status_code == 400
    assert Endpoint.objects.count() == 1


def test_the_loser_of_a_race_gets_409_and_what_the_other_did(endpoint, api, admin):
    split(actor=admin, endpoint="churn-scorer", weights={"blue": 95, "green": 5}, revision=3)
    answer = api("operator").post(f"{ONE}promote/", {"revision": 3})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["revision"], problem["by"]) == (409, "overtaken", 4, "admin")
    assert problem["summary"] == "Split set to v12 95 %, v13 5 %"
    assert shares() == {"blue": (12, 95), "green": (13, 5)}


def test_a_wrong_split_is_422_and_changes_nothing(endpoint, api):
    answer = api("operator").post(f"{ONE}split/", {"weights": {"blue": 90, "green": 20}, "revision": 3})
    assert (answer.status_code, answer.json()["detail"]) == (422, "The parts add up to 110 %, not 100 %. Nothing was changed.")
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_incompatible_columns_are_listed(endpoint, api, version):
    from registry.signature import Kind

    version(14, columns={"tenure_months": Kind.INTEGER, "age": Kind.NUMBER})
    answer = api("operator").post(f"{ONE}deploy/", {"model": "churn", "version": 14})
    assert (answer.status_code, answer.json()["code"]) == (422, "incompatible")
    assert len(answer.json()["differences"]) == 6
    assert "column age is new" in answer.json()["detail"]
    assert answer.json()["differences"][:3] == ["column monthly_charges is missing", "column contract is missing", "column age is new"]


@pytest.mark.parametrize("verb", ["deploy", "split", "promote", "roll-back", "empty-slot", "load", "unload"])
def test_without_the_right_every_verb_is_403_and_names_it(endpoint, api, verb):
    body = {
        "deploy": {"model": "churn", "version": 12},
        "split": {"weights": {"blue": 100}, "revision": 3},
        "promote": {"revision": 3},
        "empty-slot": {"slot": "green"},
    }
    answer = api("viewer").post(f"{ONE}{verb}/", body.get(verb))
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "endpoint churn-scorer" in answer.json()["detail"]
    assert len(summaries()) == 3


def test_an_endpoint_is_unloaded_and_loaded(endpoint, api):
    operator = api("operator")
    answer = operator.post(f"{ONE}unload/", {"reason": "bad data", "revision": 3}).json()
    assert (answer["standing"], answer["loaded"], answer["unloaded_by"], answer["unload_reason"], answer["revision"]) == (
        "Out of service",
        False,
        "operator",
        "bad data",
        4,
    )
    assert [row["loaded"] for row in operator.get(URL).json()["results"]] == [False]
    latest = operator.get(f"{ONE}ledger/").json()["results"][0]
    assert (latest["verb"], latest["before"]["loaded"], latest["after"]["loaded"]) == ("unload", True, False)
    answer = operator.post(f"{ONE}load/").json()
    assert (answer["loaded"], answer["unloaded_at"], answer["unloaded_by"], answer["standing"]) == (True, None, "", "Steady on v12")
    stale = operator.post(f"{ONE}unload/", {"revision": 3})
    assert (stale.status_code, stale.json()["code"]) == (409, "overtaken")
    assert len(summaries()) == 5


def test_nobody_gets_nothing(endpoint):
    for url in (URL, ONE, f"{ONE}ledger/", f"{ONE}traffic/", f"{ONE}predictions/", "/api/v1/system/"):
        assert Client().get(url).status_code == 401


def test_a_key_sees_and_changes_only_its_endpoints(endpoint, admin, operator):
    create_endpoint(actor=operator, name="other")
    key = create_key(actor=admin, name="ci", scopes=["operate"], endpoints=["churn-scorer"])
    client = JsonClient(Client(), Authorization=f"Bearer {key.text}")
    assert [row["name"] for row in client.get(URL).json()["results"]] == ["churn-scorer"]
    assert client.get(ONE).status_code == 200
    assert client.get(f"{URL}other/").status_code == 403
    assert client.post(f"{ONE}promote/", {"revision": 3}).status_code == 200
    assert client.post(URL, {"name": "third"}).status_code == 403


def test_an_unknown_field_is_named(endpoint, api):
    answer = api("operator").post(f"{ONE}promote/", {"revision": 3, "force": True})
    assert answer.status_code == 400
    assert "force" in answer.json()["errors"]
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_lists_are_paged_by_key(endpoint, operator, api):
    for number in range(3):
        create_endpoint(actor=operator, name=f"a-{number}")
    viewer = api("viewer")
    first = viewer.get(URL, limit=2).json()
    assert [row["name"] for row in first["results"]] == ["a-0", "a-1"]
    second = viewer.get(URL, limit=2, cursor=first["next"]).json()
    assert ([row["name"] for row in second["results"]], second["next"]) == (["a-2", "churn-scorer"], None)
    ledger = viewer.get(f"{ONE}ledger/", limit=2).json()
    assert [row["revision"] for row in ledger["results"]] == [3, 2]
    assert viewer.get(URL, limit=0).status_code == 400


def test_what_served_at_a_moment(endpoint, api):
    at = Endpoint.objects.get().ledger.get(revision=2).at
    rows = api("viewer").get(f"{ONE}ledger/", at=at.isoformat()).json()["results"]
    assert [(row["revision"], row["after"]["slots"][0]["version"], row["after"]["slots"][1]["version"]) for row in rows] == [(2, 12, None)]
    assert api("viewer").get(f"{ONE}ledger/", at="1999-01-01T00:00:00Z").json() == {"results": [], "next": None}


def test_traffic_as_columns(endpoint, api):
    answer = api("viewer").get(f"{ONE}traffic/", window="15m").json()
    assert (answer["step"], len(answer["t"]), len(answer["lines"]["blue.rps"])) == (10, 90, 90)
    later = api("viewer").get(f"{ONE}traffic/", window="15m", since=answer["t"][-2]).json()
    assert len(later["t"]) in {1, 2}
    assert api("viewer").get(f"{ONE}traffic/", window="2d").status_code == 400


def test_predictions_are_listed_shown_and_exported(endpoint, api):
    ids = segment(now() - timedelta(hours=1), 3)
    scientist = api("scientist")
    page = scientist.get(f"{ONE}predictions/", limit=2).json()
    assert [row["id"] for row in page["results"]] == [str(ids[2]), str(ids[1])]
    assert [row["id"] for row in scientist.get(f"{ONE}predictions/", cursor=page["next"]).json()["results"]] == [str(ids[0])]
    assert scientist.get(f"{ONE}predictions/", flagged="true").json()["results"] == []
    one = scientist.get(f"{ONE}predictions/{ids[1]}/").json()
    assert (one["endpoint"], one["rows"][0]["inputs"]["tenure"], one["rows"][0]["outputs"]["probabilities"]) == ("churn-scorer", 1, [0.25, None])
    assert scientist.get(f"{ONE}predictions/{2026:032x}/").status_code == 404
    exported = scientist.get(f"{ONE}predictions/export/")
    assert exported["Content-Type"] == "text/csv; charset=utf-8"
    assert len(exported.getvalue().decode().splitlines()) == 4
    assert api("viewer").get(f"{ONE}predictions/export/").status_code == 403


def test_the_system(endpoint, api):
    answer = api("viewer").get("/api/v1/system/").json()
    assert (answer["processes"], answer["disagree"], answer["jobs"]) == ([], False, [])
    assert answer["table_revision"] > 0


def test_the_schema_has_no_warning(db, tmp_path):
    call_command("spectacular", file=str(tmp_path / "schema.yml"), fail_on_warn=True, validate=True)
