"""Answers as bytes: the protocol's JSON and binary forms, named rows, and MLflow's predictions. Assembled by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from serving.dataplane import ids, tensors
from serving.dataplane.binary import to_bytes
from serving.dataplane.call import JSON, Call, Headers
from serving.dataplane.decode import InferRequest, OutputWish, Parameters
from serving.dataplane.errors import BadRequest
from serving.dataplane.shared_memory import Target, is_named
from serving.dataplane.tensors import Array
from serving.table import BuildEntry

_OCTETS = b"content-type: application/octet-stream\r\n"
Wish = list[tuple[int, bool | Target]]
"""Indices of the outputs wanted, and whether as binary, or where in shared memory."""


class Answers:
    """Renders what one slot answers. Everything that does not change from call to call is made beforehand."""

    def __init__(self, endpoint: str, slot: str, entry: BuildEntry, outputs: list[str]) -> None:
        self._endpoint, self._slot, self._entry, self._outputs = endpoint, slot, entry, outputs
        self._labels = entry.signature.labels
        fixed = b"signalbox-slot: %b\r\nsignalbox-version: %d\r\n" % (slot.encode(), entry.version)
        self._headers = b"signalbox-prediction-id: %b\r\n" + fixed
        self._json_headers = JSON + self._headers
        start = orjson.dumps({"model_name": endpoint, "model_version": str(entry.version)})
        self._start = start[:-1] + b',"parameters":{"prediction_id":"'
        self._after_id = b'","slot":' + orjson.dumps(slot) + b"},"
        self._heads = [b'{"name":' + orjson.dumps(name) + b',"datatype":"' for name in outputs]
        self._template: tuple[list[tuple[int, ...]] | None, bytes] = (None, b"")
        self._all: Wish = [(index, False) for index in range(len(outputs))]

    def wish_of(self, request: InferRequest) -> Wish | None:
        """Read which outputs are wanted, and how; None for all as JSON. Raises BadRequest for one that does not exist."""
        binary_by_default = _is_true(request.parameters, "binary_data_output")
        if not request.outputs:
            return [(index, True) for index in range(len(self._outputs))] if binary_by_default else None
        wish = []
        for output in request.outputs:
            if output.name not in self._outputs:
                raise BadRequest(f"unexpected inference output '{output.name}' for model '{self._endpoint}'. Its outputs are {self._outputs}.")
            if _given(output.parameters, "classification"):
                raise BadRequest("The classification extension is not supported. Ask for the outputs label and probabilities.")
            wish.append((self._outputs.index(output.name), _form_of(output, binary_by_default)))
        if len({index for index, _ in wish}) != len(wish):
            raise BadRequest(f"An output of model '{self._endpoint}' is asked for twice. Ask for it once.")
        return wish

    def infer(self, call: Call, outputs: list[Array], start: int, stop: int | None) -> tuple[Headers, bytes]:
        """The protocol's answer to rows ``start`` to ``stop`` of a batch."""
        identifier = ids.text_of(call.id)
        parts = [self._start, identifier, self._after_id]
        if call.request_id is not None:
            parts += (b'"id":', orjson.dumps(call.request_id), b",")
        parts.append(b'"outputs":[')
        tail: list[bytes] = []
        for index, form in call.wanted or self._all:
            self._output(index, outputs[index][start:stop], form, parts, tail)
        parts[-1] = b"}]}"
        head = b"".join(parts)
        headers = self._headers % identifier
        if not tail:
            return JSON + headers, head
        return b"%binference-header-content-length: %d\r\n%b" % (_OCTETS, len(head), headers), b"".join((head, *tail))

    def one_row_each(self, calls: list[Call], outputs: list[Array]) -> list[tuple[Call, Headers, bytes]]:
        """The answers to a batch of calls with one row each that want all outputs as JSON: what ``infer`` gives, but faster."""
        template, fixed = self._template_of(outputs), self._json_headers
        answers: list[tuple[Call, Headers, bytes]] = []
        for call, texts in zip(calls, zip(*map(_row_texts, outputs), strict=True), strict=True):
            identifier = ids.text_of(call.id)
            given = b"" if call.request_id is None else b'"id":%b,' % orjson.dumps(call.request_id)
            answers.append((call, fixed % identifier, template % (identifier, given, *texts)))
        return answers

    def _template_of(self, outputs: list[Array]) -> bytes:
        """Give the answer with ``%b`` for the ids and the data; it changes only if a build changes its outputs' shapes."""
        shapes = [output.shape[1:] for output in outputs]
        if self._template[0] != shapes:
            parts = [self._start.replace(b"%", b"%%"), b"%b", self._after_id.replace(b"%", b"%%"), b'%b"outputs":[']
            for head, output in zip(self._heads, outputs, strict=True):
                shape = ",".join(map(str, (1, *output.shape[1:]))).encode()
                parts += (head.replace(b"%", b"%%"), tensors.DATATYPE_OF[output.dtype].encode(), b'","shape":[', shape, b'],"data":[%b]},')
            self._template = (shapes, b"".join(parts)[:-1] + b"]}")
        return self._template[1]

    def _output(self, index: int, array: Array, form: bool | Target, parts: list[bytes], tail: list[bytes]) -> None:
        datatype = tensors.DATATYPE_OF[array.dtype].encode()
        shape = ",".join(map(str, array.shape)).encode()
        parts += (self._heads[index], datatype, b'","shape":[', shape)
        if isinstance(form, Target):
            parts += (b'],"parameters":', orjson.dumps(form.parameters()), b"},")
        elif form:
            data = to_bytes(array)
            tail.append(data)
            parts += (b'],"parameters":{"binary_data_size":', str(len(data)).encode(), b"}", b"},")
        else:
            parts += (b'],"data":', tensors.to_json(array), b"},")

    def rows(self, call: Call, outputs: list[Array], start: int, stop: int | None) -> tuple[Headers, bytes]:
        """The answer to named rows: one object per row."""
        identifier = ids.text_of(call.id)
        answer: dict[str, Any] = {
            "prediction_id": identifier.decode(),
            "endpoint": self._endpoint,
            "model": self._entry.model,
            "version": self._entry.version,
            "slot": self._slot,
            "predictions": self._records([output[start:stop] for output in outputs]),
        }
        if call.request_id is not None:
            answer["id"] = call.request_id
        return self._json_headers % identifier, orjson.dumps(answer)

    def invocations(self, call: Call, outputs: list[Array], start: int, stop: int | None) -> tuple[Headers, bytes]:
        """MLflow's answer: the labels, or the predicted values."""
        first = _values(outputs[0][start:stop])
        return self._json_headers % ids.text_of(call.id), orjson.dumps({"predictions": first})

    def _records(self, outputs: list[Array]) -> list[dict[str, Any]]:
        columns = dict(zip(self._outputs, map(_values, outputs), strict=True))
        probabilities = columns.get("probabilities")
        if self._labels and probabilities and len(probabilities[0]) == len(self._labels):
            columns["probabilities"] = [dict(zip(self._labels, row, strict=True)) for row in probabilities]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _form_of(output: OutputWish, binary_by_default: bool) -> bool | Target:
    if output.parameters is not None and is_named(output.parameters):
        return Target(output.parameters, output.name)
    return _is_true(output.parameters, "binary_data") if _given(output.parameters, "binary_data") else binary_by_default


def _values(array: Array) -> list[Any]:
    """Give one JSON value per row: a scalar, or a list. FP32 keeps its own shortest digits."""
    rows = len(array)
    flat = orjson.loads(tensors.to_json(array))
    width = len(flat) // rows
    return flat if width == 1 else [flat[at : at + width] for at in range(0, len(flat), width)]


def _row_texts(array: Array) -> list[bytes]:
    """Give each row's values as JSON without brackets, from one call of the encoder for all rows."""
    if array.dtype == np.object_:
        return [tensors.to_json(row)[1:-1] for row in array.reshape(len(array), -1)]
    if array.ndim > 2 or not array.flags.c_contiguous:
        array = np.ascontiguousarray(array.reshape(len(array), -1))
    text: bytes = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1:-1].split(b",") if array.ndim == 1 else text[2:-2].split(b"],[")


def _given(parameters: Parameters | None, name: str) -> bool:
    return parameters is not None and name in parameters


def _is_true(parameters: Parameters | None, name: str) -> bool:
    return parameters is not None and parameters.get(name) is True
