"""Keyset paging for REST lists: ``{"results": [...], "next": cursor or null}``, with ``?cursor=`` and ``?limit=``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from core.errors import Invalid
from core.paging import MOST_ROWS, ROWS, Page, Sorts, page_of

PARAMETERS = [
    OpenApiParameter("cursor", str, description="Where the page begins: `next` of the page before."),
    OpenApiParameter("limit", int, description=f"Rows of a page, 1 to {MOST_ROWS}; {ROWS} if not given."),
]


class SortField(serializers.ChoiceField):
    """``?sort=`` of a list. Its words are for the schema; the list itself refuses others, as it does on its page."""

    def __init__(self, sorts: Sorts) -> None:
        super().__init__(choices=sorts.words, required=False, default=sorts.default, allow_blank=True, help_text="With `-` before it: falling.")

    def to_internal_value(self, data: object) -> str:
        return str(data)


def cursor_and_limit(request: Request) -> tuple[str | None, int]:
    """Read ``?cursor=`` and ``?limit=``; raises Invalid for a limit out of range."""
    text = request.query_params.get("limit", str(ROWS))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
    if not 1 <= limit <= MOST_ROWS:
        raise Invalid(f"limit must be a whole number from 1 to {MOST_ROWS}, not {text[:20]!r}.")
    return request.query_params.get("cursor") or None, limit


def answer(page: Page[Any], serializer: type[serializers.BaseSerializer[Any]]) -> Response:
    """Answer one page, each row written by ``serializer``."""
    return Response({"results": serializer(page.results, many=True).data, "next": page.next})


def paged(serializer: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """Give the schema of a page of ``serializer``, for ``extend_schema(responses=...)``."""
    fields = {"results": serializer(many=True), "next": serializers.CharField(allow_null=True)}
    return inline_serializer(f"{serializer.__name__}Page", fields)


class KeysetPagination(BasePagination):
    """For generic views: the view's ``ordering`` (or the queryset's own) is the key; its last field is unique."""

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        cursor, limit = cursor_and_limit(request)
        order: Sequence[str] = getattr(view, "ordering", None) or queryset.query.order_by or queryset.model._meta.ordering  # noqa: SLF001  # _meta is documented API
        self.page = page_of(queryset, order=order, cursor=cursor, limit=limit)
        return list(self.page.results)

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.page.next})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        properties = {"results": schema, "next": {"type": "string", "nullable": True}}
        return {"type": "object", "required": ["results", "next"], "properties": properties}

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        return [
            {"name": parameter.name, "required": False, "in": "query", "description": parameter.description, "schema": {"type": kind}}
            for parameter, kind in zip(PARAMETERS, ("string", "integer"), strict=True)
        ]
