"""The order of the runs: the fast servers alternate tightly, the slow ones come one after the other, each beside the floor."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.serve.load import CONNECTIONS, Case, Trouble, await_answer, run
from benchmarks.serve.models import BenchModel
from benchmarks.serve.peers import HAND_WRITTEN, SLOW, Peer
from benchmarks.serve.processes import Server
from benchmarks.serve.signalbox import Ours


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often. ``only`` keeps the servers whose name holds one of the texts; empty: all."""

    rounds: int
    seconds: int
    variant_rounds: int
    slow_seconds: int
    only: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        return not self.only or any(text.lower() in name.lower() for text in self.only)


def measure(model: BenchModel, ours: Ours, plan: Plan, folder: Path, *, variants: bool) -> list[Case]:
    """Measure one model on every server that is wanted; the first case is the floor."""
    floor = ours.floor_case(model)
    await_answer(floor, [])
    done = _fast(floor, model, ours, plan, folder)
    wanted = [case for case in ours.variants(model, every=variants) if plan.wants(case.name)]
    _alternate(floor, _answering(wanted, model), plan.variant_rounds, plan.seconds, folder)
    done[2:2] = wanted
    for peer in SLOW:
        if plan.wants(peer.name):
            done.append(_slow(floor, peer, model, plan, folder))
    return done


def _fast(floor: Case, model: BenchModel, ours: Ours, plan: Plan, folder: Path) -> list[Case]:
    cases = [ours.case(model)] if plan.wants("Signalbox") else []
    if plan.wants(HAND_WRITTEN.name):
        cases.append(_started(HAND_WRITTEN, model, folder))
    try:
        _alternate(floor, _answering(cases, model), plan.rounds, plan.seconds, folder)
    finally:
        for case in cases:
            if case.server is not ours.box:
                case.server.stop()
    return [floor, *cases]


def _started(peer: Peer, model: BenchModel, folder: Path) -> Case:
    try:
        return peer.case(folder, model)
    except Trouble as trouble:
        return Case(peer.name, Server(peer.name, 0, [], folder), peer.request(model), trouble=str(trouble))


def _answering(cases: Sequence[Case], model: BenchModel) -> list[Case]:
    """Give those that answer rightly; the others keep their trouble for the table."""
    for case in cases:
        if not case.trouble:
            try:
                await_answer(case, model.expected)
            except Trouble as trouble:
                case.trouble = str(trouble)
    return [case for case in cases if not case.trouble]


def _slow(floor: Case, peer: Peer, model: BenchModel, plan: Plan, folder: Path) -> Case:
    case = _started(peer, model, folder)
    try:
        for ready in _answering([case], model):
            time.sleep(1)  # other workers may still be starting
            _alternate(floor, [ready], 1, plan.slow_seconds, folder)
    finally:
        case.server.stop()
    return case


def _alternate(floor: Case, cases: Sequence[Case], rounds: int, seconds: int, folder: Path) -> None:
    """Run the floor, then each case, and again; whoever is second changes from round to round."""
    for connections in CONNECTIONS:
        for number in range(rounds):
            floor_per_s = run(floor, connections, min(seconds, 2), folder).per_s
            turn = number % len(cases) if cases else 0
            for case in [*cases[turn:], *cases[:turn]]:
                if not case.trouble:
                    _run(case, connections, seconds, folder, floor_per_s)
    for case in [floor, *cases]:
        case.memory_mb, case.processes = case.server.memory_mb()


def _run(case: Case, connections: int, seconds: int, folder: Path, floor_per_s: float) -> None:
    try:
        figure = run(case, connections, seconds, folder, floor_per_s)
    except Trouble as trouble:
        case.trouble = str(trouble)
        click.echo(f"{case.name}, {connections}: {trouble}", err=True)
        return
    click.echo(f"{case.name}, {connections}: {figure.per_s:,.0f}/s, {figure.per_s / floor_per_s:.2f} of the floor, {figure.cpu_us:.0f} us", err=True)


def empty_process_mb() -> float:
    """Give the proportional set size of a Python process that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        time.sleep(0.3)
        return Server("empty", 0, [process], Path()).memory_mb()[0]
    finally:
        with suppress(BrokenPipeError):
            process.communicate(b"\n")
