"""Examines a file that was registered: what is it, what does it take, does its ONNX build answer the same, how fast.

Runs in a worker. Opens nothing itself: one sandbox process looks what it is, a second converts, a third
runs the build, and the answers of both forms are compared here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from registry.convert import sandbox, structure, wire
from registry.convert.agreement import Agreement, compare
from registry.convert.limits import SandboxLimits
from registry.signature import Feature, Kind, Signature

__all__ = ["Examined", "SandboxLimits", "Step", "examine"]

_TITLES = {
    "format": "Format known",
    "signature": "Signature read",
    "converted": "Converted in the sandbox",
    "agreement": "Answers agree",
    "speed": "Size and speed",
}
_ONNX_ONLY = "The sandbox cannot be locked down on this machine, so only ONNX files are taken."
_EXPORT = "Export the model to ONNX where it was trained, or run Signalbox on a Linux kernel with Landlock and seccomp (signalbox doctor tells)."

Verdict = Literal["servable", "not_servable", "refused"]


@dataclass(frozen=True)
class Step:
    """One step of the checklist; ``state`` is running, passed, failed or skipped."""

    key: str
    title: str
    state: str
    text: str = ""
    advice: str = ""
    took_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What came out. ``onnx`` and ``reference`` are there when the verdict is servable."""

    format: str
    verdict: Verdict
    reason: str = ""
    advice: str = ""
    signature: Signature | None = None
    onnx: bytes | None = None
    report: dict[str, Any] = field(default_factory=dict)
    reference: pa.Table | None = None


class _Checklist:
    """Tells each step as it starts and ends."""

    def __init__(self, on_step: Callable[[Step], None]) -> None:
        self._on_step = on_step
        self._begun: dict[str, float] = {}

    def start(self, key: str) -> None:
        self._begun[key] = time.perf_counter()
        self._on_step(Step(key, _TITLES[key], "running"))

    def end(self, key: str, state: str, text: str, *, advice: str = "", took_ms: float | None = None) -> None:
        begun = self._begun.get(key, time.perf_counter())
        measured = (time.perf_counter() - begun) * 1000 if took_ms is None else took_ms
        self._on_step(Step(key, _TITLES[key], state, text, advice, round(measured, 1)))

    def fail_from(self, key: str, halted: wire.Halted) -> None:
        """Fail ``key`` and skip what would have come after it."""
        self.end(key, "failed", halted.reason, advice=halted.advice)
        for later in list(_TITLES)[list(_TITLES).index(key) + 1 :]:
            self._on_step(Step(later, _TITLES[later], "skipped"))


class _Stop(Exception):
    def __init__(self, step: str, halted: wire.Halted) -> None:
        super().__init__(halted.reason)
        self.step = step
        self.halted = halted


def examine(
    *,
    original: Path,
    filename: str,
    sample: Path | None,
    sample_filename: str,
    limits: SandboxLimits,
    on_step: Callable[[Step], None],
) -> Examined:
    """Look at the file, convert it, compare and time; tells ``on_step`` as each step starts and ends.

    Never raises for what the file does: that is a verdict with a reason and advice.
    """
    steps = _Checklist(on_step)
    kind = ""
    try:
        kind = _recognised(original, filename, sample, sample_filename, limits, steps)
        converted, blobs = _converted(original, sample, kind, limits, steps)
        answered, found = _answered(blobs["onnx"], converted.signature, sample, kind, limits)
        agreement = _agreed(kind, blobs, found, converted, steps)
        return _servable(kind, converted, blobs["onnx"], answered, found, agreement, steps)
    except _Stop as stop:
        steps.fail_from(stop.step, stop.halted)
        return Examined(format=kind, verdict=stop.halted.verdict, reason=stop.halted.reason, advice=stop.halted.advice)


def _recognised(
    original: Path, filename: str, sample: Path | None, sample_filename: str, limits: SandboxLimits, steps: _Checklist
) -> str:  # the verb's own arguments
    steps.start("format")
    for path, name, largest in ((original, filename, limits.original_bytes), (sample, sample_filename, limits.sample_bytes)):
        if path is not None and path.stat().st_size > largest:
            raise _Stop("format", wire.Halted("refused", f"{name} has {path.stat().st_size:,} bytes; at most {largest:,} are taken.", "Send a smaller file."))
    seen = sandbox.run("look", files={"original": original}, limits=limits, arguments={"confined": sandbox.can_confine()}).answer
    if isinstance(seen, wire.Halted):
        raise _Stop("format", seen)
    if not isinstance(seen, wire.Looked):
        raise _Stop("format", _forged("the format is missing"))
    with _sound("format"):
        structure.check_looked(seen)
    if seen.kind != "onnx" and not sandbox.can_confine():
        raise _Stop("format", wire.Halted("refused", _ONNX_ONLY, _EXPORT))
    steps.end("format", "passed", seen.text)
    return seen.kind


