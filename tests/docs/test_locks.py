"""The two lock files: what `make test` installs beside a running product must change nothing under it."""

from __future__ import annotations

import re

from core.environment import ROOT


def _pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;]+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE))


def test_development_has_every_package_of_the_product_in_the_same_version() -> None:
    development = _pins("dev.txt")
    product = _pins("runtime.txt")
    assert {name: development.get(name) for name in product} == product
