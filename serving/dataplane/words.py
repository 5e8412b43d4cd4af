"""What a decoder found wrong, in the words of the product. Read only where decoding has failed; pure."""

from __future__ import annotations

import re

POLICY_MAY_REPLACE = "The endpoint's policy for missing values can replace it."

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `(?P<place>\$.*)`)?$", re.DOTALL)
_EXPECTED = re.compile(r"^Expected `(?P<wanted>[^`]+)`(?P<bound> [<>=]+ -?\d+)?(?:, got `(?P<got>[^`]+)`)?$")
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_WANTED = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "a text", "object": "an object", "array": "an array", "null": "null"}
_GOT = _WANTED | {"bool": "a boolean", "fraction": "a fraction"}
KIND_OF = {dict: "an object", str: "a text", bool: "a boolean", type(None): "null", list: "an array", int: "a whole number"}


def parted(error: Exception) -> tuple[str, str]:
    """Part what msgspec says into what is wrong and where: ``$.rows[0].age``, or nothing."""
    match = _PLACE.match(str(error))
    return (match["what"], match["place"] or "") if match else (str(error), "")


def takes(what: str, wanted: str = "") -> str:
    """Say ``takes a number, not a text``, or nothing if ``what`` is no such thing; ``wanted`` is said in place of what the decoder expected."""
    match = _EXPECTED.match(what)
    if match is None:
        return ""
    got = "fraction" if match["got"] == "float" and "int" in match["wanted"] else match["got"]
    but = f", not {_GOT.get(got, got)}" if got else ""
    return f"takes {wanted or _kinds(match['wanted'])}{match['bound'] or ''}{but}"


def _kinds(wanted: str) -> str:
    names = wanted.split(" | ")
    *others, last = [_WANTED.get(name, name) for name in names if name != "int" or "float" not in names]
    return f"{', '.join(others)} or {last}" if others else last


def got_null(what: str) -> bool:
    """Tell whether the value was null."""
    return what.endswith("got `null`")


def missing_field(what: str) -> str | None:
    """Give the name of the field that is not there, if that is what is wrong."""
    match = _MISSING.match(what)
    return match["name"] if match else None


def unknown_field(what: str) -> str | None:
    """Give the name of the field that should not be there, if that is what is wrong."""
    match = _UNKNOWN.match(what)
    return match["name"] if match else None


def sentence(error: Exception) -> str:
    """Say what is wrong with a document: ```inputs[0].shape` takes an array, not a text``."""
    what, place = parted(error)
    subject = place.removeprefix("$").removeprefix(".")
    if said := takes(what):
        return f"{f'`{subject}`' if subject else 'it'} {said}"
    where = f" of `{subject}`" if subject else ""
    if (name := missing_field(what)) is not None:
        return f"the field `{name}`{where} is missing"
    if (name := unknown_field(what)) is not None:
        return f"there is no field `{name}`{where}"
    return f"{what} in `{subject}`" if subject else what