def _converted(original: Path, sample: Path | None, kind: str, limits: SandboxLimits, steps: _Checklist) -> tuple[wire.Converted, dict[str, Any]]:
    steps.start("signature")
    files = {"original": original} | ({"sample": sample} if sample else {})
    arguments = {"kind": kind, "sample_rows": limits.sample_rows, "confined": _confined(kind)}
    outcome = sandbox.run("inspect" if kind == "onnx" else "convert", files=files, limits=limits, arguments=arguments)
    answer = outcome.answer
    if isinstance(answer, wire.Halted):
        raise _Stop(answer.step if answer.step in _TITLES else "signature", answer)
    if not isinstance(answer, wire.Converted) or not isinstance(outcome.blobs.get("onnx"), bytes):
        raise _Stop("signature", _forged("the build is missing"))
    with _sound("signature"):
        structure.check_converted(answer)
    steps.end("signature", "passed", _signature_text(answer), took_ms=answer.signature_ms)
    steps.start("converted")
    onnx = outcome.blobs["onnx"]
    precise = ", double precision" if answer.precision == "float64" else ""
    steps.end("converted", "passed", f"{_how(kind, answer)}{precise}, {size_text(len(onnx))}", took_ms=answer.convert_ms)
    return answer, outcome.blobs


def _how(kind: str, answer: wire.Converted) -> str:
    if kind != "onnx":
        return f"converted to ONNX opset {answer.opset}"
    return "its ZipMap taken out so that the probabilities are one tensor, checked" if answer.without_zip_map else "taken as it is, checked"


def _answered(onnx: bytes, signature: Signature, sample: Path | None, kind: str, limits: SandboxLimits) -> tuple[wire.Answered, dict[str, Any]]:
    """Run the build in a third process that never saw the original."""
    files: dict[str, Path | bytes] = {"onnx": onnx} | ({"sample": sample} if sample else {})
    text = msgspec.json.encode(signature).decode()
    arguments = {"signature": text, "sample_rows": limits.sample_rows, "confined": _confined(kind)}
    outcome = sandbox.run("answer", files=files, limits=limits, arguments=arguments)
    if isinstance(outcome.answer, wire.Halted):
        raise _Stop("agreement", outcome.answer)
    if not isinstance(outcome.answer, wire.Answered):
        raise _Stop("agreement", _forged("the answers are missing"))
    with _sound("agreement"):
        structure.check_answered(outcome.answer, signature)
        structure.check_found(outcome.blobs, signature, outcome.answer.rows)
    return outcome.answer, outcome.blobs


def _agreed(kind: str, blobs: Mapping[str, Any], found: Mapping[str, Any], converted: wire.Converted, steps: _Checklist) -> Agreement | None:
    steps.start("agreement")
    if kind == "onnx":
        steps.end("agreement", "skipped", "the file is the build, there is nothing to compare it with")
        return None
    answers = {name.removeprefix("answer."): values for name, values in blobs.items() if name.startswith("answer.") and not isinstance(values, bytes)}
    outputs = {name.removeprefix("out."): values for name, values in found.items() if name.startswith("out.")}
    if not answers:
        raise _Stop("agreement", _forged("the original's answers are missing"))
    with _sound("agreement"):
        structure.check_answers(answers)
    agreement = compare(answers, outputs)
    text = f"answers agree {agreement.agreeing:,} of {agreement.rows:,}"
    made_up = " (rows made up here, as no sample came with the model)" if converted.generated else ""
    if not agreement.good:
        reason = f"The ONNX form answers differently: {text}, the largest difference is {agreement.max_difference:.3g}{made_up}."
        raise _Stop("agreement", wire.Halted("not_servable", reason, "Export the model to ONNX yourself, or replace the step that differs."))
    steps.end("agreement", "passed", f"{text}, largest difference {agreement.max_difference:.2g}{made_up}")
    return agreement


