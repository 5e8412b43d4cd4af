"""REST views that change what answers: parse, call the verb, answer the endpoint as it stands now."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.api.bodies import body_of, parameters_of
from access.api.paging import PARAMETERS, answer, cursor_and_limit, paged
from access.api.permissions import reading_needs
from access.permissions import require
from access.requests import request_actor
from access.rights import Right
from serving import queries
from serving.api import serializers
from serving.create_endpoint import create_endpoint
from serving.delete_endpoint import delete_endpoint
from serving.deploy import deploy
from serving.edit_endpoint import edit_endpoint
from serving.empty_slot import empty_slot
from serving.load import load
from serving.promote import promote
from serving.roll_back import roll_back
from serving.split import split
from serving.unload import unload

_TAGS = ["serving"]


def _endpoint(name: str, status: int = 200) -> Response:
    return Response(serializers.EndpointOut(queries.endpoint_detail(name)).data, status=status)


class EndpointsView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(
        operation_id="list_endpoints",
        parameters=[serializers.EndpointsIn, *PARAMETERS],
        responses=paged(serializers.EndpointRow),
        summary="List endpoints",
        tags=_TAGS,
    )
    def get(self, request: Request) -> Response:
        actor = request_actor(request)
        allowed = [subject.removeprefix("endpoint:") for subject, rights in actor.rights.items() if Right.ENDPOINT_VIEW in rights]
        if not allowed:
            require(actor, Right.ENDPOINT_VIEW)
        names = None if actor.may(Right.ENDPOINT_VIEW) else allowed
        cursor, limit = cursor_and_limit(request)
        page = queries.endpoints_page(**parameters_of(request, serializers.EndpointsIn), cursor=cursor, limit=limit, names=names)
        return answer(page, serializers.EndpointRow)

    @extend_schema(
        operation_id="create_endpoint", request=serializers.EndpointIn, responses={201: serializers.EndpointOut}, summary="Create an endpoint", tags=_TAGS
    )
    def post(self, request: Request) -> Response:
        endpoint = create_endpoint(actor=request_actor(request), **body_of(request, serializers.EndpointIn))
        return _endpoint(endpoint.name, 201)


class EndpointView(APIView):
    permission_classes = reading_needs(Right.ENDPOINT_VIEW, "endpoint")

    @extend_schema(operation_id="get_endpoint", responses=serializers.EndpointOut, summary="Show an endpoint", tags=_TAGS)
    def get(self, request: Request, name: str) -> Response:
        return _endpoint(name)

    @extend_schema(
        operation_id="edit_endpoint", request=serializers.EndpointChange, responses=serializers.EndpointOut, summary="Edit an endpoint's settings", tags=_TAGS
    )
    def patch(self, request: Request, name: str) -> Response:
        body = body_of(request, serializers.EndpointChange)
        revision, reason = body.pop("revision"), body.pop("reason")
        edit_endpoint(actor=request_actor(request), endpoint=name, changes=body, revision=revision, reason=reason)
        return _endpoint(name)

    @extend_schema(operation_id="delete_endpoint", parameters=[serializers.DeleteIn], responses={204: None}, summary="Delete an endpoint", tags=_TAGS)
    def delete(self, request: Request, name: str) -> Response:
        delete_endpoint(actor=request_actor(request), endpoint=name, **parameters_of(request, serializers.DeleteIn))
        return Response(status=204)


class _VerbView(APIView):
    permission_classes = [IsAuthenticated]

    def act(self, verb: Any, body: Any, request: Request, name: str) -> Response:
        """Call ``verb`` with what the body says; answer the endpoint."""
        verb(actor=request_actor(request), endpoint=name, **body_of(request, body))
        return _endpoint(name)


class DeployView(_VerbView):
    @extend_schema(
        operation_id="deploy", request=serializers.DeployIn, responses=serializers.EndpointOut, summary="Put a version into a slot and warm it", tags=_TAGS
    )
    def post(self, request: Request, name: str) -> Response:
        return self.act(deploy, serializers.DeployIn, request, name)


class EmptySlotView(_VerbView):
    @extend_schema(
        operation_id="empty_slot", request=serializers.EmptySlotIn, responses=serializers.EndpointOut, summary="Take a version out of a slot", tags=_TAGS
    )
    def post(self, request: Request, name: str) -> Response:
        return self.act(empty_slot, serializers.EmptySlotIn, request, name)


class SplitView(_VerbView):
    @extend_schema(operation_id="split", request=serializers.SplitIn, responses=serializers.EndpointOut, summary="Split the traffic between slots", tags=_TAGS)
    def post(self, request: Request, name: str) -> Response:
        return self.act(split, serializers.SplitIn, request, name)


class PromoteView(_VerbView):
    @extend_schema(
        operation_id="promote", request=serializers.PromoteIn, responses=serializers.EndpointOut, summary="Give the candidate all traffic", tags=_TAGS
    )
    def post(self, request: Request, name: str) -> Response:
        return self.act(promote, serializers.PromoteIn, request, name)


class RollBackView(_VerbView):
    @extend_schema(operation_id="roll_back", request=serializers.RollBackIn, responses=serializers.EndpointOut, summary="Apply an earlier state", tags=_TAGS)
    def post(self, request: Request, name: str) -> Response:
        return self.act(roll_back, serializers.RollBackIn, request, name)


class LoadView(_VerbView):
    @extend_schema(
        operation_id="load", request=serializers.LoadIn, responses=serializers.EndpointOut, summary="Put an unloaded endpoint back into service", tags=_TAGS
    )
    def post(self, request: Request, name: str) -> Response:
        return self.act(load, serializers.LoadIn, request, name)


class UnloadView(_VerbView):
    @extend_schema(operation_id="unload", request=serializers.LoadIn, responses=serializers.EndpointOut, summary="Take an endpoint out of service", tags=_TAGS)
    def post(self, request: Request, name: str) -> Response:
        return self.act(unload, serializers.LoadIn, request, name)
