"""Hostile requests against real processes, over both transports: refused in the protocol's form, in time, with the connection kept."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.dataplane import models
from tests.dataplane.conftest import NO_DATABASE, Plane, endpoint, resident_bytes, table, wait_for
from tests.dataplane.hostile_bodies import CORPUS, GOOD_ANSWER, Hostile, http, rows
from tests.metrics_page import value_of

WITHIN_S = 2
"""The promise: no hostile request waits longer for its answer."""
UNREAD_S = 20


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body[: int(self.headers.get("inference-header-content-length", len(self.body)))])


class Connection:
    """A plain connection, which sends what no client would."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)
        self._left = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def ask(self, raw: bytes) -> Reply:
        """Send a request and read its answer; a server that has already closed its reading side may cut the sending short."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(raw)
        return self.read()

    def read(self) -> Reply:
        head = self._until(lambda: self._left.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in self._left else 0)
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        status = int(lines[0].split()[1])
        if status == 100:
            return self.read()
        return Reply(status, headers, self._until(lambda: int(headers["content-length"]), empty=True))

    def is_closed(self) -> bool:
        """Tell whether the server has ended the connection and said nothing more."""
        try:
            return self._left == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _until(self, length: Any, *, empty: bool = False) -> bytes:
        while True:
            count = length()
            if (count or empty) and len(self._left) >= count:
                found, self._left = self._left[:count], self._left[count:]
                return found
            part = self.sock.recv(1 << 20)
            assert part, f"the server closed the connection after {self._left!r}"
            self._left += part


@pytest.fixture
def connection(standing: Plane) -> Iterator[Connection]:
    with Connection(standing.port) as connection:
        yield connection


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda hostile: hostile.name)
def test_a_hostile_request_is_answered_and_harms_nobody(standing: Plane, connection: Connection, hostile: Hostile) -> None:
    before = len(standing.log_text())
    reply = connection.ask(hostile.raw)
    assert reply.status == hostile.status, reply.body[:500]
    if reply.status != 200:
        assert reply.headers["content-type"] == "application/json"
        assert list(reply.document) == ["error"]
        assert hostile.text in reply.document["error"]
        assert len(reply.body) < 100_000
    if hostile.kept:
        assert "connection" not in reply.headers
        assert connection.ask(http()).document["outputs"][0]["data"] == GOOD_ANSWER
    else:
        assert connection.is_closed()
    with Connection(standing.port) as another:
        assert another.ask(http()).document["outputs"][0]["data"] == GOOD_ANSWER
    assert "Traceback" not in standing.log_text()[before:]


def test_the_corpus_again_and_again_does_not_fill_the_memory(standing: Plane) -> None:
    small = [hostile.raw for hostile in CORPUS if not hostile.once]
    kept = [hostile.raw for hostile in CORPUS if hostile.kept and not hostile.once]
    for _ in range(4):
        _send_all(standing, small, kept)
    before = resident_bytes(standing)
    for _ in range(8):
        _send_all(standing, small, kept)
    assert resident_bytes(standing) - before < 64 * 2**20


def _send_all(plane: Plane, small: list[bytes], kept: list[bytes]) -> None:
    for raw in small:
        with Connection(plane.port) as connection:
            assert connection.ask(raw).status < 500
    with Connection(plane.port) as connection:
        for raw in kept:
            assert connection.ask(raw).status < 500


def test_a_bad_request_between_pipelined_good_ones_harms_neither(standing: Plane) -> None:
    for hostile in CORPUS:
        if not hostile.kept or hostile.once:
            continue
        with Connection(standing.port) as connection:
            connection.sock.sendall(http() + hostile.raw + http())
            replies = [connection.read() for _ in range(3)]
        assert [reply.status for reply in replies] == [200, hostile.status, 200], hostile.name
        assert [reply.document["outputs"][0]["data"] for reply in (replies[0], replies[2])] == [GOOD_ANSWER] * 2, hostile.name


def test_thousands_of_pipelined_refusals_are_answered_in_order(connection: Connection) -> None:
    bad = http(b"{")
    connection.sock.settimeout(20)
    connection.sock.sendall(http() + bad * 3000 + http() + b"nonsense\r\n\r\n")
    statuses = [connection.read().status for _ in range(3003)]
    assert statuses == [200, *[400] * 3000, 200, 400]
    assert connection.is_closed()


def test_a_request_in_single_bytes_is_answered(connection: Connection) -> None:
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in http():
        connection.sock.send(bytes([byte]))
    assert connection.read().document["outputs"][0]["data"] == GOOD_ANSWER


def test_a_client_that_closes_its_sending_side_gets_its_answer(connection: Connection) -> None:
    connection.sock.sendall(http() * 3)
    connection.sock.shutdown(socket.SHUT_WR)
    assert [connection.read().document["outputs"][0]["data"] for _ in range(3)] == [GOOD_ANSWER] * 3
    assert connection.is_closed()


def test_a_client_that_closes_its_sending_side_in_the_middle_gets_what_it_asked_before(connection: Connection) -> None:
    connection.sock.sendall(http() * 2 + http()[:-5])
    connection.sock.shutdown(socket.SHUT_WR)
    assert [connection.read().document["outputs"][0]["data"] for _ in range(2)] == [GOOD_ANSWER] * 2
    assert connection.is_closed()


def test_clients_that_leave_in_the_middle_harm_nobody(standing: Plane) -> None:
    whole = http()
    for cut in range(0, len(whole), 3):
        with Connection(standing.port) as connection:
            connection.sock.sendall(whole[:cut])
    with Connection(standing.port) as connection:
        assert connection.ask(http()).status == 200
    assert "Traceback" not in standing.log_text()


def test_many_slow_connections_keep_nobody_waiting(standing: Plane) -> None:
    slow = [Connection(standing.port) for _ in range(1500)]
    for number, connection in enumerate(slow):
        connection.sock.sendall(http()[: 20 + number % 100])
    with Connection(standing.port) as connection:
        for _ in range(20):
            assert connection.ask(http()).status == 200
    for connection in slow:
        connection.sock.close()


@pytest.mark.long
def test_who_keeps_the_server_waiting_is_sent_away_in_time(tmp_path: Path) -> None:
    """Heads and bodies that trickle in, and answers that nobody reads: on both transports at once, since it takes its time."""
    planes = [Plane(tmp_path / name, NO_DATABASE, plain_asgi=name == "plain") for name in ("own", "plain")]
    try:
        for plane in planes:
            one, churn = models.regressor(plane.artifacts), models.classifier(plane.artifacts)
            plane.keep(table([one, churn], [endpoint("sum", one), endpoint("churn", churn)]))
            plane.start()
        _be_slow(planes)
    finally:
        for plane in planes:
            plane.stop(signal.SIGKILL)


def _be_slow(planes: list[Plane]) -> None:
    request = http()
    heads = [Connection(plane.port) for plane in planes]
    bodies = [Connection(plane.port) for plane in planes]
    unread = [Connection(plane.port) for plane in planes]
    fast = [Connection(plane.port) for plane in planes]
    for connection in unread:
        with pytest.raises(TimeoutError):
            connection.sock.sendall(rows(*[{"plan": "x" * 100}] * 50) * 5000)
    for second in range(UNREAD_S + 6):
        for connection in heads:
            _trickle(connection, request[second : second + 1])
        for connection in bodies:
            _trickle(connection, request[: request.index(b"{") + 1] if second == 0 else b" ")
        for connection in fast:
            assert connection.ask(request).status == 200
        time.sleep(1)
    assert [connection.read().status for connection in heads + bodies] == [408] * 4
    assert all(connection.is_closed() for connection in heads + bodies)
    for connection in unread:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sock.sendall(request)


def _trickle(connection: Connection, data: bytes) -> None:
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        connection.sock.send(data)


def test_pipelined_requests_whose_answers_nobody_reads_do_not_fill_the_memory(standing: Plane) -> None:
    """Of the 110 MB that each of three clients would send, no more is taken than its connection holds."""
    request = rows(*[{"plan": "x" * 100}] * 50)
    with Connection(standing.port) as connection:  # what the first of such requests leave behind for good is not what is asked here
        for _ in range(25):
            connection.sock.sendall(request * 20)
            assert [connection.read().status for _ in range(20)] == [200] * 20
    before = bytes_without_the_log(standing)
    with contextlib.ExitStack() as unread:
        for _ in range(3):
            connection = unread.enter_context(Connection(standing.port))
            connection.sock.settimeout(1)
            with pytest.raises(TimeoutError):
                connection.sock.sendall(request * 20_000)
        assert bytes_without_the_log(standing) - before < 32 * 2**20


def bytes_without_the_log(plane: Plane) -> int:
    """Give what is resident once everything that was answered is written."""
    wait_for(lambda: value_of(plane.client.get("/metrics").text, "signalbox_log_waiting_batches") == 0, "the log")
    return resident_bytes(plane)
