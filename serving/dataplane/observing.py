"""What the protocol's calls for the settings of the log and of traces have set.

It holds for every data-plane process of this machine until Signalbox is started anew: it lies in a file of
the run folder, which each process looks at. No setting names a file or a receiver: those are the server's own.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core.tracing import NEVER, Sampling, sampling
from serving.dataplane.errors import BadRequest, Unsupported
from serving.dataplane.noticeboard import Document, Noticeboard
from serving.dataplane.watch import Traces

logger = logging.getLogger(__name__)

Settings = dict[str, Any]
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LOG: Settings = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0, "log_format": "default"}
_EVERY_S = 0.5
_OWN = ("core", "serving")
"""The loggers that tell more at a verbose level; those of libraries would tell too much."""
_OF_LOG, _OF_TRACES = "log", "traces:"
_OFF, _ON = ["OFF"], ["TIMESTAMPS"]
_TRACES = {"trace_rate": "1", "trace_count": "-1", "log_frequency": "0", "trace_file": "", "trace_mode": "opentelemetry"}
_LONGEST_SHOWN = 80


def _is(*wanted: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(each) and value == each for each in wanted)


_TAKEN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "log_info": (_is(True, False), "true or false"),
    "log_warning": (_is(True, False), "true or false"),
    "log_error": (_is(True, False), "true or false"),
    "log_verbose_level": (lambda value: type(value) is int and 0 <= value < 2**32, "a whole number from 0 on"),
    "log_format": (_is("default", "ISO8601"), "default or ISO8601"),
    "log_file": (_is(""), "nothing: the log goes where the process was started to write it"),
    "trace_level": (_is(_OFF, _ON), "OFF or TIMESTAMPS: the values of rows are never traced"),
    "trace_rate": (lambda value: bool(re.fullmatch("[1-9][0-9]{0,8}", str(value))), "a whole number from 1 on: one request in so many is traced"),
    "trace_count": (_is("-1"), "-1: traces do not end by themselves"),
    "log_frequency": (_is("0"), "0: traces are sent as they come"),
    "trace_file": (_is(""), "nothing: traces go where OTEL_EXPORTER_OTLP_ENDPOINT says"),
    "trace_mode": (_is("opentelemetry"), "opentelemetry"),
}


class Observing:
    """The settings of this process, kept at ``path``. ``traces`` is None where none are made."""

    def __init__(self, path: Path, traces: Traces | None) -> None:
        self._board, self._traces = Noticeboard(path), traces
        self._wanted = _Wanted()
        self._following = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observing", daemon=True)

    @property
    def _kept(self) -> dict[str, Settings]:
        return self._board.document

    def start(self) -> None:
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._wanted)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=2)

    def log(self) -> Settings:
        """Give the log's settings."""
        self._follow()
        return LOG | self._kept.get(_OF_LOG, {})

    async def change_log(self, given: Settings, actor: str) -> Settings:
        """Set what is given, None for as it was at first, and give all; raises BadRequest, and then changes nothing."""
        await self._change(_OF_LOG, _checked(given, LOG), actor)
        return self.log()

    def trace(self, endpoint: str) -> Settings:
        """Give the settings of an endpoint's traces, or with no name those of endpoints that have none of their own."""
        self._follow()
        return self._at_first() | self._kept.get(_OF_TRACES, {}) | self._kept.get(_OF_TRACES + endpoint, {})

    async def change_trace(self, endpoint: str, given: Settings, actor: str) -> Settings:
        """As ``change_log``; None makes an endpoint do as all. Raises Unsupported where traces have nowhere to go."""
        if self._traces is None:
            raise Unsupported("Traces are not configured here. Start Signalbox with OTEL_EXPORTER_OTLP_ENDPOINT set to their receiver.")
        flat = {name: value if value is None or name == "trace_level" else _flat(value) for name, value in given.items()}
        level = flat.get("trace_level")
        if isinstance(level, str):
            flat["trace_level"] = [level]
        await self._change(_OF_TRACES + endpoint, _checked(flat, {"trace_level", *_TRACES}), actor)
        return self.trace(endpoint)

    def _at_first(self) -> Settings:
        """Give what ``OTEL_TRACES_SAMPLER`` says, in the protocol's words."""
        share = sampling().share if self._traces is not None else 0.0
        return {"trace_level": _ON if share else _OFF, **_TRACES, "trace_rate": str(round(1 / share)) if share else "1"}

    async def _change(self, part: str, changes: Settings, actor: str) -> None:
        logger.warning("The API key %s sets %s: %s.", actor, part, changes)

        def edit(kept: Document) -> None:
            kept[part] = {name: value for name, value in (kept.get(part, {}) | changes).items() if value is not None}

        await self._board.change(edit)

    def _run(self) -> None:
        while not self._stopping.wait(_EVERY_S):
            try:
                self._follow()
            except Exception:  # the thread's edge
                logger.exception("The settings of the log and of traces cannot be read; they stay as they are.")

    def _follow(self) -> None:
        """Do as the file says, if it has changed."""
        with self._following:
            if self._board.look():
                self._apply()

    def _apply(self) -> None:
        log = LOG | self._kept.get(_OF_LOG, {})
        self._wanted.settings = log
        for name in _OWN:
            logging.getLogger(name).setLevel(logging.DEBUG if log["log_verbose_level"] else logging.NOTSET)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_formatter(log["log_format"]))
        if self._traces is not None:
            general = self._at_first() | self._kept.get(_OF_TRACES, {})
            own = {part.removeprefix(_OF_TRACES): settings for part, settings in self._kept.items() if part.startswith(_OF_TRACES)}
            self._traces.sample({endpoint: self._sampling(general | settings) for endpoint, settings in own.items()}, self._sampling(general))

    def _sampling(self, settings: Settings) -> Sampling:
        if settings["trace_level"] == _OFF:
            return NEVER
        return sampling() if settings == self._at_first() else sampling().with_share(1 / int(settings["trace_rate"]))


class _Wanted(logging.Filter):
    """Lets through the kinds of lines that are wanted. What changes that is always told."""

    settings = LOG

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == __name__:
            return True
        kinds = ((logging.ERROR, "log_error"), (logging.WARNING, "log_warning"), (logging.INFO, "log_info"))
        return bool(self.settings[next((name for level, name in kinds if record.levelno >= level), "log_verbose_level")])


def _formatter(name: str) -> logging.Formatter:
    if name == "default":
        return logging.Formatter(FORMAT)
    formatter = logging.Formatter(FORMAT, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter


def _checked(given: Settings, names: Mapping[str, Any] | set[str]) -> Settings:
    for name, value in given.items():
        if name not in names:
            raise BadRequest(f"There is no setting '{name[:_LONGEST_SHOWN]}'. There are {', '.join(sorted(names))}.")
        holds, text = _TAKEN[name]
        if value is not None and not holds(value):
            raise BadRequest(f"{name} takes {text}. It got {str(value)[:_LONGEST_SHOWN]!r}.")
    return given


def _flat(value: Any) -> Any:
    """Give a setting that came as a list of one, or as a number, as the text that it is."""
    only = value[0] if isinstance(value, list) and len(value) == 1 else value
    return str(only) if type(only) is int else only
