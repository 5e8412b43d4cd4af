"""The page of an endpoint, its list, its ledger and its live parts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from access.actors import Actor
from core.clock import now
from monitoring.models import Alert
from serving.create_endpoint import create_endpoint
from serving.latency import BUCKETS, bucket_of
from serving.models import Endpoint, TrafficWindow
from tests.conftest import ClientOf

PAGES = ("", "pulse/", "side/", "traffic/", "ledger/", "settings/", "predictions/", "try/", "promote/", "roll-back/", "deploy/")


def traffic(slot: str, version: int, requests: int = 100, **more: int) -> None:
    """Write one window of the last minute: every request took about 4 ms."""
    latency = [0] * BUCKETS
    latency[bucket_of(4000)] = requests
    start = now().replace(microsecond=0) - timedelta(seconds=20)
    start -= timedelta(seconds=start.second % 10)
    values = {"requests": requests, "rows": requests, "latency": latency, "process": "00000000-0000-0000-0000-000000000001", **more}
    TrafficWindow.objects.create(level=10, start_at=start, endpoint="churn-scorer", slot=slot, version=version, **values)


@pytest.mark.parametrize("role", ["viewer", "scientist", "operator", "admin"])
@pytest.mark.parametrize("page", PAGES)
def test_everybody_may_look(client_of: ClientOf, endpoint: Endpoint, role: str, page: str) -> None:
    answer = client_of(role).get(f"/endpoints/churn-scorer/{page}")
    assert answer.status_code == (422 if page == "roll-back/" and b"Nothing to roll back" not in answer.content else 200)
    assert b" style=" not in answer.content


def test_shows_both_slots_with_their_numbers_and_shares(client_of: ClientOf, endpoint: Endpoint) -> None:
    traffic("blue", 12)
    body = client_of("viewer").get("/endpoints/churn-scorer/").content.decode()
    assert "v12" in body
    assert "Standby, warm" in body
    assert "actual 100.0 %" in body
    assert 'name="weight_blue" value="100"' in body
    assert 'name="weight_green" value="0"' in body
    assert 'name="revision" value="3"' in body


@pytest.mark.parametrize("page", ["", "pulse/"])
def test_the_share_of_cache_hits_is_shown_where_there_is_a_cache(client_of: ClientOf, endpoint: Endpoint, page: str) -> None:
    traffic("blue", 12, requests=80, cache_hits=20)
    client, path = client_of("viewer"), f"/endpoints/churn-scorer/{page}"
    assert "Cache hits" not in client.get(path).content.decode()
    Endpoint.objects.update(cache={"ttl_s": 60})
    assert '<h2>Cache hits</h2>\n  <p class="value"><b>25.0</b> <span>%</span></p>' in client.get(path).content.decode()


def test_a_viewer_is_told_which_right_a_split_needs(client_of: ClientOf, endpoint: Endpoint) -> None:
    assert "<code>endpoint.split</code>" in client_of("viewer").get("/endpoints/churn-scorer/").content.decode()
    assert "<code>endpoint.split</code>" not in client_of("operator").get("/endpoints/churn-scorer/").content.decode()


def test_an_endpoint_without_a_version_says_what_to_do(client_of: ClientOf, operator: Actor) -> None:
    create_endpoint(actor=operator, name="price")
    body = client_of("viewer").get("/endpoints/price/").content.decode()
    assert "Deploy a version to blue" in body
    assert "The first version that is deployed here gets all traffic" in body


def test_the_list_costs_the_same_for_one_and_for_thirty(
    client_of: ClientOf, operator: Actor, endpoint: Endpoint, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = client_of("viewer")
    client.get("/endpoints/")
    with django_assert_num_queries(8) as few:
        client.get("/endpoints/")
    for number in range(30):
        create_endpoint(actor=operator, name=f"e-{number}")
    with django_assert_num_queries(len(few)):
        assert client.get("/endpoints/").content.count(b'<th scope="row">') == 31


def test_the_list_is_paged_and_searched_in_the_address(client_of: ClientOf, operator: Actor) -> None:
    for number in range(60):
        create_endpoint(actor=operator, name=f"e-{number:02}")
    client = client_of("viewer")
    first = client.get("/endpoints/")
    assert first.content.count(b'<th scope="row">') == 50
    cursor = first.context["rows"].next
    assert client.get("/endpoints/", {"cursor": cursor}).content.count(b'<th scope="row">') == 10
    assert client.get("/endpoints/", {"q": "e-07"}).content.count(b'<th scope="row">') == 1


def test_charts_get_columns_and_only_later_ones(client_of: ClientOf, endpoint: Endpoint) -> None:
    traffic("blue", 12)
    client = client_of("viewer")
    columns: dict[str, Any] = client.get("/endpoints/churn-scorer/series.json").json()
    assert set(columns) == {"t", "lines", "marks", "step"}
    assert max(value or 0 for value in columns["lines"]["blue.rps"]) == 10
    since = columns["t"][-2]
    assert client.get("/endpoints/churn-scorer/series.json", {"since": since}).json()["t"][0] > since
    assert client.get("/endpoints/churn-scorer/series.json", {"since": "x"}).status_code == 400
    assert client.get("/endpoints/churn-scorer/series.json", {"window": "9y"}).status_code == 400


def test_the_ledger_tells_what_served_at_a_moment(client_of: ClientOf, endpoint: Endpoint) -> None:
    client = client_of("viewer")
    moment = (now() + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%S")
    assert "<b>v12 100 %</b>" in client.get("/endpoints/churn-scorer/ledger/", {"at": moment}).content.decode()
    assert "there was no churn-scorer yet" in client.get("/endpoints/churn-scorer/ledger/", {"at": "2020-01-01T00:00"}).content.decode()
    assert "is no moment" in client.get("/endpoints/churn-scorer/ledger/", {"at": "yesterday"}).content.decode()


def test_the_page_and_its_parts_cost_few_queries(client_of: ClientOf, judged: None, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    client = client_of("viewer")
    client.get("/endpoints/churn-scorer/")
    with django_assert_max_num_queries(20):
        page = client.get("/endpoints/churn-scorer/").content.decode()
    assert "Prediction drift" in page
    assert 'id="drift"' in page
    with django_assert_max_num_queries(15):
        client.get("/endpoints/churn-scorer/side/", headers={"HX-Request": "true"})
    with django_assert_max_num_queries(7):
        client.get("/endpoints/churn-scorer/pulse/", headers={"HX-Request": "true"})


def _alert(version: int, **more: Any) -> Alert:
    values = {"severity": "severe", "title": "The feature charges drifted, PSI 0.41", "first_at": now(), "last_at": now()}
    more = {"cause": "drift", "endpoint": "churn-scorer"} | more
    return Alert.objects.create(model="churn", version=version, dedup_key=f"{more['cause']}:{more['endpoint']}", **values, **more)


def test_an_open_alert_about_the_candidate_is_no_good_sign_for_a_promotion(
    client_of: ClientOf, endpoint: Endpoint, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client, side = client_of("operator"), "/endpoints/churn-scorer/side/"
    calm = client.get(side).content.decode()
    assert 'No open alert<small>about the version, at this endpoint</small></th><td class="num">0</td><td class="num"><b>0</b>' in calm
    assert ">1 of 6</span>" in calm
    with django_assert_num_queries(14):
        client.get(side)
    _alert(13, cause="output-drift", state="resolved")
    _alert(13, endpoint="another")
    _alert(12, cause="performance")
    assert ">1 of 6</span>" in client.get(side).content.decode()
    mine = _alert(13)
    with django_assert_num_queries(14):
        page = client.get(side).content.decode()
    link = f'<a class="link" href="/alerts/{mine.number}/">Alert {mine.number}: The feature charges drifted, PSI 0.41</a>'
    assert f'No open alert<small>{link}</small></th><td class="num">1</td><td class="num"><b>1</b></td>' in page
    assert ">0 of 6</span>" in page
    sheet = client.get("/endpoints/churn-scorer/promote/").content.decode()
    assert f'<a href="/alerts/{mine.number}/">Alert {mine.number}</a> about v13 is not resolved: The feature charges drifted' in sheet


def test_an_open_alert_is_about_each_version_that_it_names(client_of: ClientOf, endpoint: Endpoint) -> None:
    both = _alert(12, detail={"versions": [["churn", 12], ["churn", 13]]})
    page = client_of("operator").get("/endpoints/churn-scorer/side/").content.decode()
    link = f'<a class="link" href="/alerts/{both.number}/">Alert {both.number}: The feature charges drifted, PSI 0.41 in v12, and v13 too</a>'
    assert f'No open alert<small>{link}</small></th><td class="num">1</td><td class="num"><b>1</b></td>' in page


def test_an_unknown_endpoint_is_404(client_of: ClientOf) -> None:
    assert client_of("viewer").get("/endpoints/nothing/").status_code == 404


def test_a_fragment_of_somebody_signed_out_sends_the_page_to_sign_in(client: Any, db: None) -> None:
    answer = client.get("/endpoints/churn-scorer/pulse/", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/endpoints/churn-scorer/"})
    assert answer.status_code == 204
    assert answer["HX-Redirect"] == "/sign-in/?next=/endpoints/churn-scorer/"
