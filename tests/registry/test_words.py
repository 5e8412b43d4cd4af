"""Names, tags, metrics and file names: what is taken, and what is only a label."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import NotAllowed
from registry.words import checked_alias, checked_description, checked_metrics, checked_model_name, checked_tags, shown_filename


@pytest.mark.parametrize("name", ["churn", "a", "Churn-2.1_b", "0", "a" * 100])
def test_takes_model_names(name):
    assert checked_model_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "a b", "a/b", "a\\b", "a\n", "é", "a" * 101, "a\0", "<b>", "register", "compare"])
def test_refuses_other_model_names(name):
    with pytest.raises(NotAllowed):
        checked_model_name(name)


@pytest.mark.parametrize("alias", ["champion", "v2-final", "a_b", "x" * 64])
def test_takes_aliases(alias):
    assert checked_alias(alias) == alias


@pytest.mark.parametrize("alias", ["", "latest", "Latest", "v1", "V12", "7", "a b", "a.b", "x" * 65, "a\n"])
def test_refuses_other_aliases(alias):
    with pytest.raises(NotAllowed):
        checked_alias(alias)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "0.9", None, [], 10**400])
def test_takes_only_finite_numbers_as_metrics(value):
    with pytest.raises(NotAllowed, match="auc"):
        checked_metrics({"auc": value})


def test_gives_metrics_as_floats():
    assert checked_metrics({"auc": 1, "f1 (macro)": 0.5}) == {"auc": 1.0, "f1 (macro)": 0.5}
    assert checked_metrics(None) == {}


@pytest.mark.parametrize("tags", [{"": "x"}, {"a\0": "x"}, {"a": "\0"}, {"a": 1}, {"a": None}, {"a": "x" * 501}, {str(n): "" for n in range(51)}])
def test_refuses_other_tags(tags):
    with pytest.raises(NotAllowed):
        checked_tags(tags)


def test_refuses_a_description_that_is_a_book():
    with pytest.raises(NotAllowed, match="20,001"):
        checked_description("x" * 20_001)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("model.pkl", "model.pkl"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\models\\m.onnx", "m.onnx"),
        ("a\r\nSet-Cookie: x.pkl", "aSet-Cookie: x.pkl"),
        ("a\0b", "ab"),
        ("", "file"),
        ("..", ".."),
        ("x/", "file"),
        ("modèle 1.skops", "modèle 1.skops"),
    ],
)
def test_shows_a_file_name_as_a_label(name, shown):
    assert shown_filename(name) == shown


@given(st.text(max_size=400))
def test_shows_any_file_name_short_and_printable(name):
    shown = shown_filename(name)
    assert 0 < len(shown) <= 255
    assert shown.isprintable()
    assert "/" not in shown
    assert "\\" not in shown
