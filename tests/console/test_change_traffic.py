"""Split, promote, roll back, deploy and empty, as forms of the pages: with htmx and without script."""

from __future__ import annotations

import json

import pytest

from access.actors import Actor
from serving.models import Endpoint, LedgerEntry
from serving.split import split
from tests.conftest import ClientOf
from tests.serving.conftest import MakeVersion, shares

HTMX = {"HX-Request": "true", "HX-Current-URL": "http://testserver/endpoints/churn-scorer/"}
SPLIT = "/endpoints/churn-scorer/split/"


def test_a_split_posts_without_script_and_goes_back_to_the_page(client_of: ClientOf, endpoint: Endpoint) -> None:
    answer = client_of("operator").post(SPLIT, {"weight_blue": "90", "weight_green": "10", "revision": "3"})
    assert (answer.status_code, answer["Location"]) == (302, "/endpoints/churn-scorer/")
    assert shares() == {"blue": (12, 90), "green": (13, 10)}


def test_a_split_keeps_its_reason_and_shows_it_again_when_it_is_refused(client_of: ClientOf, endpoint: Endpoint) -> None:
    client = client_of("operator")
    form = {"weight_blue": "90", "weight_green": "20", "revision": "3", "reason": "Better AUC"}
    refused = client.post(SPLIT, form, headers=HTMX)
    assert (refused.status_code, 'name="reason" value="Better AUC"' in refused.content.decode()) == (422, True)
    client.post(SPLIT, form | {"weight_green": "10"})
    assert LedgerEntry.objects.get(verb="split").reason == "Better AUC"
    assert 'name="reason" value=""' in client.get("/endpoints/churn-scorer/").content.decode()


def test_a_split_with_htmx_answers_the_card_and_a_toast(client_of: ClientOf, endpoint: Endpoint) -> None:
    answer = client_of("operator").post(SPLIT, {"weight_blue": "90", "weight_green": "10", "revision": "3"}, headers=HTMX)
    assert answer.status_code == 200
    assert answer.content.strip().startswith(b'<section class="card" id="traffic"')
    assert json.loads(answer["HX-Trigger"]) == {"toast": {"text": "Split applied: v12 90 %, v13 10 %."}, "traffic-changed": {}}


@pytest.mark.parametrize(
    ("blue", "green", "words"),
    [("90", "20", "The parts add up to 110 %, not 100 %. Nothing was changed."), ("x", "100", "a whole number from 0 to 100"), ("", "100", "a whole number")],
)
def test_a_bad_split_is_422_and_keeps_what_was_typed(client_of: ClientOf, endpoint: Endpoint, blue: str, green: str, words: str) -> None:
    answer = client_of("operator").post(SPLIT, {"weight_blue": blue, "weight_green": green, "revision": "3"}, headers=HTMX)
    assert answer.status_code == 422
    body = answer.content.decode()
    assert words in body
    assert f'name="weight_green" value="{green}" data-now="0"' in body
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_the_second_of_two_operators_gets_409_with_what_the_first_did(client_of: ClientOf, operator: Actor, endpoint: Endpoint) -> None:
    split(actor=operator, endpoint="churn-scorer", weights={"blue": 70, "green": 30}, revision=3)
    answer = client_of("operator").post(SPLIT, {"weight_blue": "90", "weight_green": "10", "revision": "3"}, headers=HTMX)
    assert answer.status_code == 409
    body = answer.content.decode()
    assert "Split set to v12 70 %, v13 30 %" in body
    assert 'name="revision" value="4"' in body
    assert 'name="weight_blue" value="90" data-now="70"' in body
    assert shares() == {"blue": (12, 70), "green": (13, 30)}


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("split", "endpoint.split"),
        ("promote", "endpoint.promote"),
        ("roll-back", "endpoint.roll_back"),
        ("deploy", "endpoint.deploy"),
        ("unload", "endpoint.load"),
        ("load", "endpoint.load"),
    ],
)
def test_a_viewer_changes_nothing_and_reads_which_right_is_missing(client_of: ClientOf, endpoint: Endpoint, path: str, right: str) -> None:
    form = {"weight_blue": "90", "weight_green": "10", "revision": "3", "version": "churn/13"}
    answer = client_of("viewer").post(f"/endpoints/churn-scorer/{path}/", form, headers=HTMX)
    assert answer.status_code == 403
    assert answer["HX-Retarget"] == "#dialog"
    assert right in answer.content.decode()
    assert LedgerEntry.objects.count() == 3


