"""Where the data plane finds the console for a load or an unload."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.environment import environment
from serving.dataplane import repository
from tests import own_loop
from tests.dataplane.conftest import free_port


class _Server(ThreadingHTTPServer):
    """An HTTP server in the console's place that notes how it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None, str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Host"], self.headers["X-Forwarded-Proto"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"revision":3}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that the base class gives it
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    yield monkeypatch
    monkeypatch.undo()
    environment.cache_clear()


def _asked() -> int:
    environment.cache_clear()
    return own_loop.run(repository._asked({b"x-api-key": b"key"}, "sum", "load"))


def test_this_machines_console_is_asked_by_its_public_name(server: _Server, settings_of: pytest.MonkeyPatch) -> None:
    settings_of.setenv("SIGNALBOX_CONSOLE_PORT", str(server.server_port))
    settings_of.setenv("SIGNALBOX_PUBLIC_CONSOLE_URL", "https://models.example.org")
    assert _asked() == 3
    assert server.asked == [("/api/v1/endpoints/sum/load/", "models.example.org", "https")]


def test_where_no_console_listens_the_public_one_is_asked(server: _Server, settings_of: pytest.MonkeyPatch) -> None:
    settings_of.setenv("SIGNALBOX_CONSOLE_PORT", str(free_port()))
    settings_of.setenv("SIGNALBOX_PUBLIC_CONSOLE_URL", f"http://127.0.0.1:{server.server_port}/")
    assert _asked() == 3
    assert server.asked == [("/api/v1/endpoints/sum/load/", f"127.0.0.1:{server.server_port}", None)]
