"""What pages are tested with: a deployed endpoint, as in the tests of serving."""

from __future__ import annotations

from tests.serving.conftest import endpoint, version

__all__ = ["endpoint", "version"]
