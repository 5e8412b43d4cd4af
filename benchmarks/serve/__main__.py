"""Runs the serving benchmark: ``python -m benchmarks.serve [--write] [--quick] [--only NAME] [--model NAME] [--policy fast]``.

Needs ``wrk``. The peers get environments of their own under var/benchmarks. All have two processes and share the
cores with wrk, so figures are shares of the floor of the same seconds. ``--write`` puts the section "Serving" into
docs/benchmarks.md. About 12 minutes; the first run also installs the peers.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import click

from benchmarks.serve import environments, load, page, peers
from benchmarks.serve.models import NAMES, make_models
from benchmarks.serve.processes import PROCESSES, ROOT, end_in_order
from benchmarks.serve.rounds import Plan, empty_process_mb, measure
from benchmarks.serve.signalbox import Ours, home, publish
from benchmarks.tables import put_section

_HEADING = "Serving"


@click.command()
@click.option("--write", is_flag=True, help="Write docs/benchmarks.md.")
@click.option("--quick", is_flag=True, help="One round of a second each.")
@click.option("--only", multiple=True, metavar="NAME", help="Measure only servers with NAME in their names; may come several times.")
@click.option("--model", "names", multiple=True, type=click.Choice(NAMES), help="Measure only this model; may come several times.")
@click.option("--policy", default="fast", type=click.Choice(["fast", "durable", "off"]), help="The log policy of Signalbox.")
@click.option("--rounds", default=8, help="Rounds of the fast servers.")
def main(*, write: bool, quick: bool, only: tuple[str, ...], names: tuple[str, ...], policy: str, rounds: int) -> None:
    """Measure, print, and write."""
    load.need_wrk()
    end_in_order()
    plan = Plan(1, 1, 1, 1, only) if quick else Plan(rounds, 1, max(1, rounds // 4), 3, only)
    for peer in (peers.HAND_WRITTEN, *peers.SLOW):
        if plan.wants(peer.name):
            _install(peer.environment)
    folder = Path(tempfile.mkdtemp(prefix="signalbox-serve-"))
    lines = _introduction(plan, policy)
    try:
        with home(folder) as place:
            models = make_models(folder)
            ours = Ours(place)
            try:
                lines.append(_memory(ours))
                publish(place, models, policy)
                for number, model in enumerate(models):
                    if not names or model.name in names:
                        text = page.table(measure(model, ours, plan, folder, variants=not number))
                        click.echo(f"\n{model.title}\n{text}\n")
                        lines += [f"### {model.title}", "", text, ""]
            finally:
                ours.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if write:
        put_section(ROOT / "docs" / "benchmarks.md", _HEADING, "\n".join(lines))


def _install(environment: str) -> None:
    """Make an environment before anything runs; that it cannot be made is said again in the peer's row."""
    try:
        environments.made(environment)
    except environments.NotInstalled as error:
        click.echo(f"{environment}: {error}", err=True)


def _introduction(plan: Plan, policy: str) -> list[str]:
    command = " ".join(["python -m benchmarks.serve", *sys.argv[1:]])
    load_average = os.getloadavg()[0]
    return [
        f"`{command}`: one row per request, {PROCESSES} processes each, wrk with one thread on the same {os.cpu_count()} cores ({platform.machine()},",
        f"Python {platform.python_version()}); figures at 1 / 16 / 64 connections, medians of {plan.rounds} interleaved rounds of {plan.seconds} s",
        f"(peers with scikit-learn inside: one of {plan.slow_seconds} s). The load average was {load_average:.1f} at the start.",
        "",
        'The floor is a raw ASGI application that sends a fixed answer; "of the floor" compares runs of the same seconds. Signalbox checks the',
        f"key, validates, logs (`{policy}`) and counts; the hand-written servers do none of that. Every answer was compared with scikit-learn's",
        "(1e-5) before the first run. Memory is the sum of the proportional set sizes of all the processes of a server after its last run;",
        "Signalbox holds all three models. Triton is not among the peers: it has no package. Where the time of a request goes:",
        "`python -m benchmarks.profile_request`.",
    ]


def _memory(ours: Ours) -> str:
    before_mb = ours.memory_before_mb()
    return f"A Python process that does nothing has {empty_process_mb():.0f} MB, one of Signalbox {before_mb:.0f} MB before it has a model.\n"


if __name__ == "__main__":
    main()
