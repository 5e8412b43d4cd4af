"""Puts a benchmark's result into docs/benchmarks.md, under a heading of its own; the other sections stay."""

from __future__ import annotations

import re
from pathlib import Path

_TITLE = "# Benchmarks\n\nEach table says what was measured, where, and how to repeat it.\n"


def put_section(path: Path, heading: str, text: str) -> None:
    """Replace the section ``## heading`` of the page, or add it at the end."""
    page = path.read_text() if path.exists() else _TITLE
    section = f"## {heading}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    page = pattern.sub(lambda _: f"{section}\n", page) if pattern.search(page) else f"{page.rstrip()}\n\n{section}"
    path.write_text(page.rstrip() + "\n")
