"""Named rows: the form of the predict call. A typed decoder is made from each build's features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from registry.signature import Feature, Kind
from serving.dataplane import decode
from serving.dataplane.decode import Parameters
from serving.dataplane.errors import BadRequest, Oversized
from serving.dataplane.spec import Arrays, Spec
from serving.dataplane.tensors import NUMPY_OF, Array

_TYPES: dict[Kind, Any] = {Kind.NUMBER: float, Kind.INTEGER: int | float, Kind.BOOLEAN: bool, Kind.TEXT: str}
_PLACE = re.compile(r"^(?P<what>.*) - at `\$(?:\.rows)?\[(?P<row>\d+)\](?:\.(?P<feature>.+))?`$", re.DOTALL)


class RowCodec:
    """Decodes ``{"rows": [{feature: value}], "id"?, "sticky_key"?}`` for one build and makes its arrays."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.features = spec.signature.features
        self.optional = any(feature.missing for feature in self.features)
        self.row_type = _row_type(self.features)
        self.envelope = msgspec.defstruct(
            "Rows",
            [
                ("rows", list[self.row_type]),  # type: ignore[name-defined]  # a type made at run time
                ("id", str | None, None),
                ("sticky_key", str | None, None),
                ("parameters", Parameters | None, None),
            ],
            forbid_unknown_fields=True,
        )
        self._decode = msgspec.json.Decoder(self.envelope).decode

    def request_of(self, body: bytes, max_rows: int) -> Any:
        """Decode the body; raises BadRequest that names the row and the feature."""
        self._refuse_nameless()
        try:
            request: Any = self._decode(body)
        except msgspec.ValidationError as error:
            raise BadRequest(self._text(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            request = decode.strictly(self._decode, body)
        self._check_count(len(request.rows), max_rows)
        if body.count(b":") != self._keys(request):
            decode.refuse_duplicates(body)
        return request

    def rows_of(self, records: Sequence[Any], max_rows: int, *, strict: bool = True) -> list[Any]:
        """Check plain dicts as rows; not strict (CSV), texts are read as the feature's kind."""
        self._refuse_nameless()
        self._check_count(len(records), max_rows)
        try:
            rows: list[Any] = msgspec.convert(records, list[self.row_type], strict=strict)  # type: ignore[name-defined]  # as above
        except msgspec.ValidationError as error:
            raise BadRequest(self._text(error)) from None
        return rows

    def arrays_of(self, rows: Sequence[Any]) -> Arrays:
        """Put rows into the build's tensors; a missing number is NaN, a missing text None."""
        values = [msgspec.structs.astuple(row) for row in rows]
        if self.optional:
            values = [tuple(None if value is msgspec.UNSET else value for value in row) for row in values]
        self._refuse_fractions(values)
        if self.spec.is_matrix:
            tensor = next(iter(self.spec.inputs.values()))
            try:
                return {tensor.name: np.array(values, dtype=NUMPY_OF[tensor.datatype])}
            except (TypeError, ValueError, OverflowError):
                for feature, column in zip(self.features, zip(*values, strict=True), strict=True):
                    _array_of(feature, column, tensor.datatype)  # one of them says which value it is
                raise
        return self._columns(values)

    def _columns(self, values: list[tuple[Any, ...]]) -> Arrays:
        arrays: Arrays = {}
        for feature, column in zip(self.features, zip(*values, strict=True), strict=True):
            tensor = self.spec.inputs[feature.name]
            array = _array_of(feature, column, tensor.datatype)
            arrays[feature.name] = array.reshape(len(values), *(1 for _ in tensor.shape[1:]))
        return arrays

    def _refuse_fractions(self, values: list[tuple[Any, ...]]) -> None:
        for index, feature in enumerate(self.features):
            if feature.kind != Kind.INTEGER:
                continue
            for row, record in enumerate(values):
                value = record[index]
                if isinstance(value, float) and not value.is_integer():
                    raise BadRequest(f"Row {row}, feature '{feature.name}': a whole number is expected, got {value}.")

    def _refuse_nameless(self) -> None:
        if not self.features:
            raise BadRequest("The model behind this endpoint has no named features. Call infer with its tensors instead.")

    def _check_count(self, count: int, max_rows: int) -> None:
        if count == 0:
            raise BadRequest("There are no rows. Send at least one.")
        if count > max_rows:
            raise Oversized(f"There are {count} rows, at most {max_rows} are answered at once. Send several requests.")

    def _keys(self, request: Any) -> int:
        count = 1 + (request.id is not None) + (request.sticky_key is not None)
        if request.parameters is not None:
            count += 1 + len(request.parameters)
        if not self.optional:
            return count + len(request.rows) * len(self.features)
        return count + sum(value is not msgspec.UNSET for row in request.rows for value in msgspec.structs.astuple(row))

    def _text(self, error: msgspec.ValidationError) -> str:
        match = _PLACE.match(str(error))
        if match is None:
            return f'The body is not a valid request: {error}. Send {{"rows": [{{feature: value}}]}}.'
        what = match["what"].replace("`", "'")
        if match["feature"]:
            return f"Row {match['row']}, feature '{match['feature']}': {what}."
        names = ", ".join(feature.name for feature in self.features[:40])
        return f"Row {match['row']}: {what}. The features are {names}."


def _array_of(feature: Feature, column: Sequence[Any], datatype: str) -> Array:
    """Put one feature's values into an array; raises BadRequest that names the row of the first that does not fit."""
    kind = NUMPY_OF[datatype]
    try:
        return np.array(column, dtype=kind)
    except (TypeError, ValueError, OverflowError):
        row = next(index for index, value in enumerate(column) if not _fits(value, kind))
    what = "the value is missing, which" if column[row] is None else "the number is too large, which"
    raise BadRequest(f"Row {row}, feature '{feature.name}': {what} {datatype} cannot hold.")


def _fits(value: Any, kind: Any) -> bool:
    try:
        np.array(value, dtype=kind)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _row_type(features: Sequence[Feature]) -> Any:
    fields: list[Any] = []
    for index, feature in enumerate(features):
        kind = _TYPES[feature.kind]
        fields.append((f"f{index}", kind | None | msgspec.UnsetType, msgspec.UNSET) if feature.missing else (f"f{index}", kind))
    rename = {f"f{index}": feature.name for index, feature in enumerate(features)}
    return msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True, kw_only=True)
