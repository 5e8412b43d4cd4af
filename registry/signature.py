"""The signature: what a version takes and gives. Pure values; sent as JSON, checked while decoding."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What values a feature has, in words a person uses; the tensor's datatype follows from the build."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXT = "text"

    @property
    def words(self) -> str:
        """What such a feature takes."""
        return {Kind.NUMBER: "a number", Kind.INTEGER: "a whole number", Kind.BOOLEAN: "true or false", Kind.TEXT: "a text"}[self]


class Feature(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input column. Bounds and categories are those seen in the sample; ``missing`` allows null."""

    name: str
    kind: Kind
    missing: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    example: float | int | str | bool | None = None
    typical: float | str | None = None
    """The median, or the most frequent category: what the policy ``replace`` puts in."""


class Tensor(msgspec.Struct, frozen=True):
    """A tensor as the Open Inference Protocol names it; -1 is the number of rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Layout(StrEnum):
    """How rows become tensors: one matrix with a column per feature, or one [-1, 1] tensor per feature."""

    MATRIX = "matrix"
    COLUMNS = "columns"


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """The whole signature. ``labels`` are the classes in the order of the probabilities, if it classifies."""

    layout: Layout
    features: tuple[Feature, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...] | None = None
    task: str = "regression"
    """``classification``, ``regression``, ``outliers`` or ``transform``."""
