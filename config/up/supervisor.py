"""The supervisor: starts the parts in their order, keeps them alive, and ends them in the opposite order."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import click
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from config.up import lock, logs, part, sockets
from config.up.keeper import Check, Keeper, described, ended
from config.up.own_servers import ask_postgres, ask_redis
from config.up.ready import ANSWERING, answers, says, wait_for
from config.up.report import Started, block
from config.up.restart import roll
from core.embedded import child, postgres, redis
from core.embedded.account import give, service_account
from core.embedded.server import Server, last_lines
from core.environment import ROOT, Environment
from core.errors import SignalboxError, Unavailable
from core.metrics.siblings import Sibling
from core.note import remove_note, write_note

logger = logging.getLogger(__name__)

EVERY_S = 1.0
RESTART = signal.SIGUSR1


def run(environment: Environment) -> int:
    """Run everything until Ctrl-C or SIGTERM; give the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    run_dir = environment.run_dir
    give(run_dir, service_account(environment.var_dir.resolve() / "postgres"))
    with lock.take(run_dir):
        for set_while_it_ran in (environment.observing_file, environment.regions_file):
            set_while_it_ran.unlink(missing_ok=True)
        console = sockets.listen(environment.host, environment.console_port, "SIGNALBOX_CONSOLE_PORT")
        predict = sockets.listen(environment.host, environment.predict_port, "SIGNALBOX_PREDICT_PORT")
        grpc = sockets.listen(environment.host, environment.grpc_port, "SIGNALBOX_GRPC_PORT") if environment.grpc_port else None
        try:
            return asyncio.run(Supervisor(environment, console, predict, grpc).main())
        finally:
            remove_note(run_dir)


class LaunchServer(Protocol):
    """``core.embedded.postgres.launch`` and its sister."""

    def __call__(self, *, var_dir: Path, run_dir: Path) -> Server: ...


