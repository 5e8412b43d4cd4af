"""What pages are tested with: a deployed endpoint, as in the tests of serving; and one whose traffic is judged."""

from __future__ import annotations

from datetime import timedelta

import pytest

from access.actors import Actor
from monitoring.evaluate import evaluate_now
from serving.models import Endpoint, Slot
from tests.monitoring import world
from tests.serving.conftest import endpoint, make_version, version

__all__ = ["endpoint", "version"]


@pytest.fixture
def judged(operator: Actor) -> None:
    """v12 live in blue with a sample and 1,200 logged rows; v13 in green without a sample."""
    world.set_clock()
    twelve, thirteen = world.register(), make_version(13)
    build = make_version(1, model="other").builds.get()
    twelve.builds.add(build)
    endpoint = Endpoint.objects.get(name=world.ENDPOINT)
    Slot.objects.create(endpoint=endpoint, name="blue", build=build, weight=100)
    Slot.objects.create(endpoint=endpoint, name="green", build=thirteen.builds.get())
    Endpoint.objects.update(live_slot="blue")
    world.log(world.people(1200), world.window(1) + timedelta(seconds=5))
    evaluate_now(actor=operator, endpoint=world.ENDPOINT)
