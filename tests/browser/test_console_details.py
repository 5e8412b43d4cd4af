"""What a page shows on a phone, in the dark, without data and after a failure."""

from __future__ import annotations

import pytest
from django.test import override_settings
from playwright.sync_api import expect

from access.actors import Actor
from registry.compare_answers import compare_answers
from registry.models import AnswerComparison, Artifact, Version
from serving.edit_endpoint import edit_endpoint
from serving.models import Endpoint
from tests.browser.conftest import PHONE, OpenPage, faults, overflow, violations
from tests.console.conftest import judged

__all__ = ["judged"]

RESULT = {
    "kind": "classes",
    "rows": 200,
    "agreeing": 190,
    "mean_difference": 0.02,
    "largest_difference": 0.4,
    "shift": 0.05,
    "shares": [{"name": "no", "a": 0.7, "b": 0.65}, {"name": "yes", "a": 0.3, "b": 0.35}],
}


@pytest.fixture
def sampled(churn_scorer: Endpoint) -> None:
    version = Version.objects.get(number=13)
    Artifact.objects.create(version=version, role=Artifact.Role.SAMPLE, filename="X.csv", digest="0" * 64, size_bytes=1)


@pytest.mark.usefixtures("sampled")
def test_the_answers_of_two_versions_are_compared_without_a_click(open_page: OpenPage) -> None:
    page = open_page("/models/churn/compare/?a=12&b=13", role="scientist")
    expect(page.locator("#answers")).to_have_attribute("aria-busy", "true")
    assert faults(page) == []
    AnswerComparison.objects.update(state="done", result=RESULT)
    expect(page.locator("#answers .pill")).to_have_text("close")
    expect(page.locator("#answers")).to_contain_text("190 of 200 rows")
    expect(page.locator("#answers")).to_contain_text("+5.0 pt")
    assert faults(page) == []


@pytest.mark.usefixtures("sampled")
def test_a_failed_comparison_is_begun_again_from_its_card(open_page: OpenPage, operator: Actor) -> None:
    compare_answers(actor=operator, model="churn", a=12, b=13)
    AnswerComparison.objects.update(state="failed", failure="v12: The file used up the sandbox's processor time.")
    page = open_page("/models/churn/compare/?a=12&b=13", role="scientist")
    expect(page.locator("#answers [role=alert]")).to_contain_text("used up the sandbox's processor time")
    assert violations(page) == []
    page.get_by_role("button", name="Compare again").click()
    expect(page.locator("#answers")).to_have_attribute("aria-busy", "true")
    assert AnswerComparison.objects.get().state == "comparing"


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_of_the_api_takes_the_theme(open_page: OpenPage, dark: bool) -> None:
    page = open_page("/api/", dark=dark)
    expect(page.locator(".opblock").first).to_be_visible()
    light = page.evaluate("getComputedStyle(document.querySelector('.opblock')).backgroundColor")
    assert (light == "rgb(24, 24, 28)") is dark
    assert [each for each in violations(page) if each.startswith("color-contrast")] == []
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate("document.documentElement.classList.contains('dark-mode')") is not dark
    assert [each for each in violations(page) if each.startswith("color-contrast")] == []


@pytest.mark.long
def test_axe_finds_nothing_on_errors_and_empty_pages(open_page: OpenPage, transactional_db: None) -> None:
    page = open_page("/", role="viewer")
    for path in ("/", "/models/", "/endpoints/", "/monitoring/", "/alerts/", "/audit/?q=zzz", "/search/?q=zzz", "/people/", "/nothing/", "/models/nothing/"):
        page.goto(path)
        assert faults(page) == []


def test_axe_finds_nothing_in_the_gallery(open_page: OpenPage, transactional_db: None) -> None:
    with override_settings(DEBUG=True):
        page = open_page("/ui/")
        page.locator("bar-compare").scroll_into_view_if_needed()
        expect(page.locator("bar-compare[ready]")).to_be_visible()
        assert faults(page) == []


def test_escape_closes_the_search_at_once(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    page = open_page("/endpoints/churn-scorer/")
    page.keyboard.press("Control+k")
    page.keyboard.type("churn")
    expect(page.locator("#hits a").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#palette")).not_to_be_visible()


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize("path", ["/endpoints/churn-scorer/", "/monitoring/churn-scorer/"])
@pytest.mark.parametrize("script", [True, False])
def test_a_phone_shows_the_newest_window_of_the_heat_map(open_page: OpenPage, path: str, script: bool) -> None:
    page = open_page(path, size=PHONE, script=script)
    box = page.locator(".heat").first.locator("tbody tr").first.locator("td:visible").last.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= PHONE[0]
    assert box["width"] >= 10
    assert overflow(page) == 0


MONITORED = "/monitoring/churn-scorer/"
PREDICTIONS = "/endpoints/churn-scorer/predictions/"


@pytest.mark.usefixtures("judged")
@pytest.mark.long
def test_axe_finds_nothing_where_traffic_was_judged(open_page: OpenPage) -> None:
    page = open_page("/models/")
    for path in ("/endpoints/churn-scorer/", MONITORED, f"{MONITORED}features/in.charges/", PREDICTIONS):
        page.goto(path)
        assert faults(page) == []
    page.locator("tbody th a").first.click()
    expect(page.get_by_role("heading", name="The way it took")).to_be_visible()
    assert faults(page) == []


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize("role", ["operator", "admin"])
def test_axe_finds_nothing_where_inputs_are_masked(open_page: OpenPage, admin: Actor, role: str) -> None:
    edit_endpoint(actor=admin, endpoint="churn-scorer", changes={"masked_inputs": ["charges", "plan"]})
    page = open_page("/endpoints/churn-scorer/settings/", role=role)
    assert faults(page) == []
    page.goto(PREDICTIONS)
    assert (page.get_by_text("charges, plan masked").count() > 0) == (role == "operator")
    assert faults(page) == []
    page.locator("tbody th a").first.click()
    expect(page.get_by_role("heading", name="The way it took")).to_be_visible()
    assert (page.get_by_role("cell", name="masked").count() > 0) == (role == "operator")
    assert faults(page) == []


def test_axe_finds_nothing_before_anybody_signed_in(open_page: OpenPage) -> None:
    page = open_page("/models/")
    page.context.clear_cookies()
    page.goto("/sign-in/?next=/audit/")
    page.fill("[name=username]", "nobody")
    page.fill("[name=password]", "a wrong password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    assert faults(page) == []
    page.goto("/sign-in/no-such-link/")
    expect(page.get_by_role("heading", name="This link does not work")).to_be_visible()
    assert faults(page) == []


@pytest.mark.usefixtures("judged")
def test_r_asks_to_roll_back_also_where_the_endpoint_is_monitored(open_page: OpenPage) -> None:
    page = open_page(MONITORED)
    for tail in ("", "limits/", "reference/", "features/in.charges/"):
        page.goto(MONITORED + tail)
        page.locator("body").press("r")
        expect(page.get_by_role("heading", name="Nothing to roll back to")).to_be_visible()


@pytest.mark.usefixtures("churn_scorer")
def test_a_chart_that_cannot_be_read_says_so(open_page: OpenPage) -> None:
    page = open_page("/models/")
    page.route("**/series.json*", lambda route: route.abort())
    page.goto("/endpoints/churn-scorer/")
    expect(page.locator("live-chart[kind=latency]")).to_have_attribute("stale", "")
    words = page.evaluate("getComputedStyle(document.querySelector('live-chart[kind=latency]'), '::after').content")
    assert words == '"The chart could not be read. Trying again…"'
