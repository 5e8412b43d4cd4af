"""Every test has a present window of its own."""

from __future__ import annotations

import pytest

from tests.monitoring.world import set_clock


@pytest.fixture(autouse=True)
def _clock() -> None:
    set_clock()
