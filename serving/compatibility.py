"""Whether callers of one version may meet another: the same columns in, the same columns out. Pure."""

from __future__ import annotations

from registry.signature import Feature, Layout, Signature, Tensor


def differences(live: Signature, new: Signature) -> list[str]:
    """List, in words that name the columns, what callers of ``live`` would stumble over at ``new``; empty: nothing.

    Bounds, categories and examples may differ. The order of the features matters only where callers
    send them as one matrix.
    """
    found = _features(live.features, new.features)
    if not found and live.layout == new.layout == Layout.MATRIX:
        found = _order(live.features, new.features)
    return found + _tensors("input", live.inputs, new.inputs) + _tensors("output", live.outputs, new.outputs)


def _features(live: tuple[Feature, ...], new: tuple[Feature, ...]) -> list[str]:
    before = {feature.name: feature.kind for feature in live}
    after = {feature.name: feature.kind for feature in new}
    found = [f"column {name} is missing" for name in before if name not in after]
    found += [f"column {name} is new" for name in after if name not in before]
    found += [f"column {name} is {after[name]}, not {before[name]}" for name in before if name in after and before[name] != after[name]]
    return found


def _order(live: tuple[Feature, ...], new: tuple[Feature, ...]) -> list[str]:
    for place, (before, after) in enumerate(zip(live, new, strict=True), start=1):
        if before.name != after.name:
            return [f"the columns are in another order: number {place} is {after.name}, not {before.name}"]
    return []


def _tensors(direction: str, live: tuple[Tensor, ...], new: tuple[Tensor, ...]) -> list[str]:
    before = {tensor.name for tensor in live}
    after = {tensor.name for tensor in new}
    found = [f"{direction} {name} is missing" for name in sorted(before - after)]
    return found + [f"{direction} {name} is new" for name in sorted(after - before)]
