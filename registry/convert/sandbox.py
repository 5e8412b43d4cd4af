"""The parent's side of the sandbox: has a confined process forked, bounds it, and distrusts what it says."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from registry.convert import confine, structure, template, wire
from registry.convert.limits import SandboxLimits

log = logging.getLogger(__name__)

_CHUNK = 2**20
_ERRORS_KEPT = 8 * 2**10
_GRACE_S = 2.0
_SHRUNK = "Register a smaller model, or raise the sandbox's limits in the settings."
_HOSTILE = "Register a file that you saved yourself; if it is one, export the model to ONNX."
_AGAIN = "check the version again: signalbox check-again."


@dataclass(frozen=True)
class Outcome:
    """What a job gave: the typed answer and its arrays."""

    answer: wire.Answer
    blobs: dict[str, Any]


@lru_cache(maxsize=1)
def can_confine() -> bool:
    """Whether this kernel can hold a stranger's pickle; asked once per process."""
    return bool(confine.probe()["confined"])


def run(job: str, *, files: Mapping[str, Path | bytes], limits: SandboxLimits, arguments: Mapping[str, Any] | None = None) -> Outcome:
    """Run ``job`` of ``jobs`` on ``files`` in a confined process; always an answer, never an exception of the child's."""
    order = {"job": job, "files": list(files), "memory_bytes": limits.memory_bytes, "cpu_s": limits.cpu_s, "arguments": dict(arguments or {})}
    report, errors = os.pipe(), os.pipe()
    try:
        with _forked(order, files, ends=(errors[1], report[1])) as fork:
            data, complaint, stopped = _gathered(report[0], errors[0], limits)
            code = fork.end(0 if stopped else _GRACE_S)
    except template.CannotStart as error:
        log.warning("the sandbox could not start: %s", error)
        return Outcome(_cannot_start(str(error)), {})
    except template.Lost:
        return Outcome(wire.Halted("refused", "The sandbox was ended while it read the file, which says nothing of the file.", f"Please {_AGAIN}"), {})
    finally:
        os.close(report[0])
        os.close(errors[0])
    return _outcome(code, data, complaint, stopped)


def _forked(order: Mapping[str, Any], files: Mapping[str, Path | bytes], *, ends: tuple[int, int]) -> template.Fork:
    """Have a child forked that owns the ends of the pipes, the order and the files: from here on this process does not."""
    given = list(ends)
    try:
        given.extend(_opened(source) for source in (msgspec.json.encode(order), *files.values()))
        return template.keeper.fork(given)
    finally:
        for descriptor in given:
            os.close(descriptor)


def _opened(source: Path | bytes) -> int:
    if isinstance(source, Path):
        return os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    writable = os.memfd_create("signalbox", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(writable), "wb") as file:
            file.write(source)
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)


def _gathered(report: int, errors: int, limits: SandboxLimits) -> tuple[bytes, str, str]:
    """Read both pipes until they close; stop at the deadline or at too many bytes, and say which."""
    deadline = time.monotonic() + limits.timeout_s
    kept = {report: bytearray(), errors: bytearray()}
    with selectors.DefaultSelector() as selector:
        for descriptor in kept:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(deadline - time.monotonic(), 0))
            if not ready or time.monotonic() >= deadline:
                return b"", "", "time"
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fd)
                kept[key.fd] += chunk
            if len(kept[report]) > limits.report_bytes:
                return b"", "", "size"
            del kept[errors][:-_ERRORS_KEPT]
    return bytes(kept[report]), kept[errors].decode("utf-8", "replace"), ""


def _outcome(code: int, data: bytes, complaint: str, stopped: str) -> Outcome:
    if stopped or code != 0:
        log.info("a sandbox process ended with %s %s: %r", code, stopped, complaint[-2000:])
        return Outcome(_halted(code, complaint, stopped), {})
    try:
        answer, blobs = wire.decode(data)
    except wire.Garbled as error:
        return Outcome(wire.Halted("refused", f"The sandbox gave a broken report: {error}.", _HOSTILE), {})
    return Outcome(structure.bounded(answer) if isinstance(answer, wire.Halted) else answer, blobs)


def _halted(code: int, complaint: str, stopped: str) -> wire.Halted:
    """Turn the way a child ended into words."""
    if stopped == "time":
        return wire.Halted("refused", "The file kept the sandbox busy beyond its time limit.", _SHRUNK)
    if stopped == "size":
        return wire.Halted("refused", "The sandbox's report is larger than is taken.", _SHRUNK)
    if code == confine.CANNOT_CONFINE:
        last = complaint.strip().splitlines()[-1:] or [""]
        return wire.Halted("refused", f"The sandbox could not be locked down on this machine ({last[0][:200]}).", "Ask the operator to run signalbox doctor.")
    reasons = {
        -signal.SIGSYS: ("The file tried a system call that the sandbox forbids, such as the network or starting a program.", _HOSTILE),
        -signal.SIGXCPU: ("The file used up the sandbox's processor time.", _SHRUNK),
        -signal.SIGKILL: ("The file used up the sandbox's processor time or memory.", _SHRUNK),
        -signal.SIGSEGV: ("The file crashed the process that read it.", _HOSTILE),
        -signal.SIGABRT: ("The file crashed the process that read it, or needs more memory than it may use.", _HOSTILE),
    }
    reason, advice = reasons.get(code, (f"The process that read the file ended with code {code} and no report.", _HOSTILE))
    return wire.Halted("refused", reason, advice)


def _cannot_start(complaint: str) -> wire.Halted:
    return wire.Halted(
        "refused",
        f"The sandbox could not start on this machine ({complaint[:200]}), which says nothing of the file.",
        f"Ask the operator to run make setup; then {_AGAIN}",
    )
