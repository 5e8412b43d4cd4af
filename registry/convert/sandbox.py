"""The parent's side of the sandbox: starts a confined process, bounds it, and distrusts what it says."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from registry.convert import confine, structure, wire
from registry.convert.limits import SandboxLimits

log = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_CHILD = Path(__file__).with_name("child.py")
_ENVIRONMENT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JOBLIB_MULTIPROCESSING": "0",
    "LC_ALL": "C.UTF-8",
}
_CHUNK = 2**20
_ERRORS_KEPT = 8 * 2**10
_SHRUNK = "Register a smaller model, or raise the sandbox's limits in the settings."
_HOSTILE = "Register a file that you saved yourself; if it is one, export the model to ONNX."
CANNOT_CONFINE = 70
"""The exit code of a child that could not lock itself down."""
CANNOT_START = 71
"""The exit code of one that lacks a library, as while packages are replaced: nothing of the file was read."""


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
    """Run ``job`` of ``child.py`` on ``files`` in a confined process; always an answer, never an exception of the child's."""
    descriptors = {name: _opened(source) for name, source in files.items()}
    report, errors = os.pipe(), os.pipe()
    order = {
        "job": job,
        "files": descriptors,
        "report": report[1],
        "memory_bytes": limits.memory_bytes,
        "cpu_s": limits.cpu_s,
        "arguments": dict(arguments or {}),
    }
    command = [sys.executable, "-I", str(_CHILD), str(_ROOT), msgspec.json.encode(order).decode()]
    try:
        process = subprocess.Popen(
            command,
            env=_ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors[1],
            pass_fds=(*descriptors.values(), report[1]),
            start_new_session=True,
        )
    finally:
        for descriptor in (*descriptors.values(), report[1], errors[1]):
            os.close(descriptor)
    try:
        data, complaint, stopped = _gathered(report[0], errors[0], limits)
    finally:
        _end(process)
        os.close(report[0])
        os.close(errors[0])
    return _outcome(process.returncode, data, complaint, stopped)


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
            if not ready:
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


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole process group, which the process cannot have left, unless it ends by itself."""
    try:
        process.wait(timeout=0.2)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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
    if code == CANNOT_CONFINE:
        last = complaint.strip().splitlines()[-1:] or [""]
        return wire.Halted("refused", f"The sandbox could not be locked down on this machine ({last[0][:200]}).", "Ask the operator to run signalbox doctor.")
    if code == CANNOT_START:
        last = complaint.strip().splitlines()[-1:] or [""]
        advice = "Ask the operator to run make setup; then check the version again: signalbox check-again."
        return wire.Halted("refused", f"The sandbox could not start on this machine ({last[0][:200]}), which says nothing of the file.", advice)
    reasons = {
        -signal.SIGSYS: ("The file tried a system call that the sandbox forbids, such as the network or starting a program.", _HOSTILE),
        -signal.SIGXCPU: ("The file used up the sandbox's processor time.", _SHRUNK),
        -signal.SIGKILL: ("The file used up the sandbox's processor time or memory.", _SHRUNK),
        -signal.SIGSEGV: ("The file crashed the process that read it.", _HOSTILE),
        -signal.SIGABRT: ("The file crashed the process that read it, or needs more memory than it may use.", _HOSTILE),
    }
    reason, advice = reasons.get(code, (f"The process that read the file ended with code {code} and no report.", _HOSTILE))
    return wire.Halted("refused", reason, advice)
