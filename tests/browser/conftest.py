"""A real browser before the real pages: Chromium driven by Playwright, the strict policy on, axe at hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from access.actors import Actor
from core.environment import ROOT
from serving.create_endpoint import create_endpoint
from serving.deploy import deploy
from serving.models import Endpoint
from tests.conftest import ClientOf
from tests.serving.conftest import make_version

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [  # each keeps the browser from calling out
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_AXE = (ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text()
OF_COLOURS = ("color-contrast", "link-in-text-block")
"""The rules of axe whose finding depends on the theme."""
PHONE, DESK = (390, 844), (1440, 900)
_PATIENCE_MS = 20_000

expect.set_options(timeout=_PATIENCE_MS)

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session", autouse=True)
def _database_from_the_browser_thread() -> None:
    """Playwright keeps an event loop in this thread; Django would refuse to talk to the database beside it."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def churn_scorer(transactional_db: None, operator: Actor) -> Endpoint:
    """``churn-scorer`` with v12 live in blue and v13 warm in green, at revision 3."""
    make_version(12)
    make_version(13)
    create_endpoint(actor=operator, name="churn-scorer")
    deploy(actor=operator, endpoint="churn-scorer", model="churn", version=12)
    return deploy(actor=operator, endpoint="churn-scorer", model="churn", version=13)


@pytest.fixture
def open_page(browser: Browser, live_server: LiveServer, transactional_db: None, client_of: ClientOf) -> Iterator[OpenPage]:
    """Open a page as a role: ``open_page("/endpoints/", role="operator", size=PHONE, dark=True, script=False)``."""
    contexts: list[BrowserContext] = []

    def opened(path: str, *, role: str = "operator", size: tuple[int, int] = DESK, dark: bool = False, script: bool = True) -> Page:
        scheme: Any = "dark" if dark else "light"
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, java_script_enabled=script, reduced_motion="reduce", base_url=live_server.url
        )
        contexts.append(context)
        cookie = client_of(role).cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
        page = context.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()


def violations(page: Page, rules: tuple[str, ...] = ()) -> list[str]:
    """Run axe on the page as it is, all rules or those named; gives what it finds, with the element."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE)
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    found = page.evaluate("options => axe.run(document, options)", options)
    return [f"{each['id']}: {node['html'][:120]}" for each in found["violations"] for node in each["nodes"]]


def overflow(page: Page) -> int:
    """Give by how many pixels the page is wider than the window; 0 when it fits."""
    return max(0, int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth")))


def faults(page: Page) -> list[str]:
    """Look at the open page in both sizes and both themes, as axe does and for what does not fit; gives what is wrong, and where."""
    found = []
    for size, name in ((DESK, "desk"), (PHONE, "phone")):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        found += [f"{page.url}, {name}: {each}" for each in violations(page)]
        if wider := overflow(page):
            found.append(f"{page.url}, {name}: {wider} px too wide")
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        found += [f"{page.url}, {name} in the dark: {each}" for each in violations(page, OF_COLOURS)]
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
    return found
