"""``signalbox up`` as somebody at a keyboard meets it: real processes in a folder of their own."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from config.up.report import Started, block
from core.embedded import postgres
from core.environment import Environment
from tests.dataplane.conftest import free_port
from tests.embedded.test_postgres import recover_slowly
from tests.journeys.load import GrpcLoad, Load, assert_all_logged
from tests.journeys.wire import Wire, pipeline, rows_of, tumours, until
from tests.product import FEW, STOPPED_WITHIN_S, Product, begin_product, processes_of, run_command, start_product, wait_until_gone


def test_says_what_is_ready_and_where(product: Product) -> None:
    lines = product.block.splitlines()
    assert re.fullmatch(r"Signalbox 0\.1  data in .*/  \(embedded PostgreSQL and Redis, nothing else to install\)", lines[0])
    assert re.fullmatch(r"  database    ready  \d+\.\d s", lines[1])
    assert lines[2:6] == [
        f"  console     ready  {product.console_url}",
        f"  predictions ready  {product.predict_url}   (Open Inference Protocol v2)",
        f"  gRPC        ready  {product.grpc_address}   (the same protocol)",
        "  workers     ready  2, and the sandbox",
    ]
    assert re.fullmatch(rf"  Sign in     {product.console_url}/sign-in/\S+   \(works once, 15 minutes\)", lines[7])
    assert lines[-1] == "  Ctrl-C stops everything; the data stays."


def test_says_that_the_demo_is_on_its_way_that_it_goes_on_or_nothing(tmp_path: Path) -> None:
    def lines() -> list[str]:
        return block(Environment(var_dir=tmp_path, demo=True), Started(0.9, "http://c", "http://p", "http://c/sign-in/x")).splitlines()

    assert "  demo        being set up, about a minute: two models, live traffic, and a drift to find" in lines()
    (tmp_path / "demo.json").touch()
    assert "  demo        tumour-screening and diabetes-progression: two models, live traffic, and a drift to find" in lines()
    (tmp_path / "demo.stopped").touch()
    assert [line for line in lines() if line.startswith("  demo")] == []


def test_the_link_signs_the_first_admin_in_once(product: Product) -> None:
    link = product.command("sign-in").stdout.strip()
    assert link.startswith(f"{product.console_url}/sign-in/")
    with httpx.Client(follow_redirects=False, trust_env=False) as browser:
        page = browser.get(link)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token
        form = {"csrfmiddlewaretoken": token[1]}
        assert browser.post(link, data=form, headers={"Referer": link}).status_code == 302
        assert "sessionid" in browser.cookies
    with httpx.Client(trust_env=False) as another:
        seen = another.get(link)
        another.get(f"{product.console_url}/sign-in/")
        again = another.post(link, data={"csrfmiddlewaretoken": another.cookies["csrftoken"]}, headers={"Referer": link})
    assert "was used" in seen.text
    assert again.status_code >= 400
    assert "sessionid" not in another.cookies


def test_keeps_the_secrets_to_the_owner(product: Product) -> None:
    for name in ("cli.key", "secret_key"):
        assert stat.S_IMODE((product.var_dir / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(product.run_dir.stat().st_mode) == 0o700


def test_refuses_to_start_twice_and_says_where_it_runs(product: Product) -> None:
    second = product.command("up")
    assert second.returncode == 1
    assert f"already running at {product.console_url}" in second.stderr
    assert second.stdout == ""
    asked_politely = product.command("up", "--unless-running")
    assert (asked_politely.returncode, asked_politely.stdout, asked_politely.stderr) == (0, "", "")
    assert httpx.get(f"{product.predict_url}/v2/health/ready", trust_env=False).status_code == 200


def test_starts_a_killed_process_again_and_loses_no_connection(product: Product) -> None:
    killed = [pid for name, pid in product.processes.items() if name.startswith("dataplane")]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    # The supervisor keeps the listening socket: the request waits until somebody takes it.
    assert httpx.get(f"{product.predict_url}/v2/health/live", timeout=30, trust_env=False).status_code == 200
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        running = [pid for pid, command in processes_of(product.var_dir).items() if "serving.dataplane --fd" in command]
        if len(running) == len(killed):
            break
        time.sleep(0.1)
    assert len(running) == len(killed)
    assert not set(running) & set(killed)


def test_names_the_port_that_is_in_use_and_its_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_command(tmp_path / "var", "up", SIGNALBOX_PREDICT_PORT=str(port))
    assert ended.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in ended.stderr
    assert "SIGNALBOX_PREDICT_PORT=" in ended.stderr
    assert not processes_of(tmp_path / "var")


def test_ctrl_c_is_seen_while_the_database_recovers(tmp_path: Path) -> None:
    var_dir = tmp_path / "var"
    postgres.start(var_dir=var_dir, run_dir=Environment(var_dir=var_dir).run_dir).stop()
    recover_slowly(var_dir, "sleep 300")
    process = begin_product(var_dir, tmp_path / "up.log")
    while not (var_dir / "postgres" / "postmaster.pid").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(STOPPED_WITHIN_S + 5) == 0
    assert processes_of(var_dir) == {}


@pytest.mark.long
def test_stops_within_ten_seconds_and_leaves_no_process_even_when_killed(tmp_path: Path) -> None:
    var_dir = tmp_path / "var"
    first = start_product(var_dir, **FEW)
    assert len(processes_of(var_dir)) >= 8
    began = time.monotonic()
    assert first.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < 10
    assert processes_of(var_dir) == {}
    assert not (first.run_dir / "up.json").exists()

    (first.run_dir / "observing.json").write_text('{"log": {"log_info": false}}')  # what the protocol's calls have set
    (first.run_dir / "regions.json").write_text("{}")
    second = start_product(var_dir, SIGNALBOX_GRPC_PORT=str(free_port()))
    assert second.admin_key == first.admin_key
    assert not any((second.run_dir / name).exists() for name in ("observing.json", "regions.json"))
    with _under_load(second) as loads:
        second.process.kill()
        second.process.wait()
    assert wait_until_gone(var_dir, 10) == {}
    assert (second.run_dir / "up.json").exists()
    restart = run_command(var_dir, "restart")
    assert (restart.returncode, "Signalbox is not running on this machine" in restart.stderr) == (1, True)
    assert run_command(var_dir, "demo", "start", SIGNALBOX_DEMO="1").stdout == "The demo starts with: signalbox up\n"
    third = start_product(var_dir, **FEW)
    assert third.admin_key == first.admin_key
    for load in loads:
        assert_all_logged(Wire(third.console_url, third.predict_url, third.admin_key), load)
    assert third.stop() == 0


@contextmanager
def _under_load(product: Product) -> Iterator[list[Load]]:
    """Ask a durable endpoint over REST and gRPC; what fails from then on is no failure of the test."""
    wire = Wire(product.console_url, product.predict_url, product.admin_key)
    assert wire.register("tumour", pipeline(1.0))["state"] == "ready"
    wire.call("POST", "endpoints/", json={"name": "durable", "log_policy": "durable"})
    wire.call("POST", "endpoints/durable/deploy/", json={"model": "tumour", "version": 1})
    row = rows_of(tumours()[0][:1])
    until(lambda: wire.predict("durable", row).status_code == 200, 20)
    with Load(wire.predict_url, wire.key, "durable", row[0]) as rest, GrpcLoad(product.grpc_address, wire.key, "durable", row[0]) as grpc:
        rest.wait_for(50)
        grpc.wait_for(50)
        yield [rest, grpc]
