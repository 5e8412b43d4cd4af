"""The forms of a call: infer (tensors), predict (named rows), invocations (MLflow's). Each fills in the call's slot and arrays."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from serving.dataplane import decode, shared_memory
from serving.dataplane.call import Call
from serving.dataplane.errors import BadRequest
from serving.dataplane.live import EndpointState, Slot
from serving.dataplane.spec import Arrays

_LONGEST_US = 10**12  # any whole number may come, also one that no float can hold
_any_json = msgspec.json.Decoder().decode


def take_infer(call: Call, endpoint: EndpointState) -> Slot:
    """Read the protocol's infer request, JSON or binary or mixed."""
    length = call.head.header_length
    body, tail = (call.body, None) if length is None else decode.split(call.body, length)
    name, max_rows = endpoint.name, endpoint.limits.max_rows
    if tail is not None and not body:
        slot = choose(call, endpoint, None)
        arrays = slot.spec.raw_arrays(tail, name, max_rows)
        call.wanted = slot.answers.wish_of(decode.InferRequest(inputs=[], parameters={"binary_data_output": True}))
    else:
        request = decode.infer_request(body)
        call.request_id = request.id
        if request.parameters:
            read_parameters(call, request.parameters)
        if endpoint.sticky_on and call.sticky is None:
            slot, arrays = choose_by_feature(call, endpoint, partial(_arrays_of, request, tail, call, max_rows))
        else:
            slot = choose(call, endpoint, None)
            arrays = slot.spec.arrays_of(request, tail, call, max_rows)
        call.wanted = slot.answers.wish_of(request)
    fill(call, slot, arrays, slot.answers.infer if call.wanted is None else shared_memory.aimed(call, slot.answers.infer))
    call.is_plain = call.wanted is None and call.rows == 1
    return slot


def take_predict(call: Call, endpoint: EndpointState) -> Slot:
    """Read named rows, as JSON or as CSV."""
    first = endpoint.candidates(call.head.route.version)[0]
    if _is_csv(call):
        return _take_rows(call, endpoint, first, _csv_rows(call, endpoint, first), lambda slot: slot.answers.rows)
    request = first.codec.request_of(call.body, endpoint.limits.max_rows)
    call.request_id = request.id
    if request.parameters:
        read_parameters(call, request.parameters)
    if request.sticky_key is not None:
        call.sticky = request.sticky_key
    return _take_rows(call, endpoint, first, request.rows, lambda slot: slot.answers.rows)


def take_invocations(call: Call, endpoint: EndpointState) -> Slot:
    """Read any of MLflow's forms: dataframe_split, dataframe_records, instances, inputs, or CSV."""
    first = endpoint.candidates(call.head.route.version)[0]
    if _is_csv(call):
        rows = _csv_rows(call, endpoint, first)
    else:
        rows = first.codec.rows_of(_json_records(call.body, [feature.name for feature in first.codec.features]), endpoint.limits.max_rows)
    return _take_rows(call, endpoint, first, rows, lambda slot: slot.answers.invocations)


FORMS: dict[str, Callable[[Call, EndpointState], Slot]] = {"infer": take_infer, "predict": take_predict, "invocations": take_invocations}


def _is_csv(call: Call) -> bool:
    return b"csv" in call.head.content_type.lower()


def _csv_rows(call: Call, endpoint: EndpointState, first: Slot) -> list[Any]:
    return first.codec.rows_of(_csv_records(call.body), endpoint.limits.max_rows, strict=False)


def _take_rows(call: Call, endpoint: EndpointState, first: Slot, rows: list[Any], render_of: Callable[[Slot], Any]) -> Slot:
    arrays = first.codec.arrays_of(rows)
    value = _feature_value(first, arrays, endpoint.sticky_on) if endpoint.sticky_on and call.sticky is None else None
    slot = choose(call, endpoint, value)
    if slot.spec.inputs != first.spec.inputs:
        names = [feature.name for feature in first.codec.features]
        records = [{name: value for name, value in zip(names, msgspec.structs.astuple(row), strict=True) if value is not msgspec.UNSET} for row in rows]
        arrays = slot.codec.arrays_of(slot.codec.rows_of(records, endpoint.limits.max_rows))
    return fill(call, slot, arrays, render_of(slot))


