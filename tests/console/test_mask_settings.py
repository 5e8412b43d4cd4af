"""Masked inputs on the settings page: ticked or typed, kept beside other changes, and taken off only with the right."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from access.actors import Actor, system
from registry.signature import Kind
from serving.create_endpoint import create_endpoint
from serving.edit_endpoint import edit_endpoint
from serving.models import Endpoint
from tests.conftest import ClientOf
from tests.serving.conftest import make_version

PATH = "/endpoints/churn-scorer/settings/"
_INPUT = re.compile(r"<input ([^>]*)>")
_TEXTAREA = re.compile(r'<textarea [^>]*name="masked_others"[^>]*>(.*?)</textarea>', re.DOTALL)


def fields(page: str) -> dict[str, Any]:
    """What a browser would send of the page's form, as it stands."""
    found: dict[str, Any] = {"masked": [], "masked_others": _TEXTAREA.findall(page)[0], "log_policy": "fast", "validation": "flag"}
    for text in _INPUT.findall(page):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', text))
        name, kind = attributes.get("name", ""), attributes.get("type", "text")
        if not name or " disabled" in text or (kind == "checkbox" and " checked" not in text):
            continue
        if name == "masked":
            found["masked"].append(attributes["value"])
        else:
            found[name] = attributes.get("value", "")
    return found


def send(client: Client, **changes: Any) -> Any:
    return client.post(PATH, fields(client.get(PATH).content.decode()) | changes)


def masks() -> list[str]:
    found: list[str] = Endpoint.objects.get(name="churn-scorer").masked_inputs
    return found


def test_features_of_the_slots_are_ticked_and_further_ones_typed(client_of: ClientOf, endpoint: Endpoint) -> None:
    make_version(14, columns={"tenure": Kind.INTEGER, "city": Kind.TEXT})
    client = client_of("operator")
    assert fields(client.get(PATH).content.decode())["masked"] == []
    assert send(client, masked=["contract"], masked_others="city\r\n\r\ntenure\r\n").status_code == 302
    assert masks() == ["city", "contract", "tenure"]
    assert (Endpoint.objects.get().revision, Endpoint.objects.get().log_policy) == (4, "fast")
    shown = fields(client.get(PATH).content.decode())
    assert (shown["masked"], shown["masked_others"]) == (["contract"], "city\ntenure")


def test_what_is_masked_stays_when_something_else_is_saved(client_of: ClientOf, endpoint: Endpoint) -> None:
    edit_masks(["contract"])
    assert send(client_of("operator"), description="churn").status_code == 302
    assert (Endpoint.objects.get().description, masks()) == ("churn", ["contract"])
    form = fields(client_of("admin").get(PATH).content.decode())
    rest = {name: value for name, value in form.items() if not name.startswith("masked")}
    assert client_of("admin").post(PATH, rest | {"description": "of an older page"}).status_code == 302
    assert (Endpoint.objects.get().description, masks()) == ("of an older page", ["contract"])


def test_only_who_may_unmask_can_untick(client_of: ClientOf, endpoint: Endpoint) -> None:
    edit_masks(["contract"])
    page = client_of("operator").get(PATH).content.decode()
    assert "Taking a mask off needs <code>predictions.unmask</code>" in page
    assert page.count('<input type="checkbox" checked disabled>') == 1
    refused = send(client_of("operator"), masked=[])
    assert (refused.status_code, "predictions.unmask" in refused.content.decode(), masks()) == (403, True, ["contract"])
    page = client_of("admin").get(PATH).content.decode()
    assert ("Taking a mask off" in page, "checked disabled" in page) == (False, False)
    assert send(client_of("admin"), masked=[]).status_code == 302
    assert masks() == []


def test_a_refused_name_is_shown_with_what_was_typed(client_of: ClientOf, endpoint: Endpoint) -> None:
    answer = send(client_of("operator"), masked=["contract"], masked_others="agee\x00")
    page = answer.content.decode()
    assert (answer.status_code, masks()) == (400, [])
    assert "No registered version has a feature" in page
    assert fields(page)["masked"] == ["contract"]
    assert "agee" in fields(page)["masked_others"]


def test_before_the_first_version_names_are_typed(client_of: ClientOf, operator: Actor) -> None:
    make_version(12)
    create_endpoint(actor=operator, name="churn-scorer")
    page = client_of("operator").get(PATH).content.decode()
    assert "Features of the versions in the slots" not in page
    assert send(client_of("operator"), masked_others="contract").status_code == 302
    assert masks() == ["contract"]


@pytest.mark.parametrize("role", ["viewer", "scientist"])
def test_who_may_only_look_changes_nothing(client_of: ClientOf, endpoint: Endpoint, role: str) -> None:
    answer = send(client_of(role), masked=["contract"])
    assert (answer.status_code, "endpoint.edit" in answer.content.decode(), masks()) == (403, True, [])


def edit_masks(names: list[str]) -> None:
    edit_endpoint(actor=system("tests"), endpoint="churn-scorer", changes={"masked_inputs": names})