class Supervisor:
    """Owns every process of the product on this machine."""

    def __init__(self, environment: Environment, console: socket.socket, predict: socket.socket, grpc: socket.socket | None) -> None:
        """``grpc`` is None where nothing is to be answered over it."""
        chosen = {"console_port": sockets.port_of(console), "predict_port": sockets.port_of(predict)}
        self.environment = environment.model_copy(update=chosen)
        self.log_dir = environment.var_dir.resolve() / "log"
        self._console_fd = console.fileno()
        self._predict_fd = predict.fileno()
        self._grpc_parts = part.grpc(grpc.fileno(), environment.grpc_processes) if grpc else []
        self._environ = part.environ(environment, **chosen)
        self._keepers: list[Keeper] = []
        self._demo: Keeper | None = None
        self._stopping = asyncio.Event()
        self._restarting = asyncio.Lock()
        self._rolling: asyncio.Task[None] | None = None
        self._restarts = 0
        self._last_restart = ""
        self._tables = asyncio.Event()
        self._steps: list[subprocess.Popen[bytes]] = []

    async def main(self) -> int:
        """Start, report, stay until asked to stop, stop; the exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        asyncio.get_running_loop().add_signal_handler(RESTART, self._begin_restart)
        Sibling(self.environment.run_dir, "up", self._metrics).start()
        living = asyncio.create_task(self._live())
        asked = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({living, asked}, return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                living.result()
        except SignalboxError as error:
            click.echo(f"Signalbox did not start. {error.message}", err=True)
            return 1
        finally:
            living.cancel()
            await self._stop()
        return 0

    async def _live(self) -> None:
        """Start everything, say so, then look after what changes while it runs."""
        click.echo(block(self.environment, await self._start()))
        while True:
            try:
                await self._follow_the_demo()
            except OSError as error:  # no process or no disk to be had just now; the rest goes on
                logger.warning("The demo did not start: %s", error)
            logs.trim(self.log_dir)
            await asyncio.sleep(EVERY_S)

    def _begin_restart(self) -> None:
        if self._tables.is_set() and not self._restarting.locked():
            self._rolling = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        """Restart what answers and what works, one after the other; how it went is in the note."""
        async with self._restarting:
            try:
                await roll(list(self._keepers), self._log, self._tell)
                self._last_restart = ""
            except (SignalboxError, OSError) as error:
                self._last_restart = str(error)
                logger.warning("The restart was given up: %s", error)
            self._restarts += 1
            self._write_note()

    async def _start(self) -> Started:
        began = time.monotonic()
        await self._start_servers()
        database_s = time.monotonic() - began
        self._tell(f"database ready, {database_s:.1f} s")
        answer = await self._prepare()
        self._tables.set()
        self._tell("tables ready")
        await self._start_parts()
        self._write_note()
        return Started(
            database_s=database_s,
            console_url=self.environment.console_url,
            predict_url=self.environment.predict_url,
            sign_in_url=self.environment.console_url + answer["sign_in_path"],
        )

    async def _start_servers(self) -> None:
        self._tell("starting the database")
        if url := self.environment.external_database_url:
            await asyncio.to_thread(ask_postgres, url)
        else:
            await self._add_server("postgres", postgres.launch, part.STAGE_POSTGRES, signal.SIGINT)
        if url := self.environment.external_redis_url:
            await asyncio.to_thread(ask_redis, url)
        else:
            await self._add_server("redis", redis.launch, part.STAGE_REDIS, signal.SIGTERM)

    async def _start_parts(self) -> None:
        """Start all that needs the tables, at once; returns when each kind of it is ready."""
        sizes = {one.name: self._size(one.name) for one in (*part.workers(self.environment), *self._grpc_parts)}
        planes = [self._add(one) for one in part.data_planes(self._predict_fd, self.environment.dataplane_processes)]
        answering = [self._add(one) for one in self._grpc_parts]
        workers = [self._add(one) for one in part.workers(self.environment)]
        self._add(part.beat(self.environment))
        console = self._add(part.console(self._console_fd))
        predictions = answers(f"{self.environment.local_predict_url}/v2/health/ready", 299)
        pages = answers(f"{self.environment.local_console_url}/sign-in/", 499)
        waits = [self._wait(worker, worker.name, says(self._log(worker.name), "ready.", sizes[worker.name])) for worker in workers]
        waits += [self._wait(one, one.name, says(self._log(one.name), ANSWERING, sizes[one.name])) for one in answering[:1]]
        await asyncio.gather(self._wait(planes[0], "predictions", predictions), self._wait(console, "console", pages), *waits)

    async def _wait(self, keeper: Keeper, title: str, check: Check) -> None:
        began = time.monotonic()
        await wait_for(keeper, self._log(keeper.name), check)
        self._tell(f"{title} ready, {time.monotonic() - began:.1f} s")

    async def _prepare(self) -> dict[str, Any]:
        """Run ``config.up.prepare`` to its end and give its answer."""
        read, write = os.pipe()
        command = (sys.executable, "-m", "config.up.prepare", "--answer-fd", str(write))
        process = self._launch(part.Part("prepare", command, part.STAGE_CONSOLE, fds=(write,)))
        self._steps.append(process)
        os.close(write)
        code = await ended(process)
        with os.fdopen(read, encoding="utf-8") as answer:
            text = answer.read()
        if code != 0:
            log = self._log("prepare")
            raise Unavailable(f"Preparing {described(code)}. The end of {log} says:\n{last_lines(log)}")
        result: dict[str, Any] = json.loads(text)
        return result

    async def _follow_the_demo(self) -> None:
        """Start or end the demo's process as ``signalbox demo start|stop`` asks through a file."""
        wanted = self.environment.wants_demo
        if wanted and self._demo is None:
            self._demo = self._add(part.demo())
            self._note_again()
        elif not wanted and self._demo is not None:
            self._keepers.remove(self._demo)
            await self._demo.stop(part.SECONDS_TO_STOP[part.STAGE_PREDICTIONS])
            self._demo = None
            self._note_again()

    def _add(self, one: part.Part) -> Keeper:
        keeper = Keeper(one.name, lambda: self._launch(one), one.stage, one.stop_signal)
        keeper.on_started_again = self._note_again
        keeper.start()
        self._keepers.append(keeper)
        return keeper

    async def _add_server(self, name: str, launch_server: LaunchServer, stage: int, stop_signal: signal.Signals) -> None:
        """Start an embedded server and return once it answers; from its launch on it is ended with the others."""
        server: Server

        def launch() -> subprocess.Popen[bytes]:
            nonlocal server
            server = launch_server(var_dir=self.environment.var_dir, run_dir=self.environment.run_dir)
            return server.process

        async def settle() -> None:
            await server.settle()

        keeper = Keeper(name, launch, stage, stop_signal, settle)
        keeper.on_started_again = self._note_again
        self._keepers.append(keeper)
        await keeper.start_settled()

    def _launch(self, one: part.Part) -> subprocess.Popen[bytes]:
        with logs.open_log(self.log_dir, one.name) as output:
            return child.start(one.command, output=output, environ=self._environ, pass_fds=one.fds, death_signal=one.death_signal, cwd=ROOT)

    async def _stop(self) -> None:
        """In turn, each with its own limit; all limits together stay under ten seconds."""
        with suppress(OSError):  # the terminal may be gone
            self._tell("stopping")
        if self._rolling is not None:
            self._rolling.cancel()
        for process in self._steps:
            if process.poll() is None:
                process.kill()
                process.wait()
        for stages in part.STOPPED_IN_TURN:
            await asyncio.gather(*(keeper.stop(part.SECONDS_TO_STOP[keeper.stage]) for keeper in self._keepers if keeper.stage in stages))

    def _metrics(self) -> list[Metric]:
        """Called in the thread that answers those who ask for metrics."""
        ends = CounterMetricFamily("signalbox_part_restarts", "How often a process ended unasked and was started again.", labels=["part"])
        running = GaugeMetricFamily("signalbox_part_running", "1 while the process runs.", labels=["part"])
        for keeper in list(self._keepers):
            ends.add_metric([keeper.name], keeper.ends)
            running.add_metric([keeper.name], keeper.pid is not None)
        return [ends, running]

    def _note_again(self) -> None:
        """A process has another pid now; before everything was ready there is no note yet."""
        if self._tables.is_set():
            self._write_note()

    def _write_note(self) -> None:
        urls = {"console_url": self.environment.local_console_url, "predict_url": self.environment.local_predict_url}
        if self.environment.grpc_port:
            urls["grpc_address"] = self.environment.grpc_address
        write_note(
            self.environment.run_dir,
            **urls,
            restarts=self._restarts,
            restart_failure=self._last_restart,
            demo=self.environment.demo,
            var_dir=str(self.environment.var_dir.resolve()),
            processes={k.name: k.pid for k in self._keepers},
        )

    def _log(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def _size(self, name: str) -> int:
        log = self._log(name)
        return log.stat().st_size if log.exists() else 0

    def _tell(self, progress: str) -> None:
        click.echo(f"  {progress}", err=True)
