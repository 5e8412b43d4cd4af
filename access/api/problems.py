"""Errors as RFC 9457 problem details: one handler for everything that a REST view can raise."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.serializers import BooleanField, CharField, DictField, IntegerField, ListField, Serializer
from rest_framework.views import set_rollback

from access.requests import request_id_of
from core import request_ids
from core.errors import DISK_FULL, Forbidden, Invalid, NotFound, NotSignedIn, SignalboxError, StorageFull, Unavailable, is_of_a_full_disk

logger = logging.getLogger(__name__)
CONTENT_TYPE = "application/problem+json"
_NOT_SIGNED_IN = "Nobody is signed in, and no API key came. Send one as 'Authorization: Bearer sbx_...'."
_CODES = {"parse_error": "invalid", "not_authenticated": "not_signed_in", "authentication_failed": "not_signed_in", "permission_denied": "forbidden"}


class Problem(Serializer[Any]):
    """An error: what is wrong, where, and what to do. ``code`` is for programs, ``detail`` for people."""

    type = CharField(default="about:blank")
    title = CharField()
    status = IntegerField()
    detail = CharField()
    code = CharField()
    retryable = BooleanField(required=False)
    errors = DictField(child=ListField(child=CharField()), required=False, help_text="Field name to what is wrong with it.")  # type: ignore[assignment]  # a field; the metaclass keeps the property


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Turn ``error`` into its answer. What nobody expected is a 500 with an id that the log has too."""
    set_rollback()
    match error:
        case exceptions.ValidationError():
            return _answer_of_fields(error)
        case exceptions.APIException():
            return _answer_of_rest_framework(error, context)
    ours = _renamed(error)
    return answer_of(ours) if ours else _unexpected(error, context)


def _renamed(error: Exception) -> SignalboxError | None:
    """Give our own word for what Django raises, None for what nobody expected."""
    match error:
        case SignalboxError():
            renamed: SignalboxError | None = error
        case Http404():
            renamed = NotFound("There is nothing at this address.")
        case PermissionDenied():
            renamed = Forbidden(str(error) or "This is not allowed.")
        case DataError():
            renamed = Invalid("A value in the request cannot be stored: a NUL character, or a number out of range. Nothing was changed.")
        case RecursionError():
            renamed = Invalid("The JSON in the request is nested too deeply. Nothing was changed.")
        case OperationalError() | InterfaceError():
            logger.warning("The database is away: %s", error)
            renamed = Unavailable("The database is away. Nothing was changed; try again in a moment.")
        case _ if is_of_a_full_disk(error):
            renamed = StorageFull(DISK_FULL)
        case _:
            renamed = None
    return renamed


def answer_of(error: SignalboxError) -> Response:
    """Give the problem of one of our own errors; its detail values are members of the problem."""
    more = {name: value for name, value in error.detail.items() if value is not None}
    headers = {"WWW-Authenticate": 'Bearer realm="signalbox"'} if isinstance(error, NotSignedIn) else {}
    return _problem(error.status, error.message, error.code, headers, retryable=error.retryable, **more)


def plain_answer_of(error: SignalboxError) -> JsonResponse:
    """Give the problem where no view of the API was found that could render it."""
    return JsonResponse(answer_of(error).data, status=error.status, content_type=CONTENT_TYPE)


def _problem(status: int, detail: str, code: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    body = {**more, "type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, "code": code}
    return Response(body, status=status, headers=headers, content_type=CONTENT_TYPE)


def _answer_of_fields(error: exceptions.ValidationError) -> Response:
    errors = _flat(error.detail)
    text = "; ".join(f"{name}: {' '.join(messages)}" for name, messages in errors.items())
    return _problem(Invalid.status, f"The request is not valid. {text}", Invalid.code, errors=errors)


def _flat(detail: Any, name: str = "") -> dict[str, list[str]]:
    """Give ``{"a.0.b": [messages]}`` of DRF's nested lists and dicts."""
    if isinstance(detail, dict):
        return {key: texts for part, inner in detail.items() for key, texts in _flat(inner, f"{name}.{part}" if name else str(part)).items()}
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        return {key: texts for place, inner in enumerate(detail) for key, texts in _flat(inner, f"{name}.{place}" if name else str(place)).items()}
    return {name or "body": [str(item) for item in detail]} if isinstance(detail, list) else {name or "body": [str(detail)]}


def _answer_of_rest_framework(error: exceptions.APIException, context: dict[str, Any]) -> Response:
    code = str(getattr(error.detail, "code", error.default_code))
    text = _NOT_SIGNED_IN if isinstance(error, exceptions.NotAuthenticated) else str(error.detail)
    if isinstance(error, exceptions.UnsupportedMediaType):
        taken = " or ".join(parser.media_type for parser in context["view"].parser_classes)
        text = f"{text} Send the header 'Content-Type: {taken}'."
    headers = {}
    if isinstance(error, exceptions.AuthenticationFailed | exceptions.NotAuthenticated):
        headers["WWW-Authenticate"] = getattr(error, "auth_header", None) or 'Bearer realm="signalbox"'
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return _problem(error.status_code, text, _CODES.get(code, code), headers)


def _unexpected(error: Exception, context: dict[str, Any]) -> Response:
    incident = request_id_of(context["request"]) if context.get("request") else request_ids.fresh()
    logger.error("Incident %s in %s", incident, type(context.get("view")).__name__, exc_info=error)
    return _problem(500, f"Something went wrong on our side. Tell an admin the incident {incident}; the log has it.", "internal", incident=incident)
