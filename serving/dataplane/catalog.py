"""Every call of the protocol that is no prediction: health, metadata, statistics, the repository. From memory, but for load and unload.

A handler takes a ``Request`` and gives a document; ``answer`` finds it by the HTTP path, the gRPC process by the name of the call.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from core.errors import SignalboxError
from serving.dataplane import keys, repository
from serving.dataplane.call import JSON, Headers, is_forwarded
from serving.dataplane.engine import Engine
from serving.dataplane.errors import BadRequest, Busy, Denied, NotAllowed, Unknown, Unsupported
from serving.dataplane.live import EndpointState, Slot
from serving.dataplane.problems import body_of, headers_of
from serving.table import KeyEntry

NAME = "signalbox"
VERSION = "0.1.0"
EXTENSIONS = ("binary_tensor_data", "model_repository", "model_configuration", "statistics", "trace", "logging")
_MODEL = r"/v2/models/(?P<endpoint>[^/]+)(?:/versions/(?P<version>[^/]+))?"
Answer = tuple[int, Headers, bytes]
Handler = Callable[["Request"], Any]


class Request:
    """What a catalog call can read of a request; ``parts`` are ``endpoint``, ``version`` and ``region``, as far as it names them."""

    def __init__(self, engine: Engine, headers: Mapping[bytes, bytes], body: bytes, parts: Mapping[str, str | None]) -> None:
        self.engine, self.headers, self.body, self.parts = engine, headers, body, parts

    def key(self) -> KeyEntry:
        return self.engine.authorize(self.headers.get(b"authorization"), self.headers.get(b"x-api-key"))

    def endpoint(self) -> EndpointState:
        """Give the endpoint in the path, if the key may see it."""
        key, name = self.key(), self.parts.get("endpoint") or ""
        keys.require_predict(key, name)
        state = self.engine.routes.endpoints.get(name) if self.engine.routes else None
        if state is None:
            raise Unknown(f"Request for unknown model: '{name}' is not found")
        return state

    def region(self) -> str:
        """Give the name of a region of shared memory, empty for none."""
        return self.parts.get("region") or ""

    def slot(self) -> Slot:
        """Give the slot that describes the endpoint, or the version in the path."""
        endpoint, version = self.endpoint(), self.parts.get("version")
        return endpoint.candidates(version)[0] if version else endpoint.front

    def visible(self) -> list[EndpointState]:
        key = self.key()
        states = self.engine.routes.endpoints.values() if self.engine.routes else ()
        return [state for state in states if keys.may_predict(key, state.name)]


def live(_: Request) -> Any:
    """Say that the process lives."""
    return {"live": True}


def ready(request: Request) -> Any:
    """Say that it takes requests, or raise NotReady."""
    if not request.engine.is_ready:
        raise NotReady("{}")
    return {"ready": True}


def server(request: Request) -> Any:
    """Name the server and its extensions."""
    offered = ("system_shared_memory",) if request.engine.regions.are_offered else ()
    return {"name": NAME, "version": VERSION, "extensions": [*EXTENSIONS, *offered]}


def metadata(request: Request) -> Any:
    """Describe an endpoint as a model: its tensors, its versions."""
    slot, endpoint = request.slot(), request.endpoint()
    signature = slot.entry.signature
    tensors = {
        side: [{"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)} for tensor in getattr(signature, side)]
        for side in ("inputs", "outputs")
    }
    properties = {"model": slot.entry.model, "build": slot.entry.kind, "slot": slot.name}
    versions = sorted({each.version for each in endpoint.slots}, key=int)
    return {"name": endpoint.name, "versions": versions, "platform": "onnx_onnxv1", **tensors, "properties": properties}


def model_ready(request: Request) -> Any:
    """Say that an endpoint answers; raises Unknown, or Unavailable."""
    endpoint = request.endpoint()
    endpoint.candidates(request.parts.get("version") or "")
    return {"name": endpoint.name, "ready": True}


def config(request: Request) -> Any:
    """Describe an endpoint as Triton describes a configuration."""
    slot, endpoint = request.slot(), request.endpoint()
    signature, batched = slot.entry.signature, slot.spec.batched

    def tensors(side: Any) -> list[dict[str, Any]]:
        return [{"name": t.name, "data_type": _triton_type(t.datatype), "dims": list(t.shape[1:] if batched else t.shape)} for t in side]

    return {
        "name": endpoint.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": endpoint.limits.max_rows if batched else 0,
        "input": tensors(signature.inputs),
        "output": tensors(signature.outputs),
    }


def _triton_type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def stats(request: Request) -> Any:
    """Give the statistics of one endpoint since this process started."""
    slots = request.endpoint().slots
    version = request.parts.get("version")
    if version:
        slots = request.endpoint().candidates(version)
    return {"model_stats": [_slot_stats(slot) for slot in slots]}


def all_stats(request: Request) -> Any:
    """Give the statistics of every endpoint that the key may see."""
    return {"model_stats": [_slot_stats(slot) for state in request.visible() for slot in state.slots]}


def _slot_stats(slot: Slot) -> dict[str, Any]:
    stats = slot.stats
    zero = {"count": 0, "ns": 0}
    run = {"count": stats.batches, "ns": int(stats.run_us * 1000)}
    return {
        "name": slot.endpoint_name,
        "version": slot.version,
        "last_inference": stats.last_ms,
        "inference_count": stats.rows,
        "execution_count": stats.batches,
        "inference_stats": {
            "success": {"count": stats.success_count, "ns": int(stats.success_us * 1000)},
            "fail": {"count": stats.fail_count, "ns": int(stats.fail_us * 1000)},
            "queue": {"count": stats.success_count, "ns": int(stats.queue_us * 1000)},
            "compute_input": zero,
            "compute_infer": run,
            "compute_output": zero,
            "cache_hit": {"count": stats.cache_hits, "ns": 0},
            "cache_miss": {"count": stats.cache_misses, "ns": 0},
        },
        "batch_stats": [],
    }


def index(request: Request) -> Any:
    """List what the key may see: each version in a slot, and endpoints that have none."""
    document = _document(request.body)
    entries = []
    for state in request.visible():
        versions = sorted({slot.version for slot in state.slots}, key=int)
        entries += [{"name": state.name, "version": version, "state": "READY", "reason": ""} for version in versions]
        if not state.slots and document.get("ready") is not True:
            entries.append({"name": state.name, "version": "", "state": "UNAVAILABLE", "reason": state.entry.unloaded or "no model in any slot"})
    return entries


async def settled(document: Any | Awaitable[Any]) -> Any:
    """Give a handler's document, now or when its coroutine has it."""
    return await document if inspect.isawaitable(document) else document


