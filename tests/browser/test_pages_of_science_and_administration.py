"""The pages about models, monitoring, alerts and administration in a real browser: accessible, fitting, and alive."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, expect
from pytest_django.live_server_helper import LiveServer

from access.actors import Actor
from access.keys import create_key
from access.models import ApiKey, Person
from core.clock import now
from monitoring.models import Alert
from registry.models import Version
from registry.steps import at_first, step
from serving.models import Endpoint, KeyUsage
from tests.browser.conftest import OpenPage, faults

PAGES = (
    "/password/",
    "/models/",
    "/models/register/",
    "/models/churn/",
    "/models/churn/12/",
    "/models/churn/12/edit/",
    "/models/churn/12/archive/",
    "/models/churn/compare/?a=12&b=13",
    "/monitoring/",
    "/monitoring/churn-scorer/",
    "/monitoring/churn-scorer/limits/",
    "/monitoring/churn-scorer/reference/",
    "/alerts/",
    "/alerts/{alert}/",
    "/audit/",
    "/keys/",
    "/people/",
    "/people/admin/",
    "/system/",
    "/settings/",
)


def an_alert() -> Alert:
    at = now()
    items = [{"name": "tenure_months", "key": "in.tenure_months", "measure": "PSI", "value": 0.31, "limit": 0.04, "severity": "severe", "importance": 0.4}]
    detail = {"items": items, "level": 300}
    return Alert.objects.create(
        endpoint="churn-scorer",
        model="churn",
        version=12,
        cause="drift",
        dedup_key="d",
        severity="severe",
        title="drifted",
        first_at=at,
        last_at=at,
        detail=detail,
    )


@pytest.mark.long
def test_axe_finds_nothing_and_every_page_fits(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    page = open_page("/models/", role="admin")
    number = an_alert().number
    for path in PAGES:
        answer = page.goto(path.format(alert=number))
        assert (path, answer and answer.status) == (path, 200)
        assert faults(page) == []


@pytest.mark.parametrize("script", [True, False])
def test_signs_in_with_a_password_and_lands_where_it_was_wanted(browser: Browser, live_server: LiveServer, transactional_db: None, script: bool) -> None:
    Person.objects.create_user(username="ada", role="viewer", password="a long password here")
    page = browser.new_context(base_url=live_server.url, java_script_enabled=script).new_page()
    page.goto("/audit/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long password here")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Audit log", level=1)).to_be_visible()
    page.context.close()


def test_the_checklist_ticks_by_itself_and_the_page_follows(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    row = Version.objects.get(number=13)
    Version.objects.filter(id=row.id).update(state="checking", steps=at_first("model.joblib"))
    page = open_page("/models/churn/13/")
    expect(page.locator("#checklist .passed")).to_have_count(1)
    steps = [step(key, "passed", "256 of 256 rows agree") for key in ("received", "format", "signature", "converted", "agreement", "speed", "ready")]
    Version.objects.filter(id=row.id).update(state="ready", steps=steps)
    expect(page.locator("#checklist .passed")).to_have_count(7)
    expect(page.locator("#checklist .pill")).to_have_text("ready")
    expect(page.get_by_role("link", name="Deploy", exact=True)).to_be_visible()


def test_a_key_is_revoked_in_a_dialog(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    page = open_page("/keys/", role="admin")
    page.fill("[name=name]", "billing")
    page.get_by_role("button", name="Create the key").click()
    expect(page.get_by_role("heading", name="shown this once")).to_be_visible()
    page.goto("/keys/")
    page.get_by_role("button", name="Revoke billing").or_(page.get_by_role("link", name="Revoke billing")).click()
    expect(page.locator("#dialog")).to_be_visible()
    page.get_by_role("button", name="Revoke the key").click()
    expect(page.locator("#toasts")).to_contain_text("The key billing is revoked.")
    assert ApiKey.objects.get().revoked_at is not None


def test_a_key_is_limited_in_a_dialog_that_keeps_what_was_refused(open_page: OpenPage, churn_scorer: Endpoint, admin: Actor) -> None:
    limits = {"requests_per_s": 10, "burst": 20, "max_rows": 500, "rows_per_day": 50_000, "rows_in_all": 13_000}
    key = create_key(actor=admin, name="billing", scopes=["predict"], limits=limits).key
    for ago, rows in ((0, 12_400), (1, 300), (40, 400)):
        KeyUsage.objects.create(key_id=key.id, day=now().date() - timedelta(days=ago), process=uuid4(), requests=40, rows=rows)
    page = open_page("/keys/", role="admin")
    expect(page.locator("tbody")).to_contain_text("12,400 of 50,000 rows today")
    page.locator("details.drawer > summary").click()
    page.locator("details.group > summary").click()
    assert faults(page) == []
    page.get_by_role("link", name="Limits of billing").click()
    expect(page.locator("#dialog")).to_contain_text("13,100 of 13,000 rows in all")
    assert faults(page) == []
    page.locator("#dialog").get_by_label("Requests per second").fill("")
    page.get_by_role("button", name="Save the limits").click()
    expect(page.locator("#dialog .errors")).to_contain_text("A burst needs a rate")
    page.locator("#dialog").get_by_label("Burst").fill("")
    page.locator("#dialog").get_by_label("Rows in all").fill("20000")
    page.get_by_role("button", name="Save the limits").click()
    expect(page.locator("#toasts")).to_contain_text("The limits of billing are kept.")
    expect(page.locator("tbody")).to_contain_text("13,100 of 20,000 rows in all")
    assert ApiKey.objects.get().limits == {"max_rows": 500, "rows_per_day": 50_000, "rows_in_all": 20_000}


def test_words_are_edited_in_a_dialog_that_keeps_what_was_refused(open_page: OpenPage, churn_scorer: Endpoint) -> None:
    page = open_page("/models/churn/", role="scientist")
    page.get_by_role("button", name="Edit").click()
    page.fill("#dialog [name=description]", "Who leaves")
    page.fill("#dialog [name=tags]", "no sign")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#dialog .errors")).to_contain_text("Tags, line 1")
    expect(page.locator("#dialog [name=description]")).to_have_value("Who leaves")
    page.fill("#dialog [name=tags]", "team = growth")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("main")).to_contain_text("Who leaves")