def test_promoting_shows_from_and_to_and_the_checks_that_wait(client_of: ClientOf, endpoint: Endpoint) -> None:
    body = client_of("operator").get("/endpoints/churn-scorer/promote/", headers=HTMX).content.decode()
    assert "Promote v13 to all traffic?" in body
    assert "<b>100 %</b>" in body
    assert "Accuracy still waits: no outcomes yet." in body


def test_promoting_and_rolling_back_keep_their_reasons(client_of: ClientOf, endpoint: Endpoint) -> None:
    client = client_of("operator")
    client.post("/endpoints/churn-scorer/promote/", {"revision": "3", "slot": "green", "reason": "Better AUC"}, headers=HTMX)
    assert shares() == {"blue": (12, 0), "green": (13, 100)}
    answer = client.post("/endpoints/churn-scorer/roll-back/", {"reason": "p99 doubled"}, headers=HTMX)
    assert "Rolled back: v12 100 %." in answer["HX-Trigger"]
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert list(LedgerEntry.objects.order_by("-revision").values_list("reason", flat=True)[:2]) == ["p99 doubled", "Better AUC"]


def test_a_stale_promotion_shows_the_dialog_again_with_how_it_stands(client_of: ClientOf, operator: Actor, endpoint: Endpoint) -> None:
    split(actor=operator, endpoint="churn-scorer", weights={"blue": 70, "green": 30}, revision=3)
    answer = client_of("operator").post("/endpoints/churn-scorer/promote/", {"revision": "3", "slot": "green", "reason": "kept"}, headers=HTMX)
    assert (answer.status_code, answer["HX-Retarget"]) == (409, "#dialog")
    body = answer.content.decode()
    assert 'name="revision" value="4"' in body
    assert 'value="kept"' in body
    assert shares() == {"blue": (12, 70), "green": (13, 30)}


def test_rolling_back_to_a_revision_of_the_ledger(client_of: ClientOf, operator: Actor, endpoint: Endpoint) -> None:
    split(actor=operator, endpoint="churn-scorer", weights={"blue": 70, "green": 30}, revision=3)
    client = client_of("operator")
    assert b"revision 3 is applied again" in client.get("/endpoints/churn-scorer/roll-back/", {"to": "3"}).content
    client.post("/endpoints/churn-scorer/roll-back/", {"to": "3"})
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_with_nothing_earlier_rolling_back_says_so(client_of: ClientOf, endpoint: Endpoint) -> None:
    client = client_of("operator")
    assert b"Nothing to roll back to" in client.get("/endpoints/churn-scorer/roll-back/").content
    assert client.post("/endpoints/churn-scorer/roll-back/", {}, headers=HTMX).status_code == 422
    assert LedgerEntry.objects.count() == 3


def test_deploys_a_version_and_says_why_it_cannot(client_of: ClientOf, endpoint: Endpoint, version: MakeVersion) -> None:
    version(14)
    client = client_of("operator")
    taken = client.post("/endpoints/churn-scorer/deploy/", {"version": "churn/14", "slot": "blue", "revision": "3"}, headers=HTMX)
    assert taken.status_code == 422
    assert b"answers 100 % of the traffic" in taken.content
    client.post("/endpoints/churn-scorer/deploy/", {"version": "churn/14", "slot": "green", "revision": "3"}, headers=HTMX)
    assert shares() == {"blue": (12, 100), "green": (14, 0)}


