"""The addresses that pages, snippets and commands show, for every kind of address that the processes listen on."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.http.request import validate_host

from core.environment import Environment
from tests.conftest import ClientOf


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "[2001:db8::7]"),
        ("models.example.org", "models.example.org"),
    ],
)
def test_an_address_that_is_shown_can_be_called_and_is_answered(host: str, shown: str, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Environment(host=host, allowed_hosts="console.example.org")
    assert (here.console_url, here.predict_url, here.grpc_address) == (f"http://{shown}:8700", f"http://{shown}:8701", f"{shown}:8702")
    assert here.console_hosts == ["console.example.org", shown]
    assert validate_host(shown, here.console_hosts)
    monkeypatch.setattr(settings, "ENVIRONMENT", here)
    assert client_of("viewer").get("/api/v1/me/").json()["predict_url"] == f"http://{shown}:8701"


def test_behind_a_proxy_people_see_the_public_addresses_and_this_machine_its_own() -> None:
    here = Environment(host="::", public_console_url="https://models.example.org", public_predict_url="https://predict.example.org")
    assert (here.console_url, here.predict_url) == ("https://models.example.org", "https://predict.example.org")
    assert (here.local_console_url, here.local_predict_url) == ("http://[::1]:8700", "http://[::1]:8701")


@pytest.mark.parametrize(
    ("settings", "offered"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "[::1]"}, True),
        ({"host": "localhost"}, True),
        ({"host": "127.1.2.3"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": ""}, False),
        ({"host": "::"}, False),
        ({"host": "192.0.2.7"}, False),
        ({"host": "models.example.org"}, False),
        ({"public_predict_url": "https://predict.example.org"}, False),
        ({"public_console_url": "https://models.example.org"}, False),
        ({"https": True}, False),
        ({"shared_memory": "off"}, False),
        ({"host": "0.0.0.0", "shared_memory": "on"}, True),
        ({"host": "0.0.0.0", "public_predict_url": "https://predict.example.org", "shared_memory": "on"}, True),
    ],
)
def test_shared_memory_is_offered_by_itself_only_where_nobody_else_can_call(settings: dict[str, Any], offered: bool) -> None:
    assert Environment(**settings).offers_shared_memory is offered
