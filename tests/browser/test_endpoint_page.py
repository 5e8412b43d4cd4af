"""The endpoint's page as an operator works with it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from access.actors import Actor
from core.clock import now
from serving.models import Endpoint, LedgerEntry
from serving.split import split
from tests.browser.conftest import OpenPage, faults
from tests.serving.conftest import shares

PATH = "/endpoints/churn-scorer/"


def test_the_split_is_edited_applied_and_told(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    page = open_page(PATH)
    page.fill("[name=weight_green]", "10")
    expect(page.locator("[name=weight_blue]")).to_have_value("90")
    expect(page.locator("[data-apply]")).to_have_text("Apply v13 0 → 10 %")
    page.locator("#traffic").get_by_label("Reason").fill("Better AUC")
    page.click("[data-apply]")
    expect(page.locator("#toasts")).to_contain_text("Split applied: v12 90 %, v13 10 %.")
    expect(page.locator("#traffic .card-head .pill")).to_have_text("Rollout at 10 %")
    expect(page.locator("#side .log")).to_contain_text("Split set to v12 90 %, v13 10 %“Better AUC”")
    assert shares() == {"blue": (12, 90), "green": (13, 10)}


def test_promotes_with_a_reason_and_rolls_back_with_two_keys(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    page = open_page(PATH)
    page.get_by_role("button", name="Promote").click()
    page.fill("#dialog [name=reason]", "Better AUC")
    page.get_by_role("button", name="Promote v13").click()
    expect(page.locator("#traffic .card-head .pill")).to_have_text("Steady on v13")
    expect(page.locator("#dialog")).not_to_be_visible()
    page.locator("body").press("r")
    expect(page.get_by_role("button", name="Roll back now")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("Rolled back: v12 100 %.")
    assert shares() == {"blue": (12, 100), "green": (13, 0)}
    assert LedgerEntry.objects.get(verb="promote").reason == "Better AUC"


def test_an_edit_survives_what_another_operator_does_and_is_then_refused(open_page: OpenPage, operator: Actor, churn_scorer: Endpoint) -> None:
    page = open_page(PATH)
    page.fill("[name=weight_green]", "40")
    split(actor=operator, endpoint="churn-scorer", weights={"blue": 85, "green": 15}, revision=3)
    expect(page.locator("[data-moved]")).to_be_visible()
    expect(page.locator("[name=weight_green]")).to_have_value("40")
    page.click("[data-apply]")
    expect(page.locator("#traffic .errors")).to_contain_text("Split set to v12 85 %, v13 15 %")
    expect(page.locator("[name=weight_green]")).to_have_value("40")
    assert shares() == {"blue": (12, 85), "green": (13, 15)}


def test_an_untouched_page_follows_what_another_operator_does(open_page: OpenPage, operator: Actor, churn_scorer: Endpoint) -> None:
    page = open_page(PATH)
    split(actor=operator, endpoint="churn-scorer", weights={"blue": 85, "green": 15}, revision=3)
    expect(page.locator("#traffic .card-head .pill")).to_have_text("Rollout at 15 %")
    expect(page.locator("[name=weight_green]")).to_have_value("15")


def test_without_script_the_forms_post_and_the_dialogs_are_pages(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    page = open_page(PATH, script=False)
    page.fill("[name=weight_blue]", "90")
    page.fill("[name=weight_green]", "20")
    page.click("[data-apply]")
    expect(page.locator(".errors")).to_contain_text("110 %, not 100 %. Nothing was changed.")
    page.goto(PATH)
    page.get_by_role("button", name="Promote").click()
    page.get_by_role("button", name="Promote v13").click()
    expect(page).to_have_url(re.compile(r"/endpoints/churn-scorer/$"))
    assert shares() == {"blue": (12, 0), "green": (13, 100)}


def test_the_charts_show_errors_too_and_the_chosen_window_stands_in_the_address(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    LedgerEntry.objects.update(at=now() - timedelta(minutes=5))
    page = open_page(PATH)
    page.get_by_text("1 h", exact=True).click()
    expect(page).to_have_url(re.compile(r"\?window=1h$"))
    page.reload()
    expect(page.locator("[data-window] input:checked")).to_have_value("1h")
    page.locator("live-chart[kind=errors]").scroll_into_view_if_needed()
    expect(page.locator("live-chart[kind=errors][ready]")).to_contain_text("No requests in this window.")
    expect(page.locator("live-chart[kind=latency] .annotation-text", has_text="deployed into")).to_be_visible()


def test_a_viewer_gets_the_missing_right_in_a_dialog(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    page = open_page(PATH, role="viewer")
    page.fill("[name=weight_green]", "10")
    page.click("[data-apply]")
    expect(page.locator("#dialog")).to_contain_text("endpoint.split")
    assert shares() == {"blue": (12, 100), "green": (13, 0)}


def test_ctrl_k_finds_a_version(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    page = open_page("/")
    page.keyboard.press("Control+k")
    page.keyboard.type("churn v13")
    expect(page.locator("#hits a").first).to_contain_text("churn v13")


@pytest.mark.long
def test_axe_finds_nothing_and_nothing_overflows(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    complaints: list[str] = []
    page = open_page("/")
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    for path in (
        "/",
        "/endpoints/",
        "/endpoints/new/",
        "/search/?q=churn",
        PATH,
        *(PATH + tail for tail in ("try/", "predictions/", "ledger/?at=2026-11-22T14:05", "settings/")),
    ):
        page.goto(path)
        assert faults(page) == []
    page.goto(PATH)
    for name in ("Deploy", "Roll back", "Promote"):
        page.get_by_role("button", name=name, exact=True).click()
        expect(page.locator("#dialog")).to_be_visible()
        assert (name, faults(page)) == (name, [])
        page.locator("#dialog [data-close]").click()
    assert complaints == []
