"""The actor of an HTTP request, for pages and for the REST API alike."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser

from access.actors import Actor
from access.models import Person
from access.people import actor_of
from core import request_ids
from core.errors import NotSignedIn

REQUEST_ID = "signalbox.request_id"
"""Where the request's id stands in ``request.META``; ``console.observe`` puts it there."""
_KEPT = "_signalbox_actor"


class KeyPrincipal:
    """What ``request.user`` is when a program called with an API key."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.pk = actor.id
        self.username = actor.name

    def __str__(self) -> str:
        return self.username


def address_of(request: Any) -> str:
    """Give the address that the request came from."""
    return str(request.META.get("REMOTE_ADDR", ""))


def request_id_of(request: Any) -> str:
    """Give the id of a request, which its answer carries as X-Request-Id; a new one outside of the console."""
    return str(request.META.get(REQUEST_ID) or request_ids.fresh())


def request_actor(request: Any) -> Actor:
    """Give the actor of a Django or DRF request, made once per request; raises NotSignedIn."""
    user = request.user
    if isinstance(user, KeyPrincipal):
        return user.actor
    if isinstance(user, AnonymousUser) or not user.is_authenticated:
        raise NotSignedIn("Sign in, or send an API key as `Authorization: Bearer sbx_...`.")
    request = getattr(request, "_request", request)
    actor: Actor | None = getattr(request, _KEPT, None)
    if actor is None or actor.id != f"person:{user.pk}":
        person = user if isinstance(user, Person) else Person.objects.get(pk=user.pk)
        actor = actor_of(person, address_of(request))
        setattr(request, _KEPT, actor)
    return actor
