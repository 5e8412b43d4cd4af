"""The processes of this machine: those that ``signalbox up`` keeps, and others that can be asked for their metrics. No Django.

A part is one process that somebody started, with all that it has started itself: the console's and the workers' own processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from core.metrics.siblings import Asked, ask_each
from core.note import read_note

SUPERVISOR = "up"
_NOT_ASKED = {"postgres", "redis", "demo"}
"""Parts that have no socket of ours: that they run is all that can be told."""
_STARTS_WITHIN_S = 60.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class PartState(StrEnum):
    """How a part is. ``SILENT``: it runs, and a process of it does not answer. ``GONE``: it should run, and does not."""

    ANSWERS = "answers"
    RUNS = "runs"
    STARTS = "starts"
    SILENT = "silent"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Part:
    """One part. ``memory_bytes`` is what its processes have for themselves, without files and shared memory."""

    name: str
    state: PartState
    pid: int | None = None
    processes: int = 0
    memory_bytes: int = 0
    started_at: datetime | None = None

    @property
    def is_bad(self) -> bool:
        return self.state in {PartState.SILENT, PartState.GONE}


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    age_s: float
    memory_bytes: int


def parts(run_dir: Path) -> list[Part]:
    """Ask every process of this machine; those come first that should run by the supervisor's note. Takes a second at most if one hangs."""
    asked = ask_each(run_dir)
    note = read_note(run_dir)
    living = {process.pid: process for process in _living()}
    lines = {pid: {*_line(pid, living)} for pid in living}
    kept: dict[str, int | None] = {SUPERVISOR: note["pid"], **note["processes"]} if note else {}
    others = [each for each in asked if each.pid in living and lines[each.pid].isdisjoint(kept.values())]
    process_of = {each.pid: each.process for each in others}
    leaders = [each for each in others if process_of.get(living[each.pid].parent) != each.process]

    def part(name: str, pid: int | None) -> Part:
        leader = living.get(pid) if pid is not None else None
        if leader is None:
            return Part(name, PartState.GONE)
        # All others are the supervisor's family.
        family = [leader] if name == SUPERVISOR else [process for process in living.values() if leader.pid in lines[process.pid]]
        pids = {process.pid for process in family}
        state = _state(name, leader, [each for each in asked if each.pid in pids])
        started_at = datetime.fromtimestamp(time.time() - leader.age_s, UTC)
        return Part(name, state, leader.pid, len(family), sum(process.memory_bytes for process in family), started_at)

    return [*(part(name, pid) for name, pid in kept.items()), *(part(each.process, each.pid) for each in leaders)]


def _state(name: str, leader: _Process, asked: list[Asked]) -> PartState:
    if name in _NOT_ASKED:
        return PartState.RUNS
    if not asked:
        return PartState.STARTS if leader.age_s < _STARTS_WITHIN_S else PartState.SILENT
    return PartState.SILENT if any(each.pieces is None for each in asked) else PartState.ANSWERS


def _line(pid: int, living: Mapping[int, _Process]) -> Iterator[int]:
    """Give the process, its parent, the parent's parent, and so on."""
    while (process := living.get(pid)) is not None:
        yield pid
        pid = process.parent


def _living() -> Iterator[_Process]:
    """Read what the kernel says of every process that has not ended."""
    since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The second field is the program's name in brackets, which may have anything in it.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            resident, shared = (int(pages) for pages in (folder / "statm").read_text().split()[1:3])
        except (OSError, ValueError):  # it has just ended
            continue
        if fields[0] not in {"Z", "X"}:
            yield _Process(int(folder.name), int(fields[1]), since_boot_s - int(fields[19]) / _TICKS_PER_S, (resident - shared) * _PAGE_BYTES)
