"""Reads request bodies and query parameters: what is not declared is refused by name, not ignored."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.serializers import Serializer


def body_of(request: Request, serializer: type[Serializer[Any]]) -> dict[str, Any]:
    """Give the request's body as ``serializer`` reads it; raises ValidationError with the fields named."""
    return _checked(request.data, serializer)


def parameters_of(request: Request, serializer: type[Serializer[Any]]) -> dict[str, Any]:
    """Give the query parameters that ``serializer`` declares; the others (cursor, limit) are not its business."""
    fields = serializer().fields
    return _checked({name: value for name, value in request.query_params.items() if name in fields}, serializer)


def _checked(data: Any, serializer: type[Serializer[Any]]) -> dict[str, Any]:
    form = serializer(data=data)
    form.is_valid(raise_exception=True)
    if unknown := sorted(set(data) - set(form.fields)):
        raise ValidationError({name: [f"There is no such field; the fields are {', '.join(form.fields)}."] for name in unknown})
    checked: dict[str, Any] = form.validated_data
    return checked
