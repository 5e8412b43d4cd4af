"""Named rows: the form of the predict call. A typed decoder is made from each build's features."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import numpy as np

from registry.signature import Feature, Kind
from serving.dataplane import decode, tensors, words
from serving.dataplane.decode import Parameters
from serving.dataplane.errors import BadRequest, Oversized
from serving.dataplane.spec import Arrays, InputSpec, Spec
from serving.dataplane.tensors import NUMPY_OF, Array

_TYPES: dict[Kind, Any] = {Kind.NUMBER: float, Kind.INTEGER: int | float, Kind.BOOLEAN: bool, Kind.TEXT: str}
_PLACE = re.compile(r"^\$(?:\.rows)?\[(?P<row>\d+)\](?:\.(?P<feature>.+))?$", re.DOTALL)


class RowCodec:
    """Decodes ``{"rows": [{feature: value}], "id"?, "sticky_key"?}`` for one build and makes its arrays."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.features = spec.signature.features
        self.optional = any(feature.missing for feature in self.features)
        self._places = _places(self.features)
        self.row_type = _row_type(self.features, spec.filled, renamed=not self._places)
        row: Any = dict[str, Any] if self._places else self.row_type
        self.envelope = msgspec.defstruct(
            "Rows",
            [
                ("rows", list[row]),
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
            raise self._refusal(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            request = decode.strictly(self._decode, body)
        self._check_count(len(request.rows), max_rows)
        if self._places:
            request.rows = self._converted(request.rows, strict=True)
        if body.count(b":") != self._keys(request):
            decode.refuse_duplicates(body)
        return request

    def rows_of(self, records: Sequence[Any], max_rows: int, *, strict: bool = True) -> list[Any]:
        """Check plain dicts as rows; not strict (CSV), texts are read as the feature's kind."""
        self._refuse_nameless()
        self._check_count(len(records), max_rows)
        return self._converted(records, strict=strict)

    def _converted(self, records: Sequence[Any], *, strict: bool) -> list[Any]:
        if self._places:
            records = [self._by_place(index, record) for index, record in enumerate(records)]
        try:
            rows: list[Any] = msgspec.convert(records, list[self.row_type], strict=strict)  # type: ignore[name-defined]  # as above
        except msgspec.ValidationError as error:
            raise self._refusal(error) from None
        return rows

    def _by_place(self, row: int, record: dict[str, Any]) -> dict[str, Any]:
        unknown = [name for name in record if name not in self._places]
        if unknown:
            raise BadRequest(f"Row {row}: there is no feature '{unknown[0]}'. The features are {self._names()}.")
        return {self._places[name]: value for name, value in record.items()}

    def arrays_of(self, rows: Sequence[Any]) -> Arrays:
        """Put rows into the build's tensors; a missing number is NaN, a missing text None."""
        values = [msgspec.structs.astuple(row) for row in rows]
        if self.optional:
            values = [tuple(None if value is msgspec.UNSET else value for value in row) for row in values]
        self._refuse_fractions(values)
        if self.spec.is_matrix:
            tensor = next(iter(self.spec.inputs.values()))
            try:
                if tensor.nullable and any(None in row for row in values):
                    return {tensor.name: tensors.with_gaps([value for row in values for value in row], tensor.datatype).reshape(len(values), -1)}
                return {tensor.name: np.array(values, dtype=NUMPY_OF[tensor.datatype])}
            except (TypeError, ValueError, OverflowError):
                for feature, column in zip(self.features, zip(*values, strict=True), strict=True):
                    _array_of(feature, column, tensor)  # one of them says which value it is
                raise
        return self._columns(values)

    def _columns(self, values: list[tuple[Any, ...]]) -> Arrays:
        arrays: Arrays = {}
        for feature, column in zip(self.features, zip(*values, strict=True), strict=True):
            tensor = self.spec.inputs[feature.name]
            array = _array_of(feature, column, tensor)
            arrays[feature.name] = array.reshape(len(values), *(1 for _ in tensor.shape[1:]))
        return arrays

    def _refuse_fractions(self, values: list[tuple[Any, ...]]) -> None:
        for index, feature in enumerate(self.features):
            if feature.kind != Kind.INTEGER:
                continue
            for row, record in enumerate(values):
                value = record[index]
                if isinstance(value, float) and not value.is_integer():
                    raise BadRequest(f"Row {row}, feature '{feature.name}' takes {feature.kind.words}, not {value}.", feature=feature.name)

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

    def _refusal(self, error: msgspec.ValidationError) -> BadRequest:
        what, place = words.parted(error)
        match = _PLACE.match(place)
        if match is None:
            return BadRequest(f'The body is not a valid request: {words.sentence(error)}. Send {{"rows": [{{feature: value}}]}}.')
        row, missing, unknown = f"Row {match['row']}", words.missing_field(what), words.unknown_field(what)
        feature = self._feature_at(match["feature"] or missing)
        if missing is not None:
            said = f": the feature '{feature.name if feature else missing}' is missing"
        elif unknown is not None:
            said = f": there is no feature '{unknown}'"
        elif feature is not None:
            return self._refused_value(row, feature, what)
        else:
            said = f" {taken}" if (taken := words.takes(what)) else f": {what}"
        return BadRequest(f"{row}{said}. The features are {self._names()}.")

    def _refused_value(self, row: str, feature: Feature, what: str) -> BadRequest:
        nullable = feature.missing or feature.name in self.spec.filled
        taken = words.takes(what, f"{feature.kind.words} or null" if nullable else feature.kind.words)
        hint = f" {words.POLICY_MAY_REPLACE}" if words.got_null(what) and feature.name in self.spec.fillable else ""
        return BadRequest(f"{row}, feature '{feature.name}'{f' {taken}' if taken else f': {what}'}.{hint}", feature=feature.name)

    def _feature_at(self, name: str | None) -> Feature | None:
        """Find a feature by the name that the decoder has for it."""
        return next((feature for feature in self.features if self._places.get(feature.name, feature.name) == name), None)

    def _names(self) -> str:
        return ", ".join(feature.name for feature in self.features[:40])


def _array_of(feature: Feature, column: Sequence[Any], tensor: InputSpec) -> Array:
    """Put one feature's values into an array; raises BadRequest that names the row of the first that does not fit."""
    kind = NUMPY_OF[tensor.datatype]
    try:
        return tensors.with_gaps(column, tensor.datatype) if tensor.nullable and None in column else np.array(column, dtype=kind)
    except (TypeError, ValueError, OverflowError):
        row = next(index for index, value in enumerate(column) if not _fits(0 if tensor.nullable and value is None else value, kind))
    what = "the value is missing, which" if column[row] is None else "the number is too large, which"
    raise BadRequest(f"Row {row}, feature '{feature.name}': {what} {tensor.datatype} cannot hold.", feature=feature.name)


def _fits(value: Any, kind: Any) -> bool:
    try:
        np.array(value, dtype=kind)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _places(features: Sequence[Feature]) -> dict[str, str]:
    """Give the field of each feature by name where the decoder cannot take the names themselves: it escapes none; else nothing."""
    if not any(char in feature.name for feature in features for char in '"\\'):
        return {}
    return {feature.name: f"f{index}" for index, feature in enumerate(features)}


def _row_type(features: Sequence[Feature], filled: Collection[str], *, renamed: bool) -> Any:
    """Make the type of a row. A feature that may be missing may be left out; one that a policy fills in may only be null."""
    fields: list[Any] = []
    for index, feature in enumerate(features):
        kind = _TYPES[feature.kind]
        if feature.missing:
            fields.append((f"f{index}", kind | None | msgspec.UnsetType, msgspec.UNSET))
        else:
            fields.append((f"f{index}", kind | None if feature.name in filled else kind))
    rename = {f"f{index}": feature.name for index, feature in enumerate(features)} if renamed else None
    return msgspec.defstruct("Row", fields, rename=rename, forbid_unknown_fields=True, kw_only=True)