def fill(call: Call, slot: Slot, arrays: Arrays, render: Any) -> Slot:
    """Put what was read into the call."""
    call.slot, call.arrays, call.render = slot, arrays, render
    call.rows = slot.spec.rows_of(arrays)
    return slot


def _arrays_of(request: decode.InferRequest, tail: memoryview | None, call: Call, max_rows: int, slot: Slot) -> Arrays:
    return slot.spec.arrays_of(request, tail, call, max_rows)


def choose_by_feature(call: Call, endpoint: EndpointState, arrays_for: Callable[[Slot], Arrays]) -> tuple[Slot, Arrays]:
    """Choose the slot where the endpoint sticks to a feature, whose value has to be read first."""
    first = endpoint.candidates(call.head.route.version)[0]
    arrays = arrays_for(first)
    slot = choose(call, endpoint, _feature_value(first, arrays, endpoint.sticky_on))
    return slot, arrays if slot.spec.inputs == first.spec.inputs else arrays_for(slot)


def choose(call: Call, endpoint: EndpointState, feature: bytes | None) -> Slot:
    """Choose the slot by the sticky key: the request's own, else the feature, the request's id, the prediction's id."""
    version = call.head.route.version
    if endpoint.sole is not None and not version:
        return endpoint.sole
    sticky = call.sticky if call.sticky is not None else feature
    if sticky is None:
        sticky = call.request_id or call.id
    return endpoint.slot_for(version, sticky.encode() if isinstance(sticky, str) else sticky)


def read_parameters(call: Call, parameters: decode.Parameters) -> None:
    """Take the sticky key and the timeout from the protocol's parameters."""
    sticky = parameters.get("sticky_key")
    if sticky is not None:
        call.sticky = str(sticky)
    timeout_us = parameters.get("timeout")
    if isinstance(timeout_us, int) and not isinstance(timeout_us, bool) and timeout_us > 0:
        call.deadline = min(call.deadline, call.received + min(timeout_us, _LONGEST_US) / 1e6)


def _feature_value(slot: Slot, arrays: Arrays, feature: str) -> bytes | None:
    """Give the first row's value of ``feature``, as text; None when the build has no such feature."""
    if feature in arrays:
        return _first_text(arrays[feature])
    names = [each.name for each in slot.codec.features]
    if slot.spec.is_matrix and feature in names:
        (matrix,) = arrays.values()
        if matrix.ndim == 2 and matrix.shape[1] == len(names):
            return _first_text(matrix[:1, names.index(feature)])
    return None


def _first_text(array: Any) -> bytes:
    return str(array.reshape(-1)[0]).encode()


def _json_records(body: bytes, names: list[str]) -> list[dict[str, Any]]:
    """Turn MLflow's JSON forms into one dict per row; ``names`` are the features, for rows without names."""
    document = decode.strictly(_any_json, body)
    decode.refuse_duplicates(body)
    if not isinstance(document, dict):
        raise BadRequest("The body must be a JSON object with dataframe_split, dataframe_records, instances or inputs.")
    if isinstance(document.get("dataframe_split"), dict):
        split = document["dataframe_split"]
        return _named(split.get("data"), split.get("columns", names))
    for form in ("dataframe_records", "instances", "inputs"):
        if form in document:
            return _records(document[form], names, form)
    raise BadRequest("The body has none of dataframe_split, dataframe_records, instances and inputs. Send one of them.")


def _records(value: Any, names: list[str], form: str) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        columns = list(value.values())
        if not columns or not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            raise BadRequest(f"{form}: each column must be an array, all of the same length.")
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        return value
    return _named(value, names)


def _named(rows: Any, names: Any) -> list[dict[str, Any]]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise BadRequest("columns must be an array of different names.")
    if not isinstance(rows, list):
        raise BadRequest("The data must be an array of rows.")
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise BadRequest(f"Row {index} must be an array of {len(names)} values, one for each of {', '.join(names[:40])}.")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _csv_records(body: bytes) -> list[dict[str, Any]]:
    """Read CSV with a header line; an empty field is missing."""
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"The body is not CSV in UTF-8: {error}.") from None
    if not lines:
        raise BadRequest("The CSV is empty. Send a header line with the features' names, then one line per row.")
    records = _named([line for line in lines[1:] if line], lines[0])
    return [{name: None if value == "" else value for name, value in record.items()} for record in records]
