"""What a sandbox process does: ``look`` at a file, ``convert`` a pickle, ``inspect`` an ONNX file, ``answer`` with a build."""

from __future__ import annotations

import io
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import msgspec

from registry import intake
from registry.convert import agreement, onnx_check, onnx_run, onnx_upload, original, sample, signature_of, skew, sklearn_model, to_onnx, wire, zip_map
from registry.convert.verdict import NotServable, Refused, Stopped
from registry.signature import Layout, Signature

COMPARED_ROWS = 1000
REFERENCE_ROWS = 20_000
_OUT_OF_MEMORY = wire.Halted(
    "refused",
    "The file needs more memory than a sandbox process may use.",
    "Register a smaller model or fewer sample rows, or raise the sandbox's memory in the settings.",
)
_TOO_DEEP = wire.Halted("refused", "The file nests deeper than can be read.", "Save the model again, or export it to ONNX.")
_LIBRARIES = {"python": platform.python_version()} | {name: version(name) for name in ("scikit-learn", "numpy", "onnx", "onnxruntime", "skl2onnx")}
"""Read here, by the template: a child may not be let into the folder where the packages lie."""

Files = Mapping[str, bytes]
Blobs = dict[str, Any]


def do(job: str, files: Files, arguments: Mapping[str, Any]) -> bytes:
    """Do the job and give its report; a reason to stop is a report too."""
    warnings.simplefilter("ignore")
    try:
        return wire.encode(*_JOBS[job](files, arguments))
    except Stopped as stopped:
        halted = wire.Halted("refused" if stopped.verdict == "refused" else "not_servable", stopped.reason, stopped.advice, stopped.step)
    except MemoryError:
        halted = _OUT_OF_MEMORY
    except RecursionError:
        halted = _TOO_DEEP
    return wire.encode(halted, {})  # only here, where the exception is gone, is its memory free again


def _look(files: Files, arguments: Mapping[str, Any]) -> tuple[wire.Looked, Blobs]:
    """Tell the format, and refuse what names what no model needs."""
    file = io.BytesIO(files["original"])
    seen = intake.recognise(file)
    if not seen.kind:
        raise Refused(seen.reason, seen.advice)
    reason = intake.refusal(file, seen.kind)
    if reason:
        raise Refused(*reason)
    return wire.Looked(seen.kind, seen.text), {}


def _convert(files: Files, arguments: Mapping[str, Any]) -> tuple[wire.Converted, Blobs]:
    begun = time.perf_counter()
    loaded = _at("format", sklearn_model.load, files["original"], arguments["kind"])
    model, libraries = loaded.model, _LIBRARIES
    _at("format", skew.refuse_newer, loaded.saved_with, libraries["scikit-learn"])
    task = _at("signature", original.task_of, model)
    found = _sample_in(files, arguments)
    expected = found.pop(skew.EXPECTED, None) if found and skew.EXPECTED not in getattr(model, "feature_names_in_", ()) else None
    inputs = _at("signature", signature_of.inputs_of, model, found)
    compared = min(COMPARED_ROWS, len(next(iter(inputs.columns.values())).values))
    rows = original.rows_for(model, inputs.columns, compared)
    answers = _at("signature", original.answers, model, rows, task)
    compared_with = _at("signature", skew.check_expected, expected, answers, loaded.saved_with) if expected else None
    note = skew.note_of(loaded.saved_with, libraries["scikit-learn"], compared_with)
    understood = time.perf_counter()
    built, signature, precision = _at("converted", best_form, model, inputs, task, answers)
    converted = time.perf_counter()
    one = rows[:1]
    report = wire.Converted(
        signature=signature,
        estimator=_named(model),
        libraries=libraries,
        saved_with=loaded.saved_with,
        expected=compared_with,
        opset=_opset(built),
        ir_version=built.ir_version,
        precision=precision,
        notes=(*inputs.notes, note) if note else inputs.notes,
        rows=compared,
        generated=inputs.is_generated,
        original_ms=onnx_run.single_row_ms(lambda: original.one_answer(model, one, task)),
        signature_ms=(understood - begun) * 1000,
        convert_ms=(converted - understood) * 1000,
    )
    return report, {"onnx": built.SerializeToString(), **{f"answer.{name}": values for name, values in answers.items()}}


def best_form(model: Any, inputs: signature_of.Inputs, task: str, answers: Mapping[str, Any]) -> tuple[Any, Signature, str]:
    """Try layouts and precisions until one gives the original's answers; else the one that agrees most, for the parent to judge."""
    best: tuple[int, Any, Signature, str] | None = None
    failure: Stopped | None = None
    for layout in signature_of.layouts(inputs, has_names=hasattr(model, "feature_names_in_")):
        for precision in ("float32", "float64"):
            try:
                built, signature, found = _form(model, inputs, task, layout, precision)
            except Stopped as stopped:
                failure = failure or stopped
                continue
            agreeing = agreement.compare(answers, found).agreeing
            if best is None or agreeing > best[0]:
                best = (agreeing, built, signature, precision)
            if agreeing == len(next(iter(answers.values()))):
                return built, signature, precision
    if best is None:
        raise failure or NotServable("The model has no ONNX form.")
    return best[1:]


