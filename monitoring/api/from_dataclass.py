"""Serializers made from the queries' dataclasses, so that the API's document and its answers cannot differ.

Where an answer is too large for them (``views.DriftView``) a test holds that it is what they would make.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from rest_framework import serializers

_FIELDS: dict[Any, type[serializers.Field[Any, Any, Any, Any]]] = {
    str: serializers.CharField,
    int: serializers.IntegerField,
    float: serializers.FloatField,
    bool: serializers.BooleanField,
    datetime: serializers.DateTimeField,
    Any: serializers.JSONField,
}
_NAMES = {"Mark": "LedgerMark"}  # in the schema, where serving has a Mark of its own


@cache
def serializer_of(shape: type) -> type[serializers.Serializer[Any]]:
    """Give the serializer of a dataclass, nested ones too; properties are not part of it."""
    hints = get_type_hints(shape)
    members: dict[str, Any] = {field.name: _field(hints[field.name], required=field.default is MISSING) for field in fields(shape)}
    name = _NAMES.get(shape.__name__, shape.__name__)
    return type(name, (serializers.Serializer,), {**members, "__doc__": shape.__doc__, "__module__": shape.__module__})


def _field(hint: Any, *, required: bool = True, null: bool = False) -> serializers.Field[Any, Any, Any, Any]:
    options: dict[str, Any] = {"required": required, "allow_null": null}
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _field(next(one for one in inner if one is not NoneType), required=required, null=True)
    if origin is tuple and is_dataclass(inner[0]) and isinstance(inner[0], type):
        return serializer_of(inner[0])(many=True, **options)
    if origin is tuple:
        return serializers.ListField(child=_field(inner[0]), **options)
    if origin is dict:
        return serializers.DictField(child=_field(inner[1]), **options)
    if is_dataclass(hint) and isinstance(hint, type):
        return serializer_of(hint)(**options)
    return _FIELDS[hint](**options)
