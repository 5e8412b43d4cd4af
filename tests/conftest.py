"""The people of the tests, with fixed roles, and their signed-in browsers. The servers come from ``tests.servers``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.test import Client
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from access.actors import Actor
from tests.product import Product, start_product

ClientOf = Callable[[str], Client]

# Tests say nothing of time: the machine may be busy.
hypothesis_settings.register_profile("untimed", hypothesis_settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("untimed")


def pytest_configure() -> None:
    """Tests need no collectstatic and no slow password hash."""
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def pytest_make_parametrize_id(val: object) -> str | None:
    """A key is another in each process of pytest-xdist, which the name of a test must not be; nor need it be as long as a body."""
    if isinstance(val, bytes):
        return "request" if b"sbx_" in val or len(val) > 100 else None
    if isinstance(val, str):
        return "key" if val.startswith("sbx_") else "long" if len(val) > 100 else None
    return None


def _actor(role: str) -> Actor:
    from access.people import actor_of

    return actor_of(_person(role))


def _person(role: str):
    from access.models import Person

    person = Person.objects.filter(username=role).first()
    return person or Person.objects.create_user(username=role, role=role, password=f"{role} of the tests")


@pytest.fixture
def viewer(db: None) -> Actor:
    return _actor("viewer")


@pytest.fixture
def scientist(db: None) -> Actor:
    return _actor("scientist")


@pytest.fixture
def operator(db: None) -> Actor:
    return _actor("operator")


@pytest.fixture
def admin(db: None) -> Actor:
    return _actor("admin")


@pytest.fixture
def client_of(db: None) -> ClientOf:
    """Give a client that is signed in as the person with the role: ``client_of("operator")``."""

    def signed_in(role: str) -> Client:
        client = Client()
        client.force_login(_person(role), backend="django.contrib.auth.backends.ModelBackend")
        return client

    return signed_in


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Give the whole product, started once as real processes, with gRPC and without its demo."""
    from tests.dataplane.conftest import free_port

    running = start_product(tmp_path_factory.mktemp("product") / "var", SIGNALBOX_GRPC_PORT=str(free_port()))
    yield running
    running.stop()


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With pytest-xdist all tests of the product go to one worker: it is started once (``--dist loadgroup``).

    What takes ``long`` comes first, so that no worker has it left when the others are done.
    """
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if "product" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("product"))
