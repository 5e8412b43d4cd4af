"""The form of a key: what is generated is read back, and nothing else is taken."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from access.key_format import ParsedKey, generate, parse, secret_digest, text_of


def test_reads_what_it_wrote():
    key = generate()
    assert parse(text_of(key)) == key
    assert len(text_of(key)) == 66


def test_never_makes_the_same_key_twice():
    keys = {generate() for _ in range(500)}
    assert len({key.id for key in keys}) == len({key.secret for key in keys}) == 500


def test_finds_every_mistyped_letter():
    text = text_of(generate())
    for place in range(4, len(text)):
        other = "A" if text[place] != "A" else "B"
        assert parse(text[:place] + other + text[place + 1 :]) is None


@given(st.text())
def test_takes_no_other_text(text: str):
    assert parse(text) is None


def test_keeps_a_digest_of_the_secret_alone():
    assert secret_digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert secret_digest(ParsedKey("a", "s").secret) == secret_digest(ParsedKey("b", "s").secret)
