"""What the person at the keyboard reads: progress while it starts, then one block."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.version import version
from core.environment import Environment


@dataclass(frozen=True, slots=True)
class Started:
    """What the block tells: seconds until the database answered, and the addresses."""

    database_s: float
    console_url: str
    predict_url: str
    sign_in_url: str


def block(environment: Environment, started: Started) -> str:
    """Give the block that is printed when everything is ready."""
    lines = [
        f"Signalbox {'.'.join(version().split('.')[:2])}  data in {_shown(environment.var_dir)}  ({_servers(environment)})",
        f"  database    ready  {started.database_s:.1f} s",
        f"  console     ready  {started.console_url}",
        f"  predictions ready  {started.predict_url}   (Open Inference Protocol v2)",
        *([f"  gRPC        ready  {environment.grpc_address}   (the same protocol)"] if environment.grpc_port else []),
        f"  workers     ready  {environment.worker_processes}, and the sandbox",
        *([f"  demo        {_demo(environment)}"] if environment.wants_demo else []),
        "",
        f"  Sign in     {started.sign_in_url}   (works once, 15 minutes)",
        "  Next        signalbox register model.joblib --name my-model --sample X.csv",
        "  Ctrl-C stops everything; the data stays.",
    ]
    return "\n".join(lines)


def _demo(environment: Environment) -> str:
    """The demo's process starts after the block is printed, and trains its models first; the overview says so too."""
    state = "being set up, about a minute" if environment.demo_is_coming else "tumour-screening and diabetes-progression"
    return f"{state}: two models, live traffic, and a drift to find"


def _servers(environment: Environment) -> str:
    own = [name for name, url in (("PostgreSQL", environment.external_database_url), ("Redis", environment.external_redis_url)) if url]
    if not own:
        return "embedded PostgreSQL and Redis, nothing else to install"
    embedded = "" if len(own) == 2 else f"; embedded {'Redis' if own == ['PostgreSQL'] else 'PostgreSQL'}"
    return f"{' and '.join(own)} of your own{embedded}"


def _shown(folder: Path) -> str:
    resolved = folder.resolve()
    return f"{resolved.relative_to(Path.cwd())}/" if resolved.is_relative_to(Path.cwd()) else f"{resolved}/"
