"""The page of the REST API: Swagger UI under the strict policy."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import PHONE, OpenPage, overflow


def test_operations_are_drawn_and_tried_without_a_complaint(open_page: OpenPage) -> None:
    page = open_page("/alerts/", role="viewer")
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/api/")
    expect(page.locator(".opblock").first).to_be_visible()
    assert page.locator(".opblock").count() > 40
    page.locator(".opblock-summary-control", has_text="/api/v1/me/").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tr.response .response-col_status").first).to_contain_text("200")
    expect(page.locator(".live-responses-table")).to_contain_text("viewer")
    assert complaints == []
    assert {url.split("/", 3)[2] for url in asked if url.startswith("http")} == {page.url.split("/", 3)[2]}


def test_the_page_fits_a_phone(open_page: OpenPage) -> None:
    page = open_page("/api/", size=PHONE)
    expect(page.locator(".opblock").first).to_be_visible()
    assert overflow(page) == 0
