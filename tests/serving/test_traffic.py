"""Arithmetic of splits, of the choice of a slot, and of the undo history."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.history import Past, target_of_roll_back, undo_stack
from serving.traffic import RoutingState, SlotState, choose, with_weights, wrong_with_split

KEYS = [f"customer-{number}".encode() for number in range(4000)]


def state(live: str = "blue", **weights: int) -> RoutingState:
    slots = tuple(
        SlotState(name=name, build_id=f"build-{name}", model="churn", version=len(name), build_kind="onnx", weight=weight) for name, weight in weights.items()
    )
    return RoutingState(live_slot=live, slots=slots)


@st.composite
def splits(draw: st.DrawFn) -> dict[str, int]:
    """Two to five slots whose whole-percent shares sum to 100."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=1, max_size=4)))
    edges = [0, *cuts, 100]
    return {f"slot-{place}": high - low for place, (low, high) in enumerate(pairwise(edges))}


@given(splits())
def test_shares_that_sum_to_100_are_a_split(weights):
    assert wrong_with_split(weights) == ""


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 100)))
def test_whatever_else_is_not(weights):
    assert (wrong_with_split(weights) == "") == (sum(weights.values()) == 100)


@settings(max_examples=40)
@given(splits())
def test_each_slot_gets_its_share_of_4000_callers(weights):
    slots = list(weights.items())
    counted = Counter(slots[choose(key, slots)][0] for key in KEYS)
    for name, weight in slots:
        # Five standard deviations of a binomial: a false alarm once in a million.
        share = weight / 100
        assert abs(counted[name] - 4000 * share) <= 5 * (4000 * share * (1 - share)) ** 0.5


@settings(max_examples=60)
@given(st.integers(0, 100), st.integers(0, 100))
def test_raising_greens_share_only_moves_callers_to_green(one, other):
    low, high = sorted((one, other))
    before = [("blue", 100 - low), ("green", low)]
    after = [("blue", 100 - high), ("green", high)]
    for key in KEYS[:500]:
        if choose(key, before) == 1:
            assert choose(key, after) == 1


@settings(max_examples=40)
@given(splits(), st.data())
def test_raising_one_of_many_moves_callers_to_it_alone(weights, data):
    """The others keep their proportions when their weights stay: rendezvous hashing scores each slot by itself."""
    slots = list(weights.items())
    chosen = data.draw(st.integers(0, len(slots) - 1))
    raised = [(name, min(99, weight + 7) if place == chosen else weight) for place, (name, weight) in enumerate(slots)]
    for key in KEYS[:300]:
        was = choose(key, [(name, min(weight, 99)) for name, weight in slots])
        assert choose(key, raised) in {was, chosen}


def test_the_choice_is_stable_over_releases():
    """Callers must not move when Signalbox is updated."""
    slots = [("blue", 50), ("green", 50)]
    assert [choose(key, slots) for key in KEYS[:16]] == [1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0]


def test_without_traffic_there_is_no_choice():
    with pytest.raises(ValueError, match="no slot has traffic"):
        choose(b"anybody", [("blue", 0)])


def test_a_slot_without_weight_is_never_chosen():
    assert {choose(key, [("blue", 0), ("green", 60), ("red", 40)]) for key in KEYS[:500]} == {1, 2}


@given(splits())
def test_new_shares_leave_everything_else(weights):
    before = state("slot-0", **dict.fromkeys(weights, 0))
    after = with_weights(before, weights)
    assert {slot.name: slot.weight for slot in after.slots} == weights
    assert [slot.build_id for slot in after.slots] == [slot.build_id for slot in before.slots]
    live = after.slot(after.live_slot)
    assert live is not None
    assert live.weight > 0


def test_answers_are_the_same_wherever_the_build_is():
    assert state(blue=100, green=0).answering == (("build-blue", 100),)
    assert state(blue=90, green=10).answering == (("build-blue", 90), ("build-green", 10))
    assert state(blue=90, green=10).is_steady is False


def test_versions_of_several_models_are_told_apart():
    two = RoutingState(
        live_slot="blue",
        slots=(
            SlotState(name="blue", build_id="1", model="churn", version=3, weight=80),
            SlotState(name="green", build_id="2", model="churn-next", version=1, weight=20),
        ),
    )
    assert two.split_text() == "churn v3 80 %, churn-next v1 20 %"


def past(revision: int, routing: RoutingState, restores: int | None = None) -> Past:
    return Past(revision=revision, state=routing, restores=restores)


def test_a_roll_back_takes_off_what_it_undid():
    rows = [past(1, state(blue=100)), past(2, state(green=100)), past(3, state(red=100)), past(4, state(green=100), restores=2)]
    assert [row.revision for row in undo_stack(rows)] == [1, 2]


def test_a_roll_back_to_what_was_undone_is_a_change_of_its_own():
    rows = [past(1, state(blue=100)), past(2, state(green=100)), past(3, state(blue=100), restores=1), past(4, state(green=100), restores=2)]
    assert [row.revision for row in undo_stack(rows)] == [1, 4]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12))
def test_rolling_back_again_and_again_ends_and_never_flips(builds):
    """Whatever was promoted in whatever order: each roll back goes to an earlier row, until there is none."""
    rows = [past(number, state("blue", **{name: 100})) for number, name in enumerate(builds, start=1)]
    applied: list[int] = []
    while (target := target_of_roll_back(rows, rows[-1].state, lambda _: True)) is not None:
        assert target.state.answering != rows[-1].state.answering
        applied.append(target.revision)
        rows.append(past(len(rows) + 1, target.state, restores=target.revision))
    assert applied == sorted(applied, reverse=True)
    assert len(set(applied)) == len(applied)
