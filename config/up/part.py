"""What the product is made of on one machine: one ``Part`` per process, in the order of its start."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from core.environment import ROOT, SET_BY_UP, Environment

CONSOLE_WORKERS = 2
CONSOLE_THREADS = 8
STAGE_PREDICTIONS, STAGE_CONSOLE, STAGE_WORKERS, STAGE_REDIS, STAGE_POSTGRES = range(5)
SECONDS_TO_STOP = {STAGE_PREDICTIONS: 2.5, STAGE_CONSOLE: 1.5, STAGE_WORKERS: 2.5, STAGE_REDIS: 1.0, STAGE_POSTGRES: 2.0}
# What takes requests or works ends at once, and only then what keeps the data.
STOPPED_IN_TURN = ((STAGE_PREDICTIONS, STAGE_CONSOLE, STAGE_WORKERS), (STAGE_REDIS,), (STAGE_POSTGRES,))


@dataclass(frozen=True, slots=True)
class Part:
    """One process: how it starts, how it is asked to end and in which stage, and by what it ends when its supervisor is no more."""

    name: str
    command: tuple[str, ...]
    stage: int
    stop_signal: signal.Signals = signal.SIGTERM
    fds: tuple[int, ...] = ()
    death_signal: signal.Signals = signal.SIGTERM


def console(fd: int) -> Part:
    options = ["--bind", f"fd://{fd}", "--worker-class", "gthread", "--workers", str(CONSOLE_WORKERS), "--threads", str(CONSOLE_THREADS)]
    options += [
        "--config",
        "python:config.gunicorn",
        "--preload",
        "--timeout",
        "120",
        "--graceful-timeout",
        "1",
        "--no-control-socket",
        "--log-level",
        "warning",
    ]
    return Part("console", (sys.executable, "-m", "gunicorn", "config.wsgi:application", *options), STAGE_CONSOLE, fds=(fd,))


def data_planes(fd: int, count: int) -> list[Part]:
    command = (sys.executable, "-m", "serving.dataplane", "--fd", str(fd))
    return [Part(f"dataplane-{number}", command, STAGE_PREDICTIONS, fds=(fd,)) for number in range(1, count + 1)]


def grpc(fd: int, count: int) -> list[Part]:
    command = (sys.executable, "-m", "serving.dataplane.grpc", "--fd", str(fd))
    return [Part(f"grpc-{number}", command, STAGE_PREDICTIONS, fds=(fd,)) for number in range(1, count + 1)]


def workers(environment: Environment) -> list[Part]:
    """The workers end by SIGQUIT: a job that is cut short is taken up again, a person at the keyboard is not kept waiting.

    Without their supervisor they have neither broker nor database to take leave of.
    """
    queues = (("workers", "work", environment.worker_processes), ("sandbox", "sandbox", 1))
    return [Part(name, _worker(queue, count), STAGE_WORKERS, signal.SIGQUIT, death_signal=signal.SIGKILL) for name, queue, count in queues]


def beat(environment: Environment) -> Part:
    schedule = environment.var_dir / "beat-schedule"
    return Part("beat", (*_celery("beat"), "--schedule", str(schedule), "--pidfile", ""), STAGE_WORKERS)


def demo() -> Part:
    return Part("demo", (sys.executable, "-m", "config.demo"), STAGE_PREDICTIONS)


def environ(environment: Environment, console_port: int, predict_port: int) -> dict[str, str]:
    """Give the environment of every child: ours, the ports that were chosen, one thread per process, no telemetry."""
    chosen = {
        "SIGNALBOX_CONSOLE_PORT": str(console_port),
        "SIGNALBOX_PREDICT_PORT": str(predict_port),
        "SIGNALBOX_VAR_DIR": str(Path(environment.var_dir).resolve()),
    }
    return {
        **os.environ,
        **chosen,
        SET_BY_UP: ",".join(name for name in chosen if os.environ.get(name, "0") == "0"),
        # The checks of the URLs and templates are the console's business.
        "CELERY_SKIP_CHECKS": "true",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def _celery(command: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "-A", "config", command, "--loglevel", "INFO")


def _worker(queue: str, processes: int) -> tuple[str, ...]:
    lean = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    return (*_celery("worker"), "-Q", queue, "-n", f"{queue}@%h", "--concurrency", str(processes), *lean)
