"""The third-party front-end files: a static-files finder that exposes those that are used, and no others.

They come from the npm packages pinned in ``package.json``; none of their code is in this repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from django.contrib.staticfiles.finders import BaseFinder
from django.core import checks
from django.core.files.storage import FileSystemStorage, Storage

from core.environment import ROOT

NODE_MODULES = ROOT / "node_modules"
FILES = {
    "vendor/htmx.js": "htmx.org/dist/htmx.min.js",
    "vendor/plotly.js": "plotly.js-basic-dist-min/plotly-basic.min.js",
    "vendor/inter-latin.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
}
_ICONS = NODE_MODULES / "lucide-static" / "icons"
_DRAWING = re.compile(r"<svg[^>]*>(.*)</svg>", re.DOTALL)


class _Packages(FileSystemStorage):
    """node_modules, its files called by the names that the pages use."""

    def path(self, name: str) -> str:
        return str(NODE_MODULES / FILES[name])

    def exists(self, name: str) -> bool:
        return name in FILES and Path(self.path(name)).exists()


class PackageFinder(BaseFinder):
    """Finds the files of ``FILES``; what is not installed is left out, and ``check`` says so."""

    storage = _Packages(location=NODE_MODULES)

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        missing = [path for path in FILES.values() if not (NODE_MODULES / path).exists()]
        if not missing:
            return []
        return [
            checks.Warning(f"Front-end files are not installed: {', '.join(missing)}.", hint="Run `npm ci` in the folder of package.json.", id="console.W001")
        ]

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:  # the base class's signature
        found = [self.storage.path(path)] if self.storage.exists(path) else []
        return found if find_all else next(iter(found), [])

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterator[tuple[str, Storage]]:
        for name in FILES:
            if self.storage.exists(name):
                yield name, self.storage


@cache
def icon_drawing(name: str) -> str:
    """Give what is inside the ``svg`` of the Lucide icon ``name``; empty while the package is not installed."""
    if not _ICONS.is_dir():
        return ""
    path = _ICONS / f"{name}.svg"
    if not path.is_file():
        raise LookupError(f"There is no icon {name!r} in lucide-static. Choose one that its folder icons/ has.")
    found = _DRAWING.search(path.read_text())
    return re.sub(r"\s+", " ", found[1]).strip() if found else ""
