"""The form ``grpc`` of a call: a request message's tensors to arrays, and outputs to an answer message."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from core.errors import SignalboxError
from core.metrics.openness import FORWARDING
from serving.dataplane import binary, forms, ids, shared_memory
from serving.dataplane.call import Call, Head, Headers, Reply, Route
from serving.dataplane.decode import InferRequest, InputTensor, OutputWish, Parameters
from serving.dataplane.errors import BadRequest
from serving.dataplane.grpc import inference_pb2 as pb
from serving.dataplane.grpc.statuses import code_of
from serving.dataplane.live import EndpointState, Slot
from serving.dataplane.shared_memory import Target
from serving.dataplane.spec import Arrays, InputSpec
from serving.dataplane.tensors import DATATYPE_OF, NUMPY_OF, Array

SERVICE = "inference.GRPCInferenceService"
FORM = "grpc"
_FIELD_OF: Final = {
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
} | {f"{sign}INT{bits}": f"{sign.lower()}int_contents" for sign in ("", "U") for bits in (8, 16, 32)}
_HEADERS: Final = FORWARDING | {"authorization", "x-api-key", "x-request-id", "traceparent", "signalbox-sticky-key", "signalbox-demo"}
"""The metadata that are read; they mean what the HTTP headers of these names mean."""


def headers_of(context: grpc.aio.ServicerContext) -> dict[bytes, bytes]:
    """Give what is read of a call's metadata, as HTTP headers."""
    return {name.encode(): value.encode() for name, value in context.invocation_metadata() or () if name in _HEADERS}


class MessageCall(Call):
    """A call that came as a message, of which ``body`` are the bytes, by the ``method`` of the service.

    ``remaining_s`` is the time that the client gives it; None for any time.
    """

    __slots__ = ("message", "method", "remaining_s")

    def __init__(self, method: str, message: pb.ModelInferRequest, body: bytes, context: grpc.aio.ServicerContext, reply: Reply) -> None:
        head = Head(Route(message.model_name, message.model_version, FORM), headers_of(context))
        super().__init__(head, body, reply)
        self.method, self.message, self.remaining_s = method, message, context.time_remaining()

    def path(self) -> str:
        return path_of(self.method)

    def span(self, status: int) -> tuple[str, dict[str, Any]]:
        name = f"{SERVICE}/{self.method}"
        return name, {"rpc.system.name": "grpc", "rpc.method": name, "rpc.response.status_code": code_of(status).name}


def path_of(method: str) -> str:
    """Give the HTTP path of a method of the service, which gRPC asks for by POST."""
    return f"/{SERVICE}/{method}"


def read(data: bytes, unpack: Callable[[bytes], bytes]) -> tuple[pb.ModelInferRequest, bytes, SignalboxError | None]:
    """Give a request, its bytes unpacked, and why it is refused: what cannot be read is a call all the same, to be counted and told of."""
    try:
        data = unpack(data)
        return pb.ModelInferRequest.FromString(data), data, None
    except DecodeError:
        return pb.ModelInferRequest(), data, BadRequest("The message is no ModelInferRequest.")
    except SignalboxError as refusal:
        return pb.ModelInferRequest(), data, refusal


def take_message(call: Call, endpoint: EndpointState) -> Slot:
    """Read the protocol's request message, raw or typed."""
    if not isinstance(call, MessageCall):
        raise TypeError("only the gRPC transport makes calls of this form")
    message = call.message
    call.request_id = message.id or None
    if call.remaining_s is not None:
        call.deadline = min(call.deadline, call.received + call.remaining_s)
    if message.parameters:
        forms.read_parameters(call, _parameters(message.parameters))
    if endpoint.sticky_on and call.sticky is None:
        slot, arrays = forms.choose_by_feature(call, endpoint, lambda slot: _arrays(slot, call, message, endpoint.limits.max_rows))
    else:
        slot = forms.choose(call, endpoint, None)
        arrays = _arrays(slot, call, message, endpoint.limits.max_rows)
    if not message.outputs:
        return forms.fill(call, slot, arrays, render)
    call.wanted = slot.answers.wish_of(InferRequest([], outputs=[OutputWish(output.name, _parameters(output.parameters)) for output in message.outputs]))
    return forms.fill(call, slot, arrays, shared_memory.aimed(call, render))


forms.FORMS[FORM] = take_message


