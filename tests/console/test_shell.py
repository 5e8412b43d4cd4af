"""The shell, the search, the error pages, the finder of packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles.finders import find
from django.test import Client, RequestFactory, override_settings

from console import errors, packages
from serving.models import Endpoint
from tests.conftest import ClientOf


@pytest.fixture
def demo_is_coming(tmp_path: Path) -> Iterator[Path]:
    """The demo is wanted and not there yet; gives the folder of the data."""
    with override_settings(ENVIRONMENT=settings.ENVIRONMENT.model_copy(update={"demo": True, "var_dir": tmp_path})):
        yield tmp_path


def test_the_first_page_without_an_endpoint_shows_the_steps(client_of: ClientOf, demo_is_coming: Path) -> None:
    (demo_is_coming / "demo.stopped").touch()
    body = client_of("viewer").get("/").content.decode()
    assert "signalbox register model.joblib --name churn --sample X.csv" in body
    assert "signalbox demo start" in body
    assert "being set up" not in body


def test_the_first_page_says_that_the_demo_is_on_its_way_until_it_is_there(client_of: ClientOf, demo_is_coming: Path) -> None:
    body = client_of("viewer").get("/").content.decode()
    assert "The demo is being set up, about a minute." in body
    assert "signalbox demo start" not in body
    (demo_is_coming / "demo.json").touch()
    assert "being set up" not in client_of("viewer").get("/").content.decode()


def test_the_first_page_is_shown_anew_once_there_is_something_to_chart(client_of: ClientOf, demo_is_coming: Path) -> None:
    client = client_of("viewer")
    assert 'hx-get="/overview/board/?charts=0"' in client.get("/").content.decode()
    assert "HX-Refresh" not in client.get("/overview/board/?charts=0").headers


def test_the_first_page_with_all_its_charts_is_not_shown_anew(client_of: ClientOf, endpoint: Endpoint) -> None:
    client = client_of("viewer")
    assert client.get("/overview/board/?charts=0")["HX-Refresh"] == "true"
    assert 'hx-get="/overview/board/?charts=1"' in client.get("/").content.decode()
    assert ["HX-Refresh" in client.get(f"/overview/board/{query}").headers for query in ("?charts=1", "", "?charts=x")] == [False] * 3


def test_the_first_page_shows_every_endpoint_with_its_traffic(client_of: ClientOf, endpoint: Endpoint) -> None:
    body = client_of("viewer").get("/").content.decode()
    assert 'aria-label="blue 100 %"' in body
    assert "Steady on v12" in body
    assert 'src="/endpoints/churn-scorer/series.json"' in body


def test_the_theme_follows_the_cookie_and_nothing_else(client_of: ClientOf) -> None:
    client = client_of("viewer")
    assert b'data-theme="' not in client.get("/").content
    client.cookies["theme"] = "dark"
    assert b'<html lang="en" data-theme="dark">' in client.get("/").content
    client.cookies["theme"] = '"><script>'
    assert b"<script>" not in client.get("/").content


@pytest.mark.parametrize(
    ("q", "address"), [("churn", "/models/churn/"), ("churn v13", "/models/churn/13/"), ("scor", "/endpoints/churn-scorer/"), ("audit", "/audit/")]
)
def test_finds_models_versions_endpoints_and_pages(client_of: ClientOf, endpoint: Endpoint, q: str, address: str) -> None:
    client = client_of("viewer")
    assert f'href="{address}"' in client.get("/search/", {"q": q}, headers={"HX-Request": "true"}).content.decode()
    assert "<html" in client.get("/search/", {"q": q}).content.decode()


def test_what_is_not_found_says_how_to_search(client_of: ClientOf) -> None:
    assert "Nothing is called “zzz”" in client_of("viewer").get("/search/", {"q": "zzz"}).content.decode()


def test_404_offers_a_search_for_the_last_word(client_of: ClientOf) -> None:
    answer = client_of("viewer").get("/endpoints-of/churn-scorer/")
    assert answer.status_code == 404
    assert 'name="q" value="churn-scorer"' in answer.content.decode()


def test_404_leads_to_the_list_that_would_have_it(client_of: ClientOf) -> None:
    page = client_of("viewer").get("/models/nothing/").content.decode().partition("<main")[2].partition("</main>")[0]
    assert 'href="/models/"' in page
    assert 'name="q" value="nothing"' in page
    assert 'href="/endpoints/"' not in page


def test_404_for_nobody_needs_no_shell(client: Client, db: None) -> None:
    answer = client.get("/nowhere/")
    assert answer.status_code == 404
    assert b"sidebar" not in answer.content


def test_404_for_programs_is_json_and_says_where_to_go(client: Client, db: None) -> None:
    lost = client.get("/api/v1/nothing/")
    assert (lost.status_code, lost["content-type"], lost.json()["code"]) == (404, "application/problem+json", "not_found")
    assert lost.json()["detail"] == "Nothing lies at /api/v1/nothing/. The page http://127.0.0.1:8700/api/ lists the addresses."
    without_slash = client.post("/api/v1/endpoints", {"name": "churn"}, content_type="application/json")
    assert without_slash.status_code == 404
    assert without_slash.json()["detail"] == "Nothing lies at /api/v1/endpoints. Send it to /api/v1/endpoints/, with the slash."
    assert client.get("/api/v1/endpoints")["location"] == "/api/v1/endpoints/"
    asked = client.post("/v2/models/churn/predict", {"rows": []}, content_type="application/json")
    assert asked.status_code == 404
    assert asked.json()["detail"].endswith("Predictions are answered at http://127.0.0.1:8701.")


def test_500_gives_an_id_and_asks_no_database(rf: RequestFactory) -> None:
    answer = errors.server_error(rf.get("/x/"))
    assert answer.status_code == 500
    assert b"Copy the id" in answer.content


def test_503_asks_no_database_and_tries_again(rf: RequestFactory) -> None:
    answer = errors.unavailable(rf.get("/x/"))
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert b'http-equiv="refresh"' in answer.content


def test_a_form_without_its_token_is_told_so(client_of: ClientOf) -> None:
    client = Client(enforce_csrf_checks=True)
    assert b"The form is too old" in client.post("/sign-in/", {"username": "x"}).content


def test_the_gallery_is_for_debugging_only(client_of: ClientOf) -> None:
    client = client_of("viewer")
    assert client.get("/ui/").status_code == 404
    with override_settings(DEBUG=True):
        assert client.get("/ui/").status_code == 200


def test_only_the_files_that_are_used_are_exposed() -> None:
    assert {name for name, _ in packages.PackageFinder().list(None)} == set(packages.FILES)
    assert find("vendor/htmx.js") == str(packages.NODE_MODULES / "htmx.org/dist/htmx.min.js")
    assert find("htmx.org/package.json") is None
    assert packages.PackageFinder().check() == []


def test_an_icon_that_does_not_exist_is_a_mistake() -> None:
    assert "<path" in packages.icon_drawing("rocket")
    with pytest.raises(LookupError, match="no icon 'rokcet'"):
        packages.icon_drawing("rokcet")


def test_every_page_is_sent_with_the_strict_policy(client_of: ClientOf) -> None:
    policy = client_of("viewer").get("/")["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'self'" in policy