def _servable(  # noqa: PLR0917  # everything that was found comes together here
    kind: str,
    converted: wire.Converted,
    onnx: bytes,
    answered: wire.Answered,
    found: Mapping[str, Any],
    agreement: Agreement | None,
    steps: _Checklist,
) -> Examined:
    steps.start("speed")
    text = f"{answered.single_row_ms:.2g} ms a row"
    if converted.original_ms and answered.single_row_ms > 0:
        text += f", {converted.original_ms / answered.single_row_ms:.0f}x faster than scikit-learn"
    report = {
        "estimator": converted.estimator,
        "libraries": converted.libraries,
        "saved_with": converted.saved_with,
        "expected_rows": converted.expected,
        "opset": converted.opset,
        "ir_version": converted.ir_version,
        "precision": converted.precision,
        "notes": list(converted.notes),
        "agreement": _agreement_report(agreement, converted),
        "single_row_ms": {"original": converted.original_ms, "onnx": answered.single_row_ms},
        "size_bytes": len(onnx),
    }
    reference = None if converted.generated else _reference(converted.signature, found)
    steps.end("speed", "passed", f"{text}, {size_text(len(onnx))}", took_ms=answered.single_row_ms)
    return Examined(format=kind, verdict="servable", signature=converted.signature, onnx=onnx, report=report, reference=reference)


def _agreement_report(agreement: Agreement | None, converted: wire.Converted) -> dict[str, Any] | None:
    return None if agreement is None else asdict(agreement) | {"generated_rows": converted.generated}


def _reference(signature: Signature, found: Mapping[str, Any]) -> pa.Table:
    """Put the sample's inputs and the build's answers into the columns of the prediction log."""
    columns = {f"in.{feature.name}": _input_column(feature, found[f"in.{feature.name}"]) for feature in signature.features}
    columns |= {f"out.{tensor.name}": _output_column(found[f"out.{tensor.name}"]) for tensor in signature.outputs}
    return pa.table(columns)


def _input_column(feature: Feature, values: Any) -> pa.Array:
    if feature.kind is Kind.TEXT:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    kind = {Kind.INTEGER: pa.int64(), Kind.BOOLEAN: pa.bool_()}.get(feature.kind, pa.float64())
    numbers = np.asarray(values, dtype=np.float64)
    gaps = ~np.isfinite(numbers)
    plain = np.where(gaps, 0, numbers)
    typed = plain.astype(np.int64) if feature.kind is Kind.INTEGER else plain.astype(bool) if feature.kind is Kind.BOOLEAN else plain
    return pa.array(typed, kind, mask=gaps)


def _output_column(values: Any) -> pa.Array:
    """One value a row becomes a scalar column, several a list of float32."""
    if values.ndim > 1 and values.shape[-1] != 1:
        flat = np.ascontiguousarray(values.reshape(len(values), -1), dtype=np.float32)
        return pa.array(list(flat), pa.list_(pa.float32()))
    return pa.array(values.reshape(-1).tolist() if values.dtype == object else values.reshape(-1))


def _signature_text(converted: wire.Converted) -> str:
    signature = converted.signature
    kinds = [feature.kind for feature in signature.features]
    missing = sum(feature.missing for feature in signature.features)
    parts = [f"{len(kinds)} features", f"{kinds.count(Kind.TEXT)} of text" if Kind.TEXT in kinds else "", f"{missing} with missing values" if missing else ""]
    labels = f"{len(signature.labels)} labels" if signature.labels else signature.task
    return "; ".join([", ".join(filter(None, [*parts, labels])), *converted.notes])


def size_text(size: int) -> str:
    """Give a size as people say it."""
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(size / 1e3, 0.1):.0f} kB" if size >= 1e3 else f"{size} bytes"


def _confined(kind: str) -> bool:
    """A pickle is always confined; an ONNX file wherever the kernel can."""
    return kind != "onnx" or sandbox.can_confine()


@contextmanager
def _sound(step: str) -> Iterator[None]:
    """Refuse at ``step`` a report that does not hold together."""
    try:
        yield
    except structure.Unsound as fault:
        raise _Stop(step, _forged(str(fault))) from fault


def _forged(what: str) -> wire.Halted:
    return wire.Halted(
        "refused", f"The sandbox gave a report that does not hold together: {what}.", "Register a file that you saved yourself, with names and labels as said."
    )
