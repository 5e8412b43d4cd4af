"""What one build expects, compiled from its signature: checks an infer request's tensors and makes arrays of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from registry.signature import Feature, Kind, Layout, Signature, Tensor
from serving.dataplane import binary, shared_memory, tensors
from serving.dataplane.decode import InferRequest, InputTensor
from serving.dataplane.errors import BadRequest, Oversized
from serving.dataplane.tensors import Array

if TYPE_CHECKING:
    from serving.dataplane.call import Call

Arrays = dict[str, Array]


class TensorHead(Protocol):
    """What every transport says of a tensor before its values."""

    @property
    def name(self) -> str: ...
    @property
    def datatype(self) -> str: ...
    @property
    def shape(self) -> Sequence[int]: ...


AnyTensor = TypeVar("AnyTensor", bound=TensorHead)
Content = Callable[[int, AnyTensor, "InputSpec", str], Array]
"""Gives the values of a tensor by its index; the text names it in errors."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One expected tensor; ``shape_text`` is for messages, ``single`` the shape of one row if only the rows' number varies.

    ``nullable``: null is taken though the datatype has no value for it, and a policy fills it in; ``fillable``: whether a policy could, by column.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    shape_text: str
    single: list[int] | None
    nullable: bool = field(default=False, compare=False)
    fillable: tuple[bool, ...] = field(default=(), compare=False)

    def fits(self, shape: Sequence[int]) -> bool:
        """Tell whether ``shape`` is this tensor's, -1 standing for any size."""
        if shape == self.single:
            return True
        return len(shape) == len(self.shape) and all(want in (-1, got) for want, got in zip(self.shape, shape, strict=True))


class Spec:
    """``batched`` says that the first axis of every input is the row, so that requests can be put together.

    ``fillable`` names the features of which a policy can fill in what is missing.
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.is_matrix = signature.layout == Layout.MATRIX and len(signature.inputs) == 1
        self._by_name = {feature.name: feature for feature in signature.features}
        self.inputs = {spec.name: replace(spec, fillable=self._fillable(spec)) for spec in map(_spec, signature.inputs)}
        by_column = [pair for spec in self.inputs.values() for pair in zip(self.features_of(spec), spec.fillable, strict=True)]
        self.fillable = frozenset(feature.name for feature, is_fillable in by_column if feature is not None and is_fillable)
        self.batched = all(tensor.shape[:1] == (-1,) for tensor in signature.inputs)
        self.variable = any(-1 in tensor.shape[1:] for tensor in signature.inputs)
        self.filled: frozenset[str] = frozenset()

    def filling(self, features: frozenset[str]) -> Spec:
        """Give the same, but for an endpoint whose policy fills in what is missing of ``features``: they take null too."""
        other = copy.copy(self)
        other.filled = features
        other.inputs = {name: replace(spec, nullable=self._is_nullable(spec, features)) for name, spec in self.inputs.items()}
        return other

    def _is_nullable(self, spec: InputSpec, features: frozenset[str]) -> bool:
        if spec.datatype in tensors.WITH_MISSING:
            return False
        if self._has_all_features(spec):
            return bool(features)
        return spec.name in features and math.prod(spec.shape[1:]) == 1

    def _has_all_features(self, spec: InputSpec) -> bool:
        return self.is_matrix and spec.shape[1:] == (len(self.signature.features),)

    def features_of(self, spec: InputSpec) -> Sequence[Feature | None]:
        """Give the feature of each column, or the one of all."""
        return self.signature.features if self._has_all_features(spec) else [self._by_name.get(spec.name)]

    def _fillable(self, spec: InputSpec) -> tuple[bool, ...]:
        features = self.features_of(spec)
        is_one_each = len(features) == math.prod(spec.shape[1:])
        return tuple(is_one_each and typical_of(feature, spec.datatype) is not None for feature in features)

    def rows_of(self, arrays: Arrays) -> int:
        """Give the number of rows; a build whose first axis is no row takes one at a time."""
        return len(next(iter(arrays.values()))) if self.batched else 1

    def arrays_of(self, request: InferRequest, tail: memoryview | None, call: Call, max_rows: int) -> Arrays:
        """Turn the request's tensors into arrays; raises BadRequest that names the input, what was expected and what came."""
        model = call.head.route.endpoint
        arrays: Arrays = {}
        lying: list[shared_memory.Lying] = []
        rows = -1
        offset = 0
        for tensor in request.inputs:
            spec = self._match(tensor, arrays, model)
            if self.batched:
                rows = _same_rows(tensor, rows, max_rows, model)
            if tensor.parameters is not None and shared_memory.is_named(tensor.parameters):
                arrays[spec.name] = shared_memory.array_of(call, tensor, lying)
                continue
            size = None if tensor.parameters is None else _binary_size(tensor, _where(spec, model))
            if size is None:
                arrays[spec.name] = _json_array(tensor, spec, model)
            elif tail is None:
                raise BadRequest(f"{_where(spec, model)}: binary_data_size needs the header Inference-Header-Content-Length, the length of the JSON part.")
            else:
                where = _where(spec, model)
                arrays[spec.name] = binary.from_bytes(_piece(tail, offset, size, where), spec.datatype, tensor.shape, where)
                offset += size
        if len(arrays) != len(self.inputs):
            raise BadRequest(self._missing(list(arrays), model))
        if tail is not None and offset != len(tail):
            raise BadRequest(f"The body carries {len(tail)} bytes after its JSON, the inputs' binary_data_size add up to {offset}.")
        shared_memory.require_copied(call, lying)
        return arrays

    def arrays_from(self, inputs: Sequence[AnyTensor], content: Content[AnyTensor], model: str, max_rows: int) -> Arrays:
        """Do what ``arrays_of`` does for tensors of another transport: ``content`` gives the values of one that has been checked."""
        arrays: Arrays = {}
        rows = -1
        for index, tensor in enumerate(inputs):
            spec = self._match(tensor, arrays, model)
            if self.batched:
                rows = _same_rows(tensor, rows, max_rows, model)
            arrays[spec.name] = content(index, tensor, spec, _where(spec, model))
        if len(arrays) != len(self.inputs):
            raise BadRequest(self._missing(list(arrays), model))
        return arrays

    def raw_arrays(self, body: memoryview, model: str, max_rows: int) -> Arrays:
        """Turn a raw binary request, which is the only input's bytes, into its array."""
        if len(self.inputs) != 1:
            raise BadRequest(f"A raw binary request needs a model with one input; model '{model}' has {len(self.inputs)}. Send the JSON part too.")
        spec = next(iter(self.inputs.values()))
        rest = math.prod(max(size, 1) for size in spec.shape)
        width = 0 if spec.datatype == "BYTES" else tensors.NUMPY_OF[spec.datatype]().itemsize
        rows = 1 if width == 0 else len(body) // (rest * width)
        if rows < 1 or rows > max_rows:
            raise BadRequest(f"Input '{spec.name}' of model '{model}': {len(body)} bytes are {rows} rows; from 1 to {max_rows} can be answered.")
        shape = [rows if size == -1 and index == 0 else max(size, 1) for index, size in enumerate(spec.shape)]
        return {spec.name: binary.from_bytes(body, spec.datatype, shape, f"Input '{spec.name}' of model '{model}'")}

    def _match(self, tensor: TensorHead, arrays: Arrays, model: str) -> InputSpec:
        spec = self.inputs.get(tensor.name)
        if spec is None:
            raise BadRequest(f"unexpected inference input '{tensor.name}' for model '{model}'. Its inputs are {sorted(self.inputs)}.")
        if tensor.name in arrays:
            raise BadRequest(f"input '{tensor.name}' for model '{model}' comes twice. Send it once.")
        if tensor.datatype != spec.datatype:
            raise BadRequest(f"inference input '{tensor.name}' data-type is '{tensor.datatype}', but model '{model}' expects '{spec.datatype}'")
        if not spec.fits(tensor.shape):
            got = ",".join(map(str, tensor.shape))
            raise BadRequest(f"unexpected shape for input '{tensor.name}' for model '{model}'. Expected {spec.shape_text}, got [{got}]")
        return spec

    def _missing(self, given: list[str], model: str) -> str:
        missing = [name for name in self.inputs if name not in given]
        return (
            f"expected {len(self.inputs)} inputs but got {len(given)} inputs for model '{model}'. "
            f"Got input(s) {given}, but missing required input(s) {missing}. Please provide all required input(s)."
        )


