"""The REST API and the data plane as the command line sees them; every problem becomes a Failure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click
import httpx

from config.cli.failures import Failure, Refused
from core.environment import environment
from core.note import read_note

TIMEOUT_S = 60.0
_REFUSALS = {409, 422}
_NO_KEY = "signalbox keys create NAME --scope admin   (on the machine where Signalbox runs; then set SIGNALBOX_KEY)"
_ENDPOINTS = "signalbox endpoints   or   signalbox create-endpoint NAME"
_NOT_FOUND = {"keys": "signalbox keys list", "alerts": "signalbox alerts", "models": "signalbox models"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the product is and with which key; an empty ``predict_url`` is asked of the console."""

    console_url: str
    predict_url: str
    key: str

    @classmethod
    def find(cls, url: str = "", key: str = "", predict_url: str = "") -> Address:
        """Take what was given, else what the running ``signalbox up`` wrote down, else the settings."""
        note = read_note(environment().run_dir)
        here = "" if url else note.get("predict_url") or environment().predict_url
        return cls(
            console_url=(url or note.get("console_url") or environment().console_url).rstrip("/"),
            predict_url=(predict_url or here).rstrip("/"),
            key=key or _kept_key(),
        )

    @property
    def key_in_shell(self) -> str:
        """What a shell makes the key of, so that a command to paste works and shows no key."""
        return f"$(cat {shlex.quote(str(_key_file().resolve()))})" if self.key and self.key == _kept_key() else "$SIGNALBOX_KEY"


class Api:
    """One method per HTTP verb; paths are relative to ``/api/v1/``."""

    def __init__(self, address: Address) -> None:
        self.address = address
        headers = {"Authorization": f"Bearer {address.key}"} if address.key else {}
        self._http = httpx.Client(headers=headers, timeout=TIMEOUT_S, trust_env=False)

    def get(self, path: str, **params: Any) -> Any:
        return self._send("GET", self._console(path), params={name: value for name, value in params.items() if value is not None})

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self._send("POST", self._console(path), json=body, **options) if body is not None else self._send("POST", self._console(path), **options)

    def put(self, path: str, body: Any) -> Any:
        return self._send("PUT", self._console(path), json=body)

    def patch(self, path: str, body: Any) -> Any:
        return self._send("PATCH", self._console(path), json=body)

    def delete(self, path: str, **params: Any) -> Any:
        return self._send("DELETE", self._console(path), params=params)

    def rows(self, path: str, limit: int, **params: Any) -> list[Any]:
        """Give the first ``limit`` rows of a list, page after page."""
        found: list[Any] = []
        for row in self._pages(path, params):
            if len(found) >= limit:
                break
            found.append(row)
        return found

    def predict(self, endpoint: str, body: dict[str, Any] | None, headers: dict[str, str] | None = None, *, content: bytes | None = None) -> Any:
        """Ask the data plane for predictions: ``body`` as JSON, or ``content`` as it is."""
        return self._send("POST", f"{self.predict_url()}/v2/models/{endpoint}/predict", json=body, headers=headers, content=content)

    def predict_url(self) -> str:
        """Give the data plane's address; the console is asked where it is not known."""
        return self.address.predict_url or str(self.get("me/")["predict_url"]).rstrip("/")

    def download(self, path: str, file: BinaryIO, **params: Any) -> Mapping[str, str]:
        """Write the answer to ``file`` as it comes; gives its headers."""
        wanted = {name: value for name, value in params.items() if value is not None}
        try:
            with self._http.stream("GET", self._console(path), params=wanted) as answer:
                if answer.is_error:
                    answer.read()
                    raise _failure_of(answer)
                file.writelines(answer.iter_bytes())
                return answer.headers
        except httpx.TransportError as error:
            raise Failure(f"The download from {self.address.console_url} broke off ({type(error).__name__}). What was written is not complete.") from error

    def _pages(self, path: str, params: dict[str, Any]) -> Iterator[Any]:
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, **params)
            yield from page["results"]
            cursor = page.get("next")
            if not cursor:
                return

    def _console(self, path: str) -> str:
        if "//" in path:
            raise click.UsageError("A name is empty.")
        return f"{self.address.console_url}/api/v1/{path}"

    def _send(self, method: str, url: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, url, **options)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise Failure(f"{self.address.console_url!r} is no address: write http:// or https:// before it.") from error
        except httpx.TransportError as error:
            text = f"{url.split('/', 3)[2]} does not answer ({type(error).__name__})."
            raise Failure(f"Signalbox at {text} It is not running, or runs elsewhere.", next_command="signalbox up   (or set SIGNALBOX_URL)") from error
        if answer.is_error:
            raise _failure_of(answer)
        return answer.json() if answer.content else None


def _failure_of(answer: httpx.Response) -> Failure:
    try:
        problem = answer.json()
        text = problem.get("detail") or problem.get("error") or answer.text
    except (json.JSONDecodeError, AttributeError):
        text = f"{answer.url} answered {answer.status_code} {answer.reason_phrase}."
    kind = Refused if answer.status_code in _REFUSALS else Failure
    return kind(str(text), next_command=_next_of(answer), status=answer.status_code)


def _next_of(answer: httpx.Response) -> str:
    """Name the command that helps: for what was not found, the list that has it."""
    if answer.status_code != httpx.codes.NOT_FOUND:
        return _NO_KEY if answer.status_code == httpx.codes.UNAUTHORIZED else ""
    if ("/api/v1/" in answer.url.path) != answer.headers.get("content-type", "").startswith("application/problem+json"):
        return ""  # the console was asked for predictions, or something else than the console for its own
    what, _, rest = answer.url.path.partition("/api/v1/")[2].partition("/")
    name, _, verb = rest.partition("/")
    # The commands that change an endpoint have looked at it before: what is missing is the version or the revision.
    by_verb = {"deploy/": "signalbox models   or   signalbox versions MODEL", "roll-back/": f"signalbox ledger {name}   or   signalbox endpoints"}
    return by_verb.get(verb) or _NOT_FOUND.get(what, _ENDPOINTS)


def _kept_key() -> str:
    try:
        return _key_file().read_text().strip()
    except OSError:
        return ""


def _key_file() -> Path:
    return environment().var_dir / "cli.key"
