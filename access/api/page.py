"""The page that shows the OpenAPI document and tries it out, under the strict content policy: nothing inline."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
@login_required
def page(request: HttpRequest) -> HttpResponse:
    """Swagger UI; its requests carry the session of whoever looks at it, or a key that is put in."""
    here = settings.ENVIRONMENT
    return render(request, "api/page.html", {"grpc_address": here.grpc_address if here.grpc_port else ""})