def typical_of(feature: Feature | None, datatype: str) -> Any:
    """Give what the policy ``replace`` puts in; None without one that the tensor can hold.

    Of whole numbers and truths it is whole: their median may lie between two.
    """
    typical = None if feature is None else feature.typical
    if datatype == "BYTES":
        return typical if isinstance(typical, str) else None
    least, most = tensors.range_of(datatype)
    if feature is None or not isinstance(typical, int | float) or not least <= typical <= most:
        return None
    return typical if feature.kind == Kind.NUMBER else round(typical)


def _spec(tensor: Tensor) -> InputSpec:
    single = [1, *tensor.shape[1:]] if tensor.shape[:1] == (-1,) and -1 not in tensor.shape[1:] else None
    return InputSpec(tensor.name, tensor.datatype, tensor.shape, f"[{','.join(map(str, tensor.shape))}]", single)


def _same_rows(tensor: TensorHead, rows: int, max_rows: int, model: str) -> int:
    count = tensor.shape[0]
    if count == 0:
        raise BadRequest(f"input '{tensor.name}' for model '{model}' has no rows. Send at least one.")
    if count > max_rows:
        raise Oversized(f"input '{tensor.name}' for model '{model}' has {count} rows, at most {max_rows} are answered at once. Send several requests.")
    if rows not in (-1, count):
        raise BadRequest(f"input '{tensor.name}' for model '{model}' has {count} rows, an input before it has {rows}. Send the same number for all.")
    return count


def _where(spec: InputSpec, model: str) -> str:
    return f"Input '{spec.name}' of model '{model}'"


def _json_array(tensor: InputTensor, spec: InputSpec, model: str) -> Array:
    if not tensor.data:
        raise BadRequest(f'{_where(spec, model)}: there is no data. Send "data", or "binary_data_size" and the header Inference-Header-Content-Length.')
    return tensors.from_json(tensor.data, spec.datatype, tensor.shape, _where(spec, model), nullable=spec.nullable, fillable=spec.fillable)


def _binary_size(tensor: InputTensor, where: str) -> int | None:
    size = tensor.parameters.get("binary_data_size") if tensor.parameters else None
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise BadRequest(f"{where}: binary_data_size must be a whole number of bytes, not {size!r}.")
    if tensor.data:
        raise BadRequest(f"{where}: it has both data and binary_data_size. Send one of them.")
    return size


def _piece(tail: memoryview, offset: int, size: int, where: str) -> memoryview:
    if offset + size > len(tail):
        raise BadRequest(f"{where}: binary_data_size is {size}, but only {len(tail) - offset} bytes are left in the body.")
    return tail[offset : offset + size]
