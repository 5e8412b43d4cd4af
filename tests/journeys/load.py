"""A bounded load on one endpoint, with a ledger of every answer on the client's side."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass(frozen=True)
class Answer:
    """One answered request: when it was sent and answered (epoch seconds), and what the answer said of itself."""

    sent: float
    done: float
    status: int
    prediction_id: str
    version: str


@dataclass
class Load:
    """``threads`` clients asking the same row until told to stop, each over its own kept connection.

    A connection that is cut is a failure, unless it ``reconnects``: one that was open to a process
    that is killed on purpose is gone, and every client then tries once more, on a new one.
    """

    url: str
    key: str
    endpoint: str
    row: dict[str, Any]
    reconnects: bool = False
    threads: int = 4
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._running = [threading.Thread(target=self._ask, daemon=True) for _ in range(self.threads)]
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join(timeout=40)

    def wait_for(self, more: int, seconds: float = 60) -> None:
        """Return when ``more`` requests have been answered from now on."""
        wanted, end = len(self.answers) + more, time.monotonic() + seconds
        while len(self.answers) < wanted:
            assert time.monotonic() < end, f"{len(self.answers)} of {wanted} answers after {seconds} s; {self.failures[:3]}"
            time.sleep(0.02)

    def _ask(self) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {self.key}"}, timeout=30) as client:
            while not self._stop.is_set():
                sent = time.time()
                try:
                    answer = self._post(client)
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code} {answer.text[:200]}")
                    continue
                body = answer.json()
                self.answers.append(Answer(sent, time.time(), answer.status_code, body["prediction_id"], str(body["version"])))

    def _post(self, client: httpx.Client) -> httpx.Response:
        url, body = f"{self.url}/v2/models/{self.endpoint}/predict", {"rows": [self.row]}
        try:
            return client.post(url, json=body)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if not self.reconnects:
                raise
            return client.post(url, json=body)
