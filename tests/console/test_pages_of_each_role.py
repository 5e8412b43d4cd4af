"""Each page of models, monitoring and administration as each role, as nobody, and with nothing in the database."""

from __future__ import annotations

import pytest
from django.test import Client

from serving.models import Endpoint
from tests.conftest import ClientOf
from tests.serving.conftest import MakeVersion

ROLES = ("viewer", "scientist", "operator", "admin")
FOR_ALL = ("/models/", "/monitoring/", "/alerts/", "/audit/", "/system/", "/settings/", "/password/")
FOR_ADMINS = ("/keys/", "/people/")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("path", FOR_ALL)
def test_everybody_sees_the_lists_while_they_are_empty(client_of: ClientOf, role: str, path: str) -> None:
    assert client_of(role).get(path).status_code == 200


@pytest.mark.parametrize("path", FOR_ADMINS)
def test_only_admins_see_keys_and_people(client_of: ClientOf, path: str) -> None:
    assert [client_of(role).get(path).status_code for role in ROLES] == [403, 403, 403, 200]


@pytest.mark.parametrize(("path", "right"), [("/keys/", "key.manage"), ("/people/", "people.manage")])
def test_a_refusal_names_the_right_that_is_missing(client_of: ClientOf, path: str, right: str) -> None:
    assert right in client_of("operator").get(path).content.decode()


@pytest.mark.parametrize("path", [*FOR_ALL, *FOR_ADMINS, "/models/register/", "/models/churn/", "/models/churn/1/", "/monitoring/x/", "/alerts/1/"])
def test_nobody_is_sent_to_sign_in_and_back(client: Client, db: None, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer["Location"]) == (302, f"/sign-in/?next={path}")


def test_registering_is_for_scientists_and_above(client_of: ClientOf) -> None:
    assert [client_of(role).get("/models/register/").status_code for role in ROLES] == [403, 200, 200, 200]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "path",
    [
        "/models/churn/",
        "/models/churn/12/",
        "/models/churn/12/checklist/",
        "/models/churn/compare/?a=12&b=13",
        "/monitoring/churn-scorer/",
        "/monitoring/churn-scorer/limits/",
        "/monitoring/churn-scorer/performance/",
    ],
)
def test_everybody_reads_what_is_there(client_of: ClientOf, endpoint: Endpoint, role: str, path: str) -> None:
    assert client_of(role).get(path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/models/nothing/",
        "/models/churn/99/",
        "/models/churn/compare/?a=12&b=99",
        "/monitoring/nothing/",
        "/monitoring/nothing/limits/",
        "/alerts/1/",
        "/people/nobody/",
        "/keys/none/revoke/",
    ],
)
def test_what_is_not_there_is_404(client_of: ClientOf, endpoint: Endpoint, path: str) -> None:
    assert client_of("admin").get(path).status_code == 404


def test_comparing_needs_two_numbers(client_of: ClientOf, endpoint: Endpoint) -> None:
    assert client_of("viewer").get("/models/churn/compare/").status_code == 400


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/models/", "signalbox register model.joblib --name churn --sample X.csv"),
        ("/alerts/", "All quiet"),
        ("/audit/", "Nothing has changed yet"),
        ("/monitoring/", "Nothing to monitor yet"),
        ("/keys/", "signalbox keys create my-program --scope predict"),
    ],
)
def test_an_empty_list_says_what_to_do(client_of: ClientOf, path: str, words: str) -> None:
    assert words in client_of("admin").get(path).content.decode()


def test_no_page_has_inline_style_or_script(client_of: ClientOf, endpoint: Endpoint, version: MakeVersion) -> None:
    client = client_of("admin")
    for path in (*FOR_ALL, *FOR_ADMINS, "/models/churn/", "/models/churn/12/", "/models/register/", "/monitoring/churn-scorer/"):
        body = client.get(path).content.decode()
        assert " style=" not in body, path
        assert "<style" not in body, path
        assert "<script>" not in body, path
