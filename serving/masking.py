"""Masked inputs: what an endpoint keeps from whoever lacks ``predictions.unmask``.

The log holds every value; readers leave the masked ones out. So a policy holds for what was logged before it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from access.actors import Actor
from access.permissions import require
from access.rights import Right
from core.errors import Invalid
from registry.models import Version
from registry.storable import storable_text
from serving.models import Endpoint, Slot

_INPUT = "in."


@dataclass(frozen=True, slots=True)
class Mask:
    """The features that a reader may not see; ``everything``: no input at all."""

    features: frozenset[str] = frozenset()
    everything: bool = False

    def hides(self, column: pa.Field) -> bool:
        """Tell whether a column of the log, such as ``in.age``, is a masked input, or a whole tensor whose lists may hold one."""
        if not column.name.startswith(_INPUT) or not (self.everything or self.features):
            return False
        return self.everything or pa.types.is_nested(column.type) or column.name.removeprefix(_INPUT) in self.features

    def lift_off(self, table: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
        """Give decoded rows without the masked inputs, and the names of the features that were taken out."""
        hidden = [column.name for column in table.schema if self.hides(column)]
        return (table.drop_columns(hidden) if hidden else table), tuple(name.removeprefix(_INPUT) for name in hidden)


NOTHING = Mask()


def mask_for(actor: Actor, endpoint: str) -> Mask:
    """Give what ``actor`` may not see of the inputs at ``endpoint``: everything, where it is deleted and its policy with it.

    One query; none for whoever may unmask.
    """
    if actor.may(Right.PREDICTIONS_UNMASK, f"endpoint:{endpoint}"):
        return NOTHING
    policy = Endpoint.objects.filter(name=endpoint).values_list("masked_inputs", flat=True).first()
    return Mask(everything=True) if policy is None else Mask(frozenset(policy))


def checked_masked_inputs(names: Sequence[str]) -> list[str]:
    """Give the names sorted, each once; raise Invalid for what is no list of names."""
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise Invalid('The masked inputs are not a list of names. It looks like ["age", "income"]; [] masks none.', field="masked_inputs")
    return sorted({storable_text(name) for name in names})


def require_change(actor: Actor, endpoint: Endpoint, becomes: Sequence[str]) -> None:
    """Return if ``actor`` may make ``becomes`` the masked inputs of the locked ``endpoint``.

    Raises Forbidden where a mask is taken off without the right to see what is under it, and Invalid for a
    feature that no registered version has: ahead of a deployment, any version's may be masked.
    """
    if set(endpoint.masked_inputs) - set(becomes):
        require(actor, Right.PREDICTIONS_UNMASK, endpoint.subject)
    there = _features_of_slots(endpoint)
    for name in sorted(set(becomes) - set(endpoint.masked_inputs) - set(there)):
        if not Version.objects.filter(signature__features__contains=[{"name": name}]).exists():
            have = f" Those in its slots have {', '.join(there)[:400]}." if there else ""
            raise Invalid(f"No registered version has a feature {name[:100]!r}, so it cannot be masked.{have} Nothing was changed.", field="masked_inputs")


def _features_of_slots(endpoint: Endpoint) -> list[str]:
    signatures = Slot.objects.filter(endpoint=endpoint, build__isnull=False).order_by("name").values_list("build__version__signature", flat=True)
    return list(dict.fromkeys(feature["name"] for signature in signatures if signature for feature in signature["features"]))