def _form(model: Any, inputs: signature_of.Inputs, task: str, layout: Layout, precision: str) -> tuple[Any, Signature, dict[str, Any]]:
    """Convert once, check the structure, and answer the rows that are compared."""
    built = to_onnx.convert(model, features=inputs.features, layout=layout, precision=precision, task=task)
    data = built.SerializeToString()
    try:
        onnx_check.parse(data)
        session = onnx_run.open_session(data)
        tensors = signature_of.tensors_of(session.get_inputs())
        signature = Signature(
            layout=layout,
            features=inputs.features,
            inputs=tensors,
            outputs=signature_of.tensors_of(session.get_outputs()),
            labels=signature_of.label_texts(model.classes_) if task == "classification" else None,
            task=task,
        )
        head = {name: column.head(COMPARED_ROWS) for name, column in inputs.columns.items()}
        return built, signature, onnx_run.run(session, sample.tensors(signature, head))
    except MemoryError:
        raise
    except Refused as refused:
        raise NotServable(f"{type(model).__name__} was converted, but the result is not safe to run: {refused.reason}", refused.advice) from refused
    except Exception as error:  # onnxruntime raises its own kinds
        raise NotServable(
            f"{type(model).__name__} was converted, but the result does not run: {str(error)[:300]}", "Export the model to ONNX yourself."
        ) from error


def _inspect(files: Files, arguments: Mapping[str, Any]) -> tuple[wire.Converted, Blobs]:
    begun = time.perf_counter()
    parsed = _at("format", onnx_check.read, files["original"])
    classes = _at("format", zip_map.take_out, parsed)
    _at("format", onnx_check.check, parsed)
    built, labels, task = _at("signature", onnx_upload.normalized, parsed, classes)
    data = built.SerializeToString()
    found = _sample_in(files, arguments)
    signature, notes, is_generated = _at("signature", onnx_upload.signature_of, data, found, labels, task)
    if task == "classification":
        answered = _at("signature", _first_answers, data, signature, found)
        if classes:
            _at("signature", zip_map.check_width, classes, answered.shape)
        if not onnx_upload.gives_probabilities(labels, answered):
            data = _at("signature", onnx_upload.with_scores, built).SerializeToString()
            signature, notes, is_generated = onnx_upload.signature_of(data, found, labels, task)
    report = wire.Converted(
        signature=signature,
        estimator=built.producer_name or "ONNX",
        libraries=_LIBRARIES,
        opset=_opset(built),
        ir_version=built.ir_version,
        precision="float64" if any(tensor.datatype == "FP64" for tensor in signature.inputs) else "float32",
        notes=notes,
        without_zip_map=classes is not None,
        generated=is_generated,
        signature_ms=(time.perf_counter() - begun) * 1000,
    )
    return report, {"onnx": data}


def _first_answers(data: bytes, signature: Signature, found: sample.Sample | None) -> Any:
    """Run some rows to see what the second output of a classifier really is."""
    rows = {name: column.head(COMPARED_ROWS) for name, column in _columns_for(signature, found).items()}
    with _running():
        outputs = onnx_run.run(onnx_run.open_session(data), sample.tensors(signature, rows))
    return outputs[signature.outputs[1].name]


def _answer(files: Files, arguments: Mapping[str, Any]) -> tuple[wire.Answered, Blobs]:
    """Check the build again, run it on the sample, and time one row. Knows nothing of the original."""
    onnx_check.parse(files["onnx"])
    signature = msgspec.json.decode(arguments["signature"], type=Signature)
    columns = _columns_for(signature, _sample_in(files, arguments))
    columns = {name: column.head(REFERENCE_ROWS) for name, column in columns.items()}
    feed = sample.tensors(signature, columns)
    with _running():
        session = onnx_run.open_session(files["onnx"])
        outputs = onnx_run.run(session, feed)
        one = {name: tensor[:1] for name, tensor in feed.items()}
        took_ms = onnx_run.single_row_ms(lambda: session.run(None, one))
    rows = len(next(iter(columns.values())).values)
    blobs = {f"in.{name}": column.values for name, column in columns.items()} | {f"out.{name}": values for name, values in outputs.items()}
    takes, gives = signature_of.tensors_of(session.get_inputs()), signature_of.tensors_of(session.get_outputs())
    return wire.Answered(rows=rows, single_row_ms=took_ms, inputs=takes, outputs=gives), blobs


@contextmanager
def _running() -> Iterator[None]:
    """Turn what the runtime raises into a reason."""
    try:
        yield
    except Exception as error:  # onnxruntime raises its own kinds
        raise NotServable(f"The build does not run on the sample rows: {str(error)[:300]}", "Send sample rows of the kind that the model takes.") from error


def _columns_for(signature: Signature, found: sample.Sample | None) -> sample.Sample:
    names = [feature.name for feature in signature.features]
    if found is not None and skew.EXPECTED not in names:
        found = {name: column for name, column in found.items() if name != skew.EXPECTED}
    if found is None:
        return dict(zip(names, sample.generated(len(names)).values(), strict=True))
    if not set(names) <= set(found):
        found = dict(zip(names, found.values(), strict=False))
    return {feature.name: sample.column_as(found[feature.name], feature.kind) for feature in signature.features}


def _sample_in(files: Files, arguments: Mapping[str, Any]) -> sample.Sample | None:
    return _at("signature", _parsed, files["sample"], arguments["sample_rows"]) if "sample" in files else None


def _parsed(data: bytes, max_rows: int) -> sample.Sample:
    return sample.parse(data, max_rows=max_rows)


def _at(step: str, call: Any, *arguments: Any) -> Any:
    """Call, and note on a reason to stop at which step of the checklist it came up."""
    try:
        return call(*arguments)
    except Stopped as stopped:
        stopped.step = stopped.step or step
        raise


def _named(model: Any) -> str:
    steps = getattr(model, "steps", None)
    return " > ".join(type(step).__name__ for _, step in steps) if steps else type(model).__name__


def _opset(built: Any) -> int:
    return max((opset.version for opset in built.opset_import if opset.domain in {"", "ai.onnx"}), default=0)


_JOBS: dict[str, Callable[[Files, Mapping[str, Any]], tuple[wire.Answer, Blobs]]] = {
    "look": _look,
    "convert": _convert,
    "inspect": _inspect,
    "answer": _answer,
}
