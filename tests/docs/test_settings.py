"""``docs/reference/settings.md`` lists every setting with its variable and its default, and nothing else."""

from __future__ import annotations

import re

from core.environment import ROOT, Environment

PAGE = ROOT / "docs" / "reference" / "settings.md"
ROW = re.compile(r"^\| `(?P<variable>[A-Z_]+)` \| (?P<default>[^|]+) \| (?P<meaning>[^|]+) \|$", re.MULTILINE)


def _variable(name: str) -> str:
    alias = Environment.model_fields[name].validation_alias
    return str(alias) if alias else f"SIGNALBOX_{name.upper()}"


def _default(name: str) -> str:
    value = Environment.model_fields[name].default
    if name == "var_dir":
        return f"`{value.relative_to(ROOT)}` in the clone"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value != "" else "empty"


def test_every_setting_is_documented_with_its_variable_and_default() -> None:
    documented = {row["variable"]: row["default"].strip() for row in ROW.finditer(PAGE.read_text())}
    assert documented == {_variable(name): _default(name) for name in Environment.model_fields}


def test_every_setting_says_what_it_means_in_the_code_too() -> None:
    assert all(field.description for field in Environment.model_fields.values())


def test_every_variable_is_read(monkeypatch) -> None:
    for name in ("console_port", "demo", "external_redis_url"):
        monkeypatch.setenv(_variable(name), "0")
    read = Environment()
    assert (read.console_port, read.demo, read.external_redis_url) == (0, False, "0")
