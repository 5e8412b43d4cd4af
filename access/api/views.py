"""REST views of people, keys and the audit log: parse, call the verb or query, answer."""

from __future__ import annotations

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access import keys, people, queries
from access.api import serializers
from access.api.bodies import body_of, parameters_of
from access.api.paging import PARAMETERS, answer, cursor_and_limit, paged
from access.api.permissions import reading_needs
from access.requests import request_actor
from access.rights import Right
from access.sign_in import invite, link_path


class MeView(APIView):
    permission_classes = [IsAuthenticated]

    @extend_schema(responses=serializers.Me, summary="Who am I?", tags=["access"])
    def get(self, request: Request) -> Response:
        actor = request_actor(request)
        rights = {subject: sorted(held) for subject, held in actor.rights.items()}
        return Response({"kind": actor.kind, "name": actor.name, "predict_url": settings.ENVIRONMENT.predict_url, "rights": rights})


class KeysView(APIView):
    permission_classes = reading_needs(Right.KEY_MANAGE)

    @extend_schema(parameters=[serializers.KeysFilter, *PARAMETERS], responses=paged(serializers.KeyOut), summary="List API keys", tags=["access"])
    def get(self, request: Request) -> Response:
        wanted = parameters_of(request, serializers.KeysFilter)
        cursor, limit = cursor_and_limit(request)
        return answer(queries.keys_page(**wanted, cursor=cursor, limit=limit), serializers.KeyOut)

    @extend_schema(request=serializers.KeyIn, responses={201: serializers.KeyIssued}, summary="Issue an API key", tags=["access"])
    def post(self, request: Request) -> Response:
        issued = keys.create_key(actor=request_actor(request), **body_of(request, serializers.KeyIn))
        return Response({**serializers.KeyOut(issued.key).data, "key": issued.text}, status=201, headers={"Cache-Control": "no-store"})


class KeyView(APIView):
    permission_classes = reading_needs(Right.KEY_MANAGE)

    @extend_schema(responses=serializers.KeyOut, summary="Show an API key", tags=["access"])
    def get(self, request: Request, key_id: str) -> Response:
        return Response(serializers.KeyOut(queries.key_with_id(key_id)).data)

    @extend_schema(request=serializers.KeyChange, responses=serializers.KeyOut, summary="Limit an API key", tags=["access"])
    def patch(self, request: Request, key_id: str) -> Response:
        key = keys.limit_key(actor=request_actor(request), key_id=key_id, **body_of(request, serializers.KeyChange))
        return Response(serializers.KeyOut(key).data)

    @extend_schema(responses={204: None}, summary="Revoke an API key", tags=["access"])
    def delete(self, request: Request, key_id: str) -> Response:
        keys.revoke_key(actor=request_actor(request), key_id=key_id)
        return Response(status=204)


class PeopleView(APIView):
    permission_classes = reading_needs(Right.PEOPLE_MANAGE)

    @extend_schema(parameters=[serializers.PeopleFilter, *PARAMETERS], responses=paged(serializers.PersonOut), summary="List people", tags=["access"])
    def get(self, request: Request) -> Response:
        wanted = parameters_of(request, serializers.PeopleFilter)
        cursor, limit = cursor_and_limit(request)
        return answer(queries.people_page(**wanted, cursor=cursor, limit=limit), serializers.PersonOut)

    @extend_schema(request=serializers.PersonIn, responses={201: serializers.PersonOut}, summary="Add a person", tags=["access"])
    def post(self, request: Request) -> Response:
        person = people.create_person(actor=request_actor(request), **body_of(request, serializers.PersonIn))
        return Response(serializers.PersonOut(person).data, status=201)


class PersonView(APIView):
    permission_classes = reading_needs(Right.PEOPLE_MANAGE)

    @extend_schema(responses=serializers.PersonOut, summary="Show a person", tags=["access"])
    def get(self, request: Request, username: str) -> Response:
        return Response(serializers.PersonOut(queries.person_named(username)).data)

    @extend_schema(request=serializers.PersonChange, responses=serializers.PersonOut, summary="Change role, or lock out and in", tags=["access"])
    def patch(self, request: Request, username: str) -> Response:
        people.change_person(actor=request_actor(request), username=username, **body_of(request, serializers.PersonChange))
        return Response(serializers.PersonOut(queries.person_named(username)).data)


class SignInLinkView(APIView):
    permission_classes = reading_needs(Right.PEOPLE_MANAGE)

    @extend_schema(request=None, responses={201: serializers.SignInLinkOut}, summary="Make a sign-in link", tags=["access"])
    def post(self, request: Request, username: str) -> Response:
        token = invite(actor=request_actor(request), username=username)
        url = request.build_absolute_uri(link_path(token))
        return Response({"url": url}, status=201, headers={"Cache-Control": "no-store"})


class GrantsView(APIView):
    permission_classes = reading_needs(Right.PEOPLE_MANAGE)

    @extend_schema(request=serializers.GrantIn, responses={201: serializers.GrantOut}, summary="Grant a role on a model or endpoint", tags=["access"])
    def post(self, request: Request, username: str) -> Response:
        grant = people.add_grant(actor=request_actor(request), username=username, **body_of(request, serializers.GrantIn))
        return Response(serializers.GrantOut(grant).data, status=201)


class GrantView(APIView):
    permission_classes = reading_needs(Right.PEOPLE_MANAGE)

    @extend_schema(responses={204: None}, summary="Take a grant away", tags=["access"])
    def delete(self, request: Request, username: str, subject_kind: str, subject_name: str) -> Response:
        people.remove_grant(actor=request_actor(request), username=username, subject_kind=subject_kind, subject_name=subject_name)
        return Response(status=204)


class AuditView(APIView):
    permission_classes = reading_needs(Right.AUDIT_VIEW)

    @extend_schema(parameters=[serializers.AuditFilterIn, *PARAMETERS], responses=paged(serializers.AuditOut), summary="Read the audit log", tags=["access"])
    def get(self, request: Request) -> Response:
        wanted = queries.AuditFilter(**parameters_of(request, serializers.AuditFilterIn))
        cursor, limit = cursor_and_limit(request)
        return answer(queries.audit_page(wanted, cursor=cursor, limit=limit), serializers.AuditOut)
