"""Each sorted list: its page, its paging over REST with equal keys, its price and its index."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model as Table
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access.models import ApiKey, Person
from access.queries import KEY_SORTS, PEOPLE_SORTS
from core.paging import Sorts
from monitoring.models import Alert
from monitoring.queries import ALERT_SORTS
from registry.models import Model, Version
from registry.queries import MODEL_SORTS, VERSION_SORTS
from serving.create_endpoint import create_endpoint
from serving.models import Endpoint
from serving.queries import ENDPOINT_SORTS
from serving.unload import unload
from tests.conftest import ClientOf

START = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 11


def _at(number: int) -> datetime:
    """The moment of a row: three have the same, and they do not rise with the numbers."""
    return START + timedelta(hours=(number * 7 % ROWS) // 3)


def _models() -> None:
    Model.objects.bulk_create(Model(name=f"m-{n * 5 % ROWS:02}", updated_at=_at(n)) for n in range(ROWS))


def _versions() -> None:
    churn = Model.objects.create(name="churn", latest_number=ROWS)
    Version.objects.bulk_create(Version(model=churn, number=n + 1, state="ready", created_at=_at(n)) for n in range(ROWS))


def _endpoints() -> None:
    Endpoint.objects.bulk_create(Endpoint(name=f"e-{n * 5 % ROWS:02}", updated_at=_at(n)) for n in range(ROWS))


def _alerts() -> None:
    same = {"endpoint": "e", "model": "churn", "version": 1, "cause": "drift", "title": "t"}
    severities = ("watch", "severe")
    Alert.objects.bulk_create(Alert(**same, dedup_key=str(n), severity=severities[n % 2], first_at=_at(n), last_at=_at(ROWS - n)) for n in range(ROWS))


def _keys() -> None:
    ApiKey.objects.bulk_create(
        ApiKey(id=f"{n:016}", name=f"{n % 4} “é”\t{'𝕫' * 90}", secret_digest=str(n), scopes=["predict"], created_at=_at(n)) for n in range(ROWS)
    )


def _people() -> None:
    Person.objects.bulk_create(Person(username=f"p-{n * 5 % ROWS:02}", last_login=_at(n) if n % 3 else None) for n in range(ROWS))


@dataclass(frozen=True)
class Sorted:
    """A list: its page, its address in REST, what it is of, and what tells its rows apart in both."""

    page: str
    api: str
    sorts: Sorts
    table: type[Table]
    fill: Callable[[], None]
    field: str
    row: str


LISTS = {
    "models": Sorted("/models/", "models/", MODEL_SORTS, Model, _models, "name", r'<th scope="row"><a href="/models/([^/"]+)/">'),
    "versions": Sorted(
        "/models/churn/", "models/churn/versions/", VERSION_SORTS, Version, _versions, "number", r'<th scope="row"><a href="/models/churn/(\d+)/">'
    ),
    "endpoints": Sorted("/endpoints/", "endpoints/", ENDPOINT_SORTS, Endpoint, _endpoints, "name", r'<th scope="row"><a href="/endpoints/([^/"]+)/">'),
    "alerts": Sorted("/alerts/", "alerts/", ALERT_SORTS, Alert, _alerts, "number", r'<th scope="row"><a href="/alerts/(\d+)/">'),
    "keys": Sorted("/keys/", "keys/", KEY_SORTS, ApiKey, _keys, "id", r"<code>sbx_(\w+)_"),
    "people": Sorted("/people/", "people/", PEOPLE_SORTS, Person, _people, "username", r'<th scope="row"><a href="/people/([^/"]+)/">'),
}
every_list = pytest.mark.parametrize("one", LISTS.values(), ids=LISTS)


@pytest.fixture
def signed_in(client_of: ClientOf) -> Client:
    return client_of("admin")


def _wanted(one: Sorted, sort: str) -> list[str]:
    """The rows in the order of the fields, as Python sorts them."""
    rows = list(one.table._default_manager.all())
    for name in reversed(one.sorts.order(sort)):
        rows.sort(key=lambda row: getattr(row, name.lstrip("-")), reverse=name.startswith("-"))
    return [str(getattr(row, one.field)) for row in rows]


@every_list
def test_a_page_shows_the_order_of_its_address_and_marks_it(signed_in: Client, one: Sorted) -> None:
    one.fill()
    for sort in one.sorts.words:
        html = signed_in.get(one.page, {"sort": sort}).content.decode()
        assert re.findall(one.row, html) == _wanted(one, sort), sort
        marks = re.findall(r'aria-sort="(\w+)"><a href="\?sort=(-?\w+)">', html)
        state, other = ("descending", sort[1:]) if sort.startswith("-") else ("ascending", f"-{sort}")
        assert [(mark, link.removeprefix("-")) for mark, link in marks if mark != "none"] == [(state, sort.removeprefix("-"))], sort
        assert {link.removeprefix("-") for _, link in marks} == set(one.sorts.fields)
        assert other in one.sorts.words
    plain, named = signed_in.get(one.page), signed_in.get(one.page, {"sort": one.sorts.default})
    assert re.findall(one.row, plain.content.decode()) == re.findall(one.row, named.content.decode()) == _wanted(one, one.sorts.default)


@every_list
def test_pages_over_rest_give_every_row_once_in_every_order(signed_in: Client, one: Sorted) -> None:
    one.fill()
    for sort in one.sorts.words:
        seen: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            answer = signed_in.get(f"/api/v1/{one.api}", {"sort": sort, "limit": "2", "cursor": cursor}).json()
            seen += [str(row[one.field]) for row in answer["results"]]
            cursor = answer["next"]
        assert seen == _wanted(one, sort), sort


@every_list
def test_another_sort_is_refused_with_those_there_are(signed_in: Client, one: Sorted) -> None:
    one.fill()
    for path in (one.page, f"/api/v1/{one.api}"):
        refusal = signed_in.get(path, {"sort": "--name"})
        assert refusal.status_code == 400
        assert f"the sorts are {', '.join(one.sorts.words)}." in unescape(refusal.content.decode())


@every_list
def test_a_cursor_of_another_sort_is_refused(signed_in: Client, one: Sorted) -> None:
    one.fill()
    for sort in one.sorts.words:
        cursor = signed_in.get(f"/api/v1/{one.api}", {"sort": sort, "limit": "2"}).json()["next"]
        for other in set(one.sorts.words) - {sort}:
            asked = {"sort": other, "cursor": cursor}
            assert [signed_in.get(path, asked).status_code for path in (one.page, f"/api/v1/{one.api}")] == [400, 400], (sort, other)


@every_list
def test_every_sort_costs_the_same_and_is_read_by_an_index(signed_in: Client, one: Sorted) -> None:
    one.fill()
    prices = set()
    for sort in one.sorts.words:
        with CaptureQueriesContext(connection) as queries:
            signed_in.get(one.page, {"sort": sort})
        prices.add(len(queries))
    assert len(prices) == 1
    rows = one.table._default_manager.filter(model=Model.objects.get()) if one.table is Version else one.table._default_manager.all()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
    for sort in one.sorts.words:
        plan = rows.order_by(*one.sorts.order(sort))[:51].explain()
        assert "Sort" not in plan, (sort, plan)
        assert "Index" in plan, (sort, plan)


def test_a_heading_keeps_the_filter_and_begins_at_the_first_page(signed_in: Client) -> None:
    _models()
    cursor = signed_in.get("/api/v1/models/", {"limit": "2", "sort": "name"}).json()["next"]
    html = signed_in.get("/models/", {"q": "m-", "sort": "name", "cursor": cursor}).content.decode()
    assert '<th scope="col" aria-sort="ascending"><a href="?q=m-&amp;sort=-name">Model <svg' in html
    assert '<th scope="col" aria-sort="none"><a href="?q=m-&amp;sort=-changed">Changed <svg' in html
    assert '<input type="hidden" name="sort" value="name">' in html


def test_the_older_version_is_offered_as_the_older_in_every_order(signed_in: Client) -> None:
    _versions()
    html = signed_in.get("/models/churn/", {"sort": "number"}).content.decode()
    assert re.findall(r'<select name="\w+"><option value="(\d+)">v\d+</option><option value="(\d+)"( selected)?>', html)[:2] == [
        ("11", "10", " selected"),
        ("11", "10", ""),
    ]


def test_what_changed_last_is_in_front_of_the_endpoints(signed_in: Client, operator: Any) -> None:
    for name in ("b", "a", "c"):
        create_endpoint(actor=operator, name=name)
    unload(actor=operator, endpoint="b")
    rows = signed_in.get("/api/v1/endpoints/", {"sort": "-changed"}).json()["results"]
    assert [row["name"] for row in rows] == ["b", "c", "a"]
    assert rows[0]["updated_at"] > rows[0]["created_at"]


@pytest.mark.parametrize("text", [rb'["username","a\u0000"]', rb'["username","\ud800"]'])
def test_a_cursor_with_what_no_text_may_hold_is_refused(signed_in: Client, text: bytes) -> None:
    cursor = urlsafe_b64encode(text).decode().rstrip("=")
    assert [signed_in.get(path, {"cursor": cursor}).status_code for path in ("/people/", "/api/v1/people/")] == [400, 400]