def _document(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise BadRequest("The body must be a JSON object, or empty.")
    return document


async def load(request: Request) -> None:
    """Put an endpoint into service, and wait until it is warm here. Files and configurations are refused."""
    name = _operated(request, "load").name
    if _given(request) - {"unload_dependents"}:
        raise BadRequest(f"'{name}' cannot be loaded with files or a configuration here. Register a version and deploy it into a slot in the console.")
    state = await repository.change(request.engine, request.headers, name, "load")
    if not state.slots:
        raise BadRequest(f"'{name}' is in service, but no slot holds a version that could be loaded. Deploy one into a slot in the console.")


async def unload(request: Request) -> None:
    """Take an endpoint out of service, and wait until it is so here."""
    name = _operated(request, "unload").name
    _given(request)
    await repository.change(request.engine, request.headers, name, "unload")


def log_settings(request: Request) -> Any:
    """Give the log's settings."""
    request.key()
    return request.engine.observing.log()


def change_log(request: Request) -> Any:
    """Set those of the log's settings that are given, and give all."""
    given = _document(request.body)
    if not given:
        return log_settings(request)
    return request.engine.observing.change_log(given, _operator_of_all(request, "a change of the log's settings").id)


def trace_settings(request: Request) -> Any:
    """Give the settings of an endpoint's traces, or of all."""
    request.key()
    return request.engine.observing.trace(request.endpoint().name if request.parts.get("endpoint") else "")


def change_traces(request: Request) -> Any:
    """Set those of the settings of traces that are given, and give all."""
    given = _document(request.body)
    if not given:
        return trace_settings(request)
    if request.parts.get("endpoint"):
        return request.engine.observing.change_trace(_operated(request, "a change of its traces").name, given, request.key().id)
    return request.engine.observing.change_trace("", given, _operator_of_all(request, "a change of the traces").id)


def _operated(request: Request, verb: str) -> EndpointState:
    """Give the endpoint of a call that changes it, if the key may; the console checks it again."""
    _operator(request, verb)
    return request.endpoint()


def _operator(request: Request, what: str) -> KeyEntry:
    key = request.key()
    if not {"operate", "admin"}.intersection(key.scopes):
        raise Denied(f"The API key {key.id} lacks the scope operate, which {what} needs. An admin can make a key that has it.")
    return key


def _operator_of_all(request: Request, what: str) -> KeyEntry:
    key = _operator(request, what)
    if key.endpoints:
        raise Denied(f"The API key {key.id} is for {', '.join(key.endpoints)} alone, and {what} holds for all endpoints. An admin can make a key that may.")
    return key


def _given(request: Request) -> set[str]:
    """Name the parameters that came."""
    parameters = _document(request.body).get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest("parameters must be a JSON object.")
    return set(parameters)


def memory_status(request: Request) -> Any:
    """Describe one of the key's regions of system shared memory, or all."""
    return request.engine.regions.status(request.key(), request.region())


async def register_memory(request: Request) -> None:
    """Register a region of system shared memory for the key."""
    actor, regions = request.key(), request.engine.regions
    regions.require_offered(is_forwarded=is_forwarded(request.headers))
    await regions.register(actor, request.region(), _document(request.body), request.engine.table())


async def unregister_memory(request: Request) -> None:
    """Forget one of the key's regions of system shared memory, or all."""
    await request.engine.regions.unregister(request.key(), request.region())


def cuda_status(request: Request) -> Any:
    """Say that there is no region of CUDA shared memory."""
    request.key()
    if request.region():
        raise Unknown(f"Unable to find cuda shared memory region: '{request.region()[:80]}'")
    return []


def constant(document: Any) -> Handler:
    """Answer always the same to whoever has a key."""

    def answer(request: Request) -> Any:
        request.key()
        return document

    return answer


def unsupported(what: str) -> Handler:
    """Refuse, to whoever has a key."""

    def answer(request: Request) -> Any:
        request.key()
        raise Unsupported(f"{what} is not supported. Send tensors in the request's body.")

    return answer


class NotReady(Busy):
    """Readiness has the protocol's own body instead of an error."""


_MEMORY = "/v2/{}sharedmemory(?:/region/(?P<region>[^/]+))?"
CUDA_REFUSED = unsupported("CUDA shared memory, since models run on the processor,")
_Handlers = dict[str, Handler]
_PATHS: list[tuple[str, _Handlers]] = [
    ("/v2/health/live", {"GET": live}),
    ("/v2/health/ready", {"GET": ready}),
    ("/v2", {"GET": server}),
    ("/v2/models/stats", {"GET": all_stats}),
    (_MODEL, {"GET": metadata}),
    (_MODEL + "/ready", {"GET": model_ready}),
    (_MODEL + "/config", {"GET": config}),
    (_MODEL + "/stats", {"GET": stats}),
    ("/v2/repository/index", {"POST": index}),
    ("/v2/repository/models/(?P<endpoint>[^/]+)/load", {"POST": load}),
    ("/v2/repository/models/(?P<endpoint>[^/]+)/unload", {"POST": unload}),
    (_MEMORY.format("system") + "/status", {"GET": memory_status}),
    (_MEMORY.format("system") + "/register", {"POST": register_memory}),
    (_MEMORY.format("system") + "/unregister", {"POST": unregister_memory}),
    (_MEMORY.format("cuda") + "/status", {"GET": cuda_status}),
    (_MEMORY.format("cuda") + "/register", {"POST": CUDA_REFUSED}),
    (_MEMORY.format("cuda") + "/unregister", {"POST": constant(None)}),
    (r"/v2(?:/models/(?P<endpoint>[^/]+))?/trace/setting", {"GET": trace_settings, "POST": change_traces}),
    ("/v2/logging", {"GET": log_settings, "POST": change_log}),
    (_MODEL + "/(?:generate|generate_stream|infer_stream)", {"POST": unsupported("Generation")}),
    (_MODEL + "/(?:infer|predict|invocations)", {"POST": unsupported("This form")}),
]
_ROUTES = [(re.compile(path + "/?"), handlers) for path, handlers in _PATHS]


async def answer(engine: Engine, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Answer:
    """Answer any call that is no prediction, errors too."""
    try:
        return await _found(engine, method, path, headers, body)
    except NotReady as error:
        return 503, JSON + headers_of(error), b'{"ready":false}'
    except SignalboxError as error:
        engine.count_refusal(error)
        return error.status, JSON + headers_of(error), body_of(error)


async def _found(engine: Engine, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Answer:
    for pattern, methods in _ROUTES:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        handler = methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            error = NotAllowed(f"{method} is not allowed on {path}. Use {' or '.join(methods)}.")
            error.headers = b"allow: %b\r\n" % ", ".join(methods).encode()
            raise error
        document = await settled(handler(Request(engine, headers, body, match.groupdict())))
        return 200, JSON, b"" if document is None else orjson.dumps(document)
    raise Unknown(f"There is no {path} here. The protocol's paths begin with /v2; the console has its own address.")
