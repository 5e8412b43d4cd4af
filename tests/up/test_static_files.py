"""The pages' files, as they are collected while Signalbox is set up."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_django import Settings

from config.up.static_files import collect


def test_what_changed_is_collected_even_if_it_is_older_and_what_did_not_is_left(settings: Settings, tmp_path: Path) -> None:
    """A package's new version may have been unpacked before the old one was collected."""
    source, collected = tmp_path / "source", tmp_path / "collected"
    source.mkdir()
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.STATICFILES_DIRS, settings.STATIC_ROOT = [source], collected
    (source / "page.css").write_text("new")
    assert collect()
    assert not collect()
    (source / "page.css").write_text("other")
    os.utime(source / "page.css", (1e9, 1e9))
    assert collect()
    assert (collected / "page.css").read_text() == "other"