def test_empties_a_slot_without_traffic(client_of: ClientOf, endpoint: Endpoint) -> None:
    client_of("operator").post("/endpoints/churn-scorer/slots/green/empty/", {"revision": "3"})
    assert shares() == {"blue": (12, 100), "green": (None, 0)}


def test_from_another_page_a_change_goes_to_the_endpoint(client_of: ClientOf, endpoint: Endpoint) -> None:
    elsewhere = HTMX | {"HX-Current-URL": "http://testserver/endpoints/"}
    answer = client_of("operator").post("/endpoints/churn-scorer/promote/", {"revision": "3", "slot": "green"}, headers=elsewhere)
    assert (answer.status_code, answer["HX-Redirect"]) == (204, "/endpoints/churn-scorer/")


def test_creates_edits_and_deletes_an_endpoint(client_of: ClientOf, db: None) -> None:
    client = client_of("operator")
    assert client.post("/endpoints/new/", {"name": "Bad Name"}).status_code in {400, 422}
    assert client.post("/endpoints/new/", {"name": "price", "log_policy": "fast"})["Location"] == "/endpoints/price/"
    form = {"revision": "1", "sticky_on": "customer_id", "log_policy": "sampled", "log_percent": "25", "validation": "refuse"}
    limits = {"max_rows": "100", "max_body_bytes": "2048", "timeout_ms": "500", "max_concurrency": "8"}
    limits |= {"requests_per_s": "0.5", "burst": "3"}
    form |= {"cache_ttl_s": "1.5", "cache_mib": "8", "cache_private": "private"}
    assert client.post("/endpoints/price/settings/", form | limits).status_code == 302
    price = Endpoint.objects.get(name="price")
    assert (price.sticky_on, price.log_share, price.validation["default"]) == ("customer_id", 0.25, "refuse")
    assert price.limits == {name: float(value) for name, value in limits.items()}
    assert price.cache == {"ttl_s": 1.5, "max_bytes": 8 * 2**20, "private": True}
    for wrong in ({"max_rows": "none"}, {"cache_mib": "inf"}, {"cache_ttl_s": "nan"}, {"cache_ttl_s": "-1"}, {"burst": "1.5"}):
        answer = client.post("/endpoints/price/settings/", form | limits | {"revision": "2"} | wrong)
        assert (answer.status_code, Endpoint.objects.get(name="price").revision) == (400, 2)
    assert client.post("/endpoints/price/delete/", {"name": "prize", "revision": "2"}).status_code == 422
    assert client.post("/endpoints/price/delete/", {"name": "price", "revision": "2"})["Location"] == "/endpoints/"
    assert not Endpoint.objects.exists()


def test_unloading_and_loading_are_asked_first_and_shown_on_every_tab(client_of: ClientOf, endpoint: Endpoint) -> None:
    client = client_of("operator")
    assert "Unload churn-scorer?" in client.get("/endpoints/churn-scorer/unload/", headers=HTMX).content.decode()
    answer = client.post("/endpoints/churn-scorer/unload/", {"revision": "3", "reason": "bad data"})
    assert (answer.status_code, answer["Location"]) == (302, "/endpoints/churn-scorer/")
    for tab in ("", "settings/", "ledger/", "try/"):
        body = client.get(f"/endpoints/churn-scorer/{tab}").content.decode()
        assert "Out of service." in body
        assert "“bad data”" in body
    assert "this puts it into service again" in client.get("/endpoints/churn-scorer/roll-back/?to=3", headers=HTMX).content.decode()
    assert "From out of service to <b>v12 100 %</b>" in client.get("/endpoints/churn-scorer/load/", headers=HTMX).content.decode()
    stale = client.post("/endpoints/churn-scorer/load/", {"revision": "3"}, headers=HTMX)
    assert (stale.status_code, Endpoint.objects.get().unload_reason) == (409, "bad data")
    client.post("/endpoints/churn-scorer/load/", {"revision": "4"})
    assert "Out of service." not in client.get("/endpoints/churn-scorer/").content.decode()
    assert Endpoint.objects.get().unloaded_at is None
