"""A walk over the whole URLconf, as nobody, as each role and with a key that may do nothing here.

New addresses are walked without a line here. What may be open to nobody is listed, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.test import Client
from rest_framework.permissions import IsAuthenticated

from access.actors import system
from access.api.authentication import KeyAuthentication
from access.api.permissions import Needs
from access.keys import create_key
from access.rights import RIGHTS_OF_ROLE, Right
from config.celery import app as celery_app
from registry.models import Build, Model, Version
from serving.create_endpoint import create_endpoint
from tests.access.addresses import NAME, Address, every_address

OPEN_TO_NOBODY = {"metrics", "sign-in", "sign-in-link", "sign-out"}
"""Metrics only to callers of this machine, as the tests are."""
OWN_AFFAIRS = {"sign-in", "sign-in-link", "sign-out", "password"}
"""Addresses where everybody who is signed in changes what is theirs."""
A_VIEWER_MAY = {"api-evaluate"}
"""Looking again at what is there: computes, and changes nothing that anybody set."""
NEEDS_NO_RIGHT = {"api-me", "api-schema", "api"}
_REFUSED = {401, 403}
_OWN_APPS = ("core", "access", "registry", "serving", "monitoring")


@pytest.fixture(autouse=True)
def something_there(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model, a ready version and an endpoint, all called ``walk``, so that the addresses lead somewhere."""
    monkeypatch.setattr(celery_app, "send_task", lambda *_, **__: None)
    model = Model.objects.create(name=NAME, latest_number=1)
    version = Version.objects.create(model=model, number=1, state="ready", created_by="tests")
    Build.objects.create(version=version, kind="onnx", digest="0" * 64, size_bytes=1, inputs=[], outputs=[])
    create_endpoint(actor=system("tests"), name=NAME)


def _state() -> dict[str, list[Any]]:
    """Everything in the tables of Signalbox, but for when somebody last signed in."""
    tables = [model for name in _OWN_APPS for model in apps.get_app_config(name).get_models()]
    left_out = {"last_login", "password"}
    fields = {table: [field.attname for field in table._meta.concrete_fields if field.attname not in left_out] for table in tables}
    return {table.__name__: [str(row) for row in table._default_manager.order_by("pk").values_list(*fields[table])] for table in tables}


def _call(client: Client, address: Address, method: str) -> Any:
    call: Callable[..., Any] = getattr(client, method.lower())
    return (
        call(address.path)
        if method in {"GET", "HEAD"}
        else call(address.path, {}, content_type="application/json" if address.view else None)
        if address.view
        else call(address.path)
    )


def _sent_to_sign_in(answer: Any) -> bool:
    return bool(answer.status_code == 302 and answer["Location"].startswith("/sign-in/"))


def _api() -> list[Address]:
    found = [address for address in every_address() if address.view is not None]
    assert len(found) > 30
    return found


def test_lets_nobody_in_without_signing_in():
    before, wrong = _state(), []
    for address in every_address():
        if address.name in OPEN_TO_NOBODY:
            continue
        for method in address.methods:
            answer = _call(Client(), address, method)
            allowed = {401} if address.view else {401, 403, 405}
            if answer.status_code not in allowed and not (address.view is None and _sent_to_sign_in(answer)):
                wrong.append((address.path, method, answer.status_code))
    assert wrong == []
    assert _state() == before


def test_lets_a_key_without_the_right_read_and_change_nothing(admin):
    key = create_key(actor=admin, name="elsewhere", scopes=["predict"], endpoints=["elsewhere"]).text
    client, wrong, before = Client(headers={"Authorization": f"Bearer {key}"}), [], _state()
    for address in _api():
        if address.name in NEEDS_NO_RIGHT:
            continue
        for method in address.methods:
            status = _call(client, address, method).status_code
            # A body is read before the verb asks for the right; an empty one may be refused first.
            allowed = {403, 404} if method == "GET" else {400, 403, 404, 415, 422}
            if status not in allowed:
                wrong.append((address.path, method, status))
    assert wrong == []
    assert _state() == before


def test_lets_no_page_be_opened_with_a_key(admin):
    """A key is for the API; a page knows people only."""
    key = create_key(actor=admin, name="all", scopes=["admin"]).text
    client = Client(headers={"Authorization": f"Bearer {key}"})
    pages = [address for address in every_address() if address.view is None and address.name not in OPEN_TO_NOBODY]
    statuses = {address.path: client.get(address.path) for address in pages}
    assert [path for path, answer in statuses.items() if answer.status_code not in {401, 403, 405} and not _sent_to_sign_in(answer)] == []


def test_lets_a_viewer_change_nothing(client_of):
    client, failed = client_of("viewer"), []
    before = _state()
    for address in every_address():
        if address.name in OWN_AFFAIRS:
            continue
        for method in address.methods - {"GET", "HEAD"}:
            status = _call(client, address, method).status_code
            if status >= 500 or (address.view and status < 300 and address.name not in A_VIEWER_MAY):
                failed.append((address.path, method, status))
    assert failed == []
    assert _state() == before


@pytest.mark.parametrize("role", ["viewer", "scientist", "operator", "admin"])
def test_shows_each_role_what_its_rights_say(client_of, role):
    client, wrong = client_of(role), []
    for address in every_address():
        if address.name in OWN_AFFAIRS:
            continue
        status = client.get(address.path).status_code
        right = _right_to_read(address)
        if status >= 500 or (right is not None and (status == 403) != (right not in RIGHTS_OF_ROLE[role])):
            wrong.append((address.path, status, right))
    assert wrong == []


def _right_to_read(address: Address) -> Right | None:
    if address.view is None or "GET" not in address.methods:
        return None
    return next((needs.read for needs in address.view.permission_classes if isinstance(needs, type) and issubclass(needs, Needs)), None)


def test_leaves_no_api_view_without_authentication_and_permission():
    open_views = [
        address.path
        for address in _api()
        if address.view is None
        or not any(issubclass(permission, IsAuthenticated) for permission in address.view.permission_classes)
        or KeyAuthentication not in address.view.authentication_classes
    ]
    assert open_views == []
    assert settings.REST_FRAMEWORK["DEFAULT_PERMISSION_CLASSES"] == ["rest_framework.permissions.IsAuthenticated"]


def test_names_every_address_once():
    names = [address.name for address in every_address()]
    assert sorted(names) == sorted(set(names))
