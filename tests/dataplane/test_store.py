"""What the store of builds keeps on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.dataplane import store
from serving.dataplane.store import BuildStore


def test_what_a_process_with_a_newer_table_has_just_made_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = BuildStore(tmp_path, tmp_path / "artifacts")
    for folder in ("builds", "facts"):
        for digest in ("present", "newer"):
            (tmp_path / folder / digest).touch()
    builds.forget_all_but({"present"})
    assert _kept(tmp_path) == ["builds/newer", "builds/present", "facts/newer", "facts/present"]
    monkeypatch.setattr(store, "_YOUNG_S", -1)
    builds.forget_all_but({"present"})
    assert _kept(tmp_path) == ["builds/present", "facts/present"]


def _kept(folder: Path) -> list[str]:
    return sorted(f"{each}/{path.name}" for each in ("builds", "facts") for path in (folder / each).iterdir())
