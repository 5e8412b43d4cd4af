"""The tables of the section "Serving" in docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.serve.load import CONNECTIONS, Case

_HEAD = "| server | req/s | of the floor | p50 ms | p99 ms | CPU us per request | memory MB | failed |\n|---|---|---|---|---|---|---|---|"


def table(cases: Sequence[Case]) -> str:
    """Write a line per server; its figures are at 1 / 16 / 64 connections."""
    return "\n".join([_HEAD, *map(_line, cases)])


def _line(case: Case) -> str:
    if not case.figures:
        return f"| {case.name} | {case.trouble.replace('|', '/') or 'not measured'} | | | | | | |"
    name = f"{case.name} ({case.trouble})" if case.trouble else case.name
    failed = sum(figure.failed for figures in case.figures.values() for figure in figures)
    cells = [
        _triple(lambda connections: case.median(connections, "per_s"), ",.0f"),
        "1" if case.name == "floor" else _triple(case.ratio, ".2f"),
        _triple(lambda connections: case.median(connections, "p50_ms"), ".2f"),
        _triple(lambda connections: case.median(connections, "p99_ms"), ".1f"),
        _triple(lambda connections: case.median(connections, "cpu_us"), ".0f"),
        f"{case.memory_mb:.0f} in {case.processes}" if case.processes else "-",
    ]
    return f"| {name} | {' | '.join(cells)} | {failed} |"


def _triple(value_of: Callable[[int], float | None], form: str) -> str:
    values = [value_of(connections) for connections in CONNECTIONS]
    return " / ".join("-" if value is None else format(value, form) for value in values)
