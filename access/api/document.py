"""The OpenAPI document: made once per process, since it depends on the release alone and not on who asks."""

from __future__ import annotations

from functools import cache

from django.http import HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiJsonRenderer2, OpenApiYamlRenderer, OpenApiYamlRenderer2
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from core.digests import digest_of


class DocumentView(APIView):
    """YAML or JSON, by ``Accept`` or ``?format=``; a client that has it already is answered 304."""

    permission_classes = [IsAuthenticated]
    renderer_classes = [OpenApiYamlRenderer, OpenApiYamlRenderer2, OpenApiJsonRenderer, OpenApiJsonRenderer2]
    schema = None

    def get(self, request: Request) -> HttpResponseBase:
        renderer = request.accepted_renderer
        content, tag = _rendered(renderer.format)
        response = get_conditional_response(request, etag=tag)
        if response is None:
            response = HttpResponse(content, content_type=renderer.media_type)
        response["ETag"] = tag
        response["Cache-Control"] = "private, no-cache"
        return response


@cache
def _rendered(form: str) -> tuple[bytes, str]:
    """Give the document as ``yaml`` or ``json``, and its entity tag. Two threads may make it at once, and make the same."""
    document = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # untyped there
    renderer = OpenApiJsonRenderer() if form == "json" else OpenApiYamlRenderer()
    text = renderer.render(document)
    content = text.encode() if isinstance(text, str) else text
    return content, f'"{digest_of(content)[:32]}"'