def render(call: Call, outputs: list[Array], start: int, stop: int | None) -> tuple[Headers, bytes]:
    """Give the answer message to rows ``start`` to ``stop`` of a batch, as bytes; tensors are always raw."""
    slot = call.slot
    if slot is None:
        raise ValueError("a call without a slot was run")
    answer = pb.ModelInferResponse(model_name=slot.endpoint_name, model_version=slot.version, id=call.request_id or "")
    answer.parameters["prediction_id"].string_param = ids.text_of(call.id)
    answer.parameters["slot"].string_param = slot.name
    wanted = [(index, True) for index in range(len(outputs))] if call.wanted is None else call.wanted
    for index, form in wanted:
        array = outputs[index][start:stop]
        output = answer.outputs.add(name=slot.build.outputs[index], datatype=DATATYPE_OF[array.dtype], shape=array.shape)
        if isinstance(form, Target):
            _tell(output, form)
        # Also what is in shared memory has contents, empty ones: clients count them.
        answer.raw_output_contents.append(b"" if isinstance(form, Target) else binary.to_bytes(array))
    return b"", answer.SerializeToString()


def _tell(output: Any, target: Target) -> None:
    """Say where an output is instead of what."""
    for name, value in target.parameters().items():
        if isinstance(value, str):
            output.parameters[name].string_param = value
        else:
            output.parameters[name].int64_param = value


def _arrays(slot: Slot, call: Call, message: pb.ModelInferRequest, max_rows: int) -> Arrays:
    # Each look into a message makes a new object: what is read more than once is taken out first.
    model, raw, tensors = message.model_name, list(message.raw_input_contents), list(message.inputs)
    heads = [_head(tensor, bool(raw), model) for tensor in tensors]
    count = [head.parameters for head in heads].count(None)  # the others lie in shared memory
    if raw and len(raw) != count:
        raise BadRequest(f"raw_input_contents has {len(raw)} tensors for {count} inputs of model '{model}'. Send one for each, in their order.")
    pieces = iter(raw)
    lying: list[shared_memory.Lying] = []

    def content(index: int, head: InputTensor, spec: InputSpec, where: str) -> Array:
        if head.parameters is not None:
            return shared_memory.array_of(call, head, lying)
        if raw:
            return binary.from_bytes(memoryview(next(pieces)), spec.datatype, head.shape, where)
        return _typed(tensors[index].contents, head, where)

    arrays = slot.spec.arrays_from(heads, content, model, max_rows)
    shared_memory.require_copied(call, lying)
    return arrays


def _head(tensor: Any, is_raw: bool, model: str) -> InputTensor:
    """Give what a tensor says before its values; its parameters only if it lies in shared memory."""
    head = InputTensor(tensor.name, list(tensor.shape), tensor.datatype)
    if head.shape and min(head.shape) < 0:
        raise BadRequest(f"Input '{head.name}' of model '{model}': the shape {head.shape} has a size below 0.")
    given = tensor.parameters
    if given and shared_memory.is_named(given):
        head.parameters = _parameters(given)
        if tensor.HasField("contents"):
            raise BadRequest(f"Input '{head.name}' of model '{model}' lies in shared memory, and has contents besides. Send one of them.")
    elif is_raw and tensor.HasField("contents"):
        raise BadRequest(f"Input '{head.name}' of model '{model}' has contents beside raw_input_contents. Send all tensors in one of the two ways.")
    return head


def _typed(contents: Any, head: InputTensor, where: str) -> Array:
    """Read ``contents``, which are flat and row-major."""
    datatype, shape = head.datatype, head.shape
    field = _FIELD_OF.get(datatype)
    if field is None:
        raise BadRequest(f"{where}: {datatype} has no typed contents. Send raw_input_contents.")
    values = list(getattr(contents, field))
    if len(values) != math.prod(shape):
        raise BadRequest(f"{where}: the shape {shape} has {math.prod(shape)} values, {field} has {len(values)}.")
    if datatype == "BYTES":
        values = [_text(value, index, where) for index, value in enumerate(values)]
    try:
        return np.array(values, dtype=NUMPY_OF[datatype]).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise BadRequest(f"{where}: a value does not fit {datatype}: {error}.") from None


def _text(value: bytes, index: int, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"{where}: the string {index} is not UTF-8.") from None


def _parameters(parameters: Mapping[str, pb.InferParameter]) -> Parameters:
    return {name: getattr(value, kind) if (kind := value.WhichOneof("parameter_choice")) else None for name, value in parameters.items()}
