"""Why a version must not be deleted: it is in a slot, or in the latest change of an endpoint's ledger."""

from __future__ import annotations

from registry.models import Version
from serving import ledger
from serving.models import LedgerEntry, Slot


def why_held(version: Version) -> str:
    """Say where ``version`` is needed, or give the empty string. Two queries."""
    slots = Slot.objects.filter(build__version=version).order_by("endpoint__name", "name").values_list("endpoint__name", "name")
    places = [f"it is in the slot {slot} of {endpoint}" for endpoint, slot in slots]
    moved = LedgerEntry.objects.exclude(verb__in=["create", "edit", "load", "unload"]).order_by("endpoint", "-revision").distinct("endpoint")
    held = {endpoint for endpoint, _ in slots}
    for name, before in moved.values_list("endpoint__name", "before"):
        named = ((slot.model, slot.version) for slot in ledger.as_state(before).slots)
        if name not in held and (version.model.name, version.number) in named:
            places.append(f"the state of {name} before its latest change has it, and a roll back may need it")
    return "; ".join(places)
