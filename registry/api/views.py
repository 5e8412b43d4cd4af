"""REST views of models and versions: parse, call the verb or query, answer."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.api.bodies import body_of, parameters_of
from access.api.paging import PARAMETERS, answer, cursor_and_limit, paged
from access.api.permissions import reading_needs
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from core.errors import TooLarge
from registry import aliases, archive, delete, download, edit, find, queries
from registry.api import serializers
from registry.compare import compare
from registry.compare_answers import compare_answers
from registry.models import Version
from registry.recheck import recheck_version
from registry.register import register_version

_VIEW = reading_needs(Right.MODEL_VIEW, "model")
_FORM_BYTES = 2**20  # what a form may have beside its files


class ModelsView(APIView):
    permission_classes = _VIEW

    @extend_schema(parameters=[serializers.ModelsFilter, *PARAMETERS], responses=paged(serializers.ModelOut), summary="List models", tags=["models"])
    def get(self, request: Request) -> Response:
        wanted = parameters_of(request, serializers.ModelsFilter)
        cursor, limit = cursor_and_limit(request)
        return answer(queries.models_page(**wanted, cursor=cursor, limit=limit), serializers.ModelOut)


class ModelView(APIView):
    permission_classes = _VIEW

    @extend_schema(responses=serializers.ModelDetailOut, summary="Show a model", tags=["models"])
    def get(self, request: Request, name: str) -> Response:
        return Response(serializers.ModelDetailOut(queries.model_detail(name)).data)

    @extend_schema(request=serializers.ModelChange, responses=serializers.ModelDetailOut, summary="Edit description and tags", tags=["models"])
    def patch(self, request: Request, name: str) -> Response:
        edit.edit_model(actor=request_actor(request), model=name, **body_of(request, serializers.ModelChange))
        return self.get(request, name)

    @extend_schema(responses={204: None}, summary="Delete a model without versions", tags=["models"])
    def delete(self, request: Request, name: str) -> Response:
        delete.delete_model(actor=request_actor(request), model=name)
        return Response(status=204)


class ModelArchiveView(APIView):
    """Archives, or with ``archived=False`` restores."""

    permission_classes = _VIEW
    archived: ClassVar[bool] = True

    @extend_schema(request=serializers.Reason, responses=serializers.ModelDetailOut, summary="Archive or restore a model", tags=["models"])
    def post(self, request: Request, name: str) -> Response:
        archive.archive_model(actor=request_actor(request), model=name, archived=self.archived, **body_of(request, serializers.Reason))
        return Response(serializers.ModelDetailOut(queries.model_detail(name)).data)


class VersionsView(APIView):
    permission_classes = _VIEW
    parser_classes = [MultiPartParser]

    @extend_schema(parameters=[serializers.VersionsFilter, *PARAMETERS], responses=paged(serializers.VersionOut), summary="List versions", tags=["versions"])
    def get(self, request: Request, name: str) -> Response:
        wanted = parameters_of(request, serializers.VersionsFilter)
        cursor, limit = cursor_and_limit(request)
        return answer(queries.versions_page(name, **wanted, cursor=cursor, limit=limit), serializers.VersionOut)

    @extend_schema(
        request={"multipart/form-data": serializers.VersionIn},
        responses={202: serializers.VersionDetailOut},
        summary="Register a version",
        description="Answers at once; the check goes on in a worker. Ask for the version until its `state` is no longer `checking`.",
        tags=["versions"],
    )
    def post(self, request: Request, name: str) -> Response:
        # Before a byte of the body is read: whoever may not register must not fill the disk either.
        require(request_actor(request), Right.MODEL_REGISTER, f"model:{name}")
        _refuse_large(request)
        form = body_of(request, serializers.VersionIn)
        file, sample = form.pop("file"), form.pop("sample", None)
        version = register_version(
            actor=request_actor(request),
            model_name=name,
            file=file,
            filename=file.name,
            sample=sample,
            sample_filename=sample.name if sample else "",
            **form,
        )
        return _version(version, 202)


class VersionView(APIView):
    permission_classes = _VIEW

    @extend_schema(responses=serializers.VersionDetailOut, summary="Show a version", tags=["versions"])
    def get(self, request: Request, name: str, number: int) -> Response:
        return _version(find.version_numbered(name, number))

    @extend_schema(request=serializers.VersionChange, responses=serializers.VersionDetailOut, summary="Edit description, tags and metrics", tags=["versions"])
    def patch(self, request: Request, name: str, number: int) -> Response:
        body = body_of(request, serializers.VersionChange)
        return _version(edit.edit_version(actor=request_actor(request), model=name, version=number, **body))

    @extend_schema(responses={204: None}, summary="Delete a version", tags=["versions"])
    def delete(self, request: Request, name: str, number: int) -> Response:
        delete.delete_version(actor=request_actor(request), model=name, version=number)
        return Response(status=204)


class VersionArchiveView(APIView):
    """Archives, or with ``archived=False`` restores."""

    permission_classes = _VIEW
    archived: ClassVar[bool] = True

    @extend_schema(request=serializers.Reason, responses=serializers.VersionDetailOut, summary="Archive or restore a version", tags=["versions"])
    def post(self, request: Request, name: str, number: int) -> Response:
        body = body_of(request, serializers.Reason)
        return _version(archive.archive_version(actor=request_actor(request), model=name, version=number, archived=self.archived, **body))


class RecheckView(APIView):
    permission_classes = _VIEW

    @extend_schema(request=None, responses={202: serializers.VersionDetailOut}, summary="Check a version again", tags=["versions"])
    def post(self, request: Request, name: str, number: int) -> Response:
        return _version(recheck_version(actor=request_actor(request), model=name, version=number), 202)


class DownloadView(APIView):
    permission_classes = reading_needs(Right.MODEL_DOWNLOAD, "model")

    @extend_schema(
        parameters=[serializers.DownloadIn], responses={(200, "application/octet-stream"): OpenApiTypes.BINARY}, summary="Download a file", tags=["versions"]
    )
    def get(self, request: Request, name: str, number: int) -> FileResponse:
        wanted = parameters_of(request, serializers.DownloadIn)
        given = download.download(actor=request_actor(request), model=name, version=number, **wanted)
        headers = {"X-Content-Type-Options": "nosniff", "ETag": f'"{given.digest}"', "Cache-Control": "private, no-store"}
        return FileResponse(given.file, as_attachment=True, filename=given.filename, content_type="application/octet-stream", headers=headers)


class AliasesView(APIView):
    permission_classes = _VIEW

    @extend_schema(responses=serializers.AliasesOut, summary="List aliases", tags=["models"])
    def get(self, request: Request, name: str) -> Response:
        return Response({"results": serializers.AliasOut(queries.aliases_of(name), many=True).data})


class AliasView(APIView):
    permission_classes = _VIEW

    @extend_schema(responses=serializers.AliasOut, summary="Show an alias", tags=["models"])
    def get(self, request: Request, name: str, alias: str) -> Response:
        return Response(serializers.AliasOut(find.alias_named(find.model_named(name), alias)).data)

    @extend_schema(request=serializers.AliasIn, responses=serializers.AliasOut, summary="Put an alias on a version", tags=["models"])
    def put(self, request: Request, name: str, alias: str) -> Response:
        body = body_of(request, serializers.AliasIn)
        return Response(serializers.AliasOut(aliases.set_alias(actor=request_actor(request), model=name, alias=alias, **body)).data)

    @extend_schema(parameters=[serializers.SeenIn], responses={204: None}, summary="Remove an alias", tags=["models"])
    def delete(self, request: Request, name: str, alias: str) -> Response:
        aliases.remove_alias(actor=request_actor(request), model=name, alias=alias, **parameters_of(request, serializers.SeenIn))
        return Response(status=204)


class CompareView(APIView):
    permission_classes = _VIEW

    @extend_schema(parameters=[serializers.CompareIn], responses=serializers.ComparisonOut, summary="Compare two versions", tags=["versions"])
    def get(self, request: Request, name: str) -> Response:
        return Response(serializers.ComparisonOut(compare(name, **parameters_of(request, serializers.CompareIn))).data)

    @extend_schema(request=serializers.CompareIn, responses={202: serializers.ComparisonOut}, summary="Compare the answers of two versions", tags=["versions"])
    def post(self, request: Request, name: str) -> Response:
        wanted = body_of(request, serializers.CompareIn)
        compare_answers(actor=request_actor(request), model=name, **wanted)
        return Response(serializers.ComparisonOut(compare(name, **wanted)).data, status=202)


def _version(version: Version, status: int = 200) -> Response:
    return Response(serializers.VersionDetailOut(version).data, status=status)


def _refuse_large(request: Request) -> None:
    """Refuse by the length that the request says, before a byte of it is read."""
    limit = settings.ENVIRONMENT.upload_limit_bytes
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdigit() and int(length) > limit + _FORM_BYTES:
        raise TooLarge(f"The upload is larger than {limit:,} bytes, the limit here (SIGNALBOX_UPLOAD_LIMIT_BYTES). Nothing was kept.")
