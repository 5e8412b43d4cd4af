"""The calls that are no predictions, answered by the same handlers as over HTTP; here is only how their messages look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.json_format import ParseDict

from serving.dataplane import catalog
from serving.dataplane.engine import Engine
from serving.dataplane.errors import Busy, OutOfService, Unknown
from serving.dataplane.grpc import inference_pb2 as pb

Message = Any
Document = dict[str, Any]


def _itself(document: Any) -> Document:
    return document or {}


def _nothing(_: Message) -> dict[str, str | None]:
    return {}


def _named(request: Message) -> dict[str, str | None]:
    return {"endpoint": request.name, "version": request.version or None}


def _model_named(request: Message) -> dict[str, str | None]:
    return {"endpoint": request.model_name}


@dataclass(frozen=True, slots=True)
class CatalogCall:
    """``parts`` and ``body`` are what the HTTP path and body would say; ``answer`` puts the document into the message's form."""

    request: Any
    response: Any
    handler: Callable[[Message], catalog.Handler] | catalog.Handler
    parts: Callable[[Message], dict[str, str | None]] = _nothing
    body: Callable[[Message], Document] = _nothing
    answer: Callable[[Any], Document] = _itself
    chooses: bool = False
    """``handler`` is a function of the message that gives the handler."""


def _region_named(request: Message) -> dict[str, str | None]:
    return {"region": request.name}


def _given_region(request: Message) -> Document:
    return {"key": request.key, "offset": request.offset, "byte_size": request.byte_size}


def _regions(document: Any) -> Document:
    return {"regions": {region["name"]: region for region in document}}


def _under(name: str) -> Callable[[Any], Document]:
    return lambda document: {name: document or []}


def _stats(request: Message) -> catalog.Handler:
    return catalog.stats if request.name else catalog.all_stats


def _given_traces(request: Message) -> Document:
    return {name: list(setting.value) or None for name, setting in request.settings.items()}


def _given_log(request: Message) -> Document:
    given = {}
    for name, setting in request.settings.items():
        kind = setting.WhichOneof("parameter_choice")
        given[name] = getattr(setting, kind) if kind else None
    return given


def _trace_settings(document: Document) -> Document:
    return {"settings": {name: {"value": value if isinstance(value, list) else [value]} for name, value in document.items()}}


def _log_settings(document: Document) -> Document:
    kinds = {bool: "bool_param", int: "uint32_param", str: "string_param"}
    return {"settings": {name: {kinds[type(value)]: value} for name, value in document.items()}}


def _parameters(request: Message) -> Document:
    return {"parameters": dict.fromkeys(request.parameters)}


def _is_ready(handler: catalog.Handler) -> catalog.Handler:
    """Over gRPC, not ready is an answer and no error."""

    def answer(request: catalog.Request) -> Any:
        try:
            return handler(request)
        except (catalog.NotReady, Unknown, OutOfService, Busy):
            return {"ready": False}

    return answer


CALLS: dict[str, CatalogCall] = {
    "ServerLive": CatalogCall(pb.ServerLiveRequest, pb.ServerLiveResponse, catalog.live),
    "ServerReady": CatalogCall(pb.ServerReadyRequest, pb.ServerReadyResponse, _is_ready(catalog.ready)),
    "ModelReady": CatalogCall(pb.ModelReadyRequest, pb.ModelReadyResponse, _is_ready(catalog.model_ready), _named),
    "ServerMetadata": CatalogCall(pb.ServerMetadataRequest, pb.ServerMetadataResponse, catalog.server),
    "ModelMetadata": CatalogCall(pb.ModelMetadataRequest, pb.ModelMetadataResponse, catalog.metadata, _named),
    "ModelConfig": CatalogCall(pb.ModelConfigRequest, pb.ModelConfigResponse, catalog.config, _named, answer=_under("config")),
    "ModelStatistics": CatalogCall(pb.ModelStatisticsRequest, pb.ModelStatisticsResponse, _stats, _named, chooses=True),
    "RepositoryIndex": CatalogCall(
        pb.RepositoryIndexRequest, pb.RepositoryIndexResponse, catalog.index, body=lambda request: {"ready": request.ready}, answer=_under("models")
    ),
    "RepositoryModelLoad": CatalogCall(pb.RepositoryModelLoadRequest, pb.RepositoryModelLoadResponse, catalog.load, _model_named, _parameters),
    "RepositoryModelUnload": CatalogCall(pb.RepositoryModelUnloadRequest, pb.RepositoryModelUnloadResponse, catalog.unload, _model_named, _parameters),
    "SystemSharedMemoryStatus": CatalogCall(
        pb.SystemSharedMemoryStatusRequest, pb.SystemSharedMemoryStatusResponse, catalog.memory_status, _region_named, answer=_regions
    ),
    "SystemSharedMemoryRegister": CatalogCall(
        pb.SystemSharedMemoryRegisterRequest, pb.SystemSharedMemoryRegisterResponse, catalog.register_memory, _region_named, _given_region
    ),
    "SystemSharedMemoryUnregister": CatalogCall(
        pb.SystemSharedMemoryUnregisterRequest, pb.SystemSharedMemoryUnregisterResponse, catalog.unregister_memory, _region_named
    ),
    "CudaSharedMemoryStatus": CatalogCall(
        pb.CudaSharedMemoryStatusRequest, pb.CudaSharedMemoryStatusResponse, catalog.cuda_status, _region_named, answer=_regions
    ),
    "CudaSharedMemoryRegister": CatalogCall(pb.CudaSharedMemoryRegisterRequest, pb.CudaSharedMemoryRegisterResponse, catalog.CUDA_REFUSED),
    "CudaSharedMemoryUnregister": CatalogCall(pb.CudaSharedMemoryUnregisterRequest, pb.CudaSharedMemoryUnregisterResponse, catalog.constant(None)),
    "TraceSetting": CatalogCall(pb.TraceSettingRequest, pb.TraceSettingResponse, catalog.change_traces, _model_named, _given_traces, _trace_settings),
    "LogSettings": CatalogCall(pb.LogSettingsRequest, pb.LogSettingsResponse, catalog.change_log, body=_given_log, answer=_log_settings),
}


async def answer(engine: Engine, call: CatalogCall, message: Message, headers: dict[bytes, bytes]) -> Message:
    """Give the answer's message; raises SignalboxError."""
    request = catalog.Request(engine, headers, orjson.dumps(call.body(message)), call.parts(message))
    handler: Any = call.handler(message) if call.chooses else call.handler
    document = await catalog.settled(handler(request))
    return ParseDict(call.answer(document), call.response(), ignore_unknown_fields=True)
