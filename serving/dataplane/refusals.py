"""Builds that have ended processes while they ran: counted by their deaths, refused from the third on, until they are deployed anew."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)

DEATHS = 3
_MEMORY_S = 3600
_AT_ONCE_S = 2.0
"""Deaths closer together are one: processes that were ended together, or one request that was tried again elsewhere."""
_YOUNG_S = 24 * 3600
_LOOP_S = 300
"""A build that has answered for a day is refused only for so many deaths within this time: spread ones have other causes."""

BornAt = Callable[[str], float]
"""Gives when a build was first loaded on this machine, in seconds since 1970."""


class Refusals:
    """Two folders: ``deaths`` with one empty file per death, ``refused`` with one per build, written by whichever process saw it."""

    def __init__(self, folder: Path) -> None:
        self._deaths, self._refused = folder / "deaths", folder / "refused"
        self._deaths.mkdir(parents=True, exist_ok=True)
        self._refused.mkdir(parents=True, exist_ok=True)
        self._seen = self._list()

    def blame(self, digest: str, born_at: BornAt) -> None:
        """Write down that a process died while it ran this build; refuse the build if that is a loop."""
        now = time.time()
        (self._deaths / f"{digest}.{time.time_ns()}").touch()
        times = self._times_of(digest, now)
        logger.error("A process died while it ran the build %s, %d. time within the hour.", digest[:12], len(times))
        is_young = now - born_at(digest) < _YOUNG_S
        counted = times if is_young else [at for at in times if now - at < _LOOP_S]
        if len(counted) >= DEATHS:
            (self._refused / digest).write_text(f"{len(counted)}")

    def _times_of(self, digest: str, now: float) -> list[float]:
        """Give when processes died of it within the hour; those at once count once."""
        found: list[float] = []
        for path in self._deaths.glob(f"{digest}.*"):
            at = int(path.suffix[1:]) / 1e9
            if now - at > _MEMORY_S:
                path.unlink(missing_ok=True)
            else:
                found.append(at)
        found.sort()
        return [at for place, at in enumerate(found) if place == 0 or at - found[place - 1] > _AT_ONCE_S]

    def reason(self, digest: str, deployed_at: float) -> str:
        """Give why the build is refused, or nothing. One that was deployed since is tried again, and its deaths are forgotten."""
        path = self._refused / digest
        try:
            at = path.stat().st_mtime
            deaths = path.read_text()
        except FileNotFoundError:
            return ""
        if deployed_at > at:
            self._forgive(digest)
            return ""
        moment = datetime.fromtimestamp(at, UTC)
        return (
            f"Running this build ended data-plane processes {deaths} times, last at {moment:%Y-%m-%d %H:%M:%S} UTC. It is out of service. "
            "Roll back, or deploy it anew to try it again."
        )

    def _forgive(self, digest: str) -> None:
        for path in [*self._deaths.glob(f"{digest}.*"), self._refused / digest]:
            with contextlib.suppress(OSError):
                path.unlink()

    def have_changed(self) -> bool:
        """Tell whether a build was refused since the last time, by any process."""
        before, self._seen = self._seen, self._list()
        return self._seen != before

    def _list(self) -> set[str]:
        return {path.name for path in self._refused.iterdir()}
