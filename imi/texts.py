"""Texts from outside, JSON documents and single values: whether PostgreSQL can hold them and a schema fits.

A text that is taken travels on as it came. So it is checked for what Python reads differently from
PostgreSQL, or what would hurt it: NUL characters, deep nesting, numbers that no double holds (45 KB of
1e131071 became 655 MB), too many with large exponents (15 MB of 1e308 became 3 GB: it writes them out).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from math import inf
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker, validators
from jsonschema.exceptions import ValidationError, best_match

from imi.rules import UUID

DEEPEST = 100
MOST_COMPLAINTS = 20
MOST_ZEROS = 1 << 20  # that the exponents of a text may write out
# What stands before a number comes first: characters that the search skips to, not alternatives to be tried.
ODD_NUMBER = re.compile(rb"[ \t\n\r,:\[-][0-9](?:[0-9]*\.)?(?:[0-9]{299}|[0-9]*[eE][+-]?[0-9]{2})")
INTEGER = re.compile(r"-?[0-9]{1,19}")

Check = Callable[[str], str | None]  # a text -> what is wrong with it, as the rest of a sentence

FORMATS = FormatChecker(formats=("date-time", "uri"))


@FORMATS.checks("uuid")
def is_uuid(value: object) -> bool:
    """Whether a string is a UUID; what is none is for other checks."""
    return not isinstance(value, str) or UUID.fullmatch(value) is not None


def parse(text: bytes) -> Any:
    """The value of a JSON text.

    Raises ValueError, its message the rest of a sentence, for what is no JSON in UTF-8 or what PostgreSQL
    cannot hold.
    """
    try:
        value = orjson.loads(text)  # refuses lone surrogates, NaN and infinity
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON in UTF-8: {error.msg[:200]}") from None
    # Cheap looks first: what they find may still stand inside a string.
    if text.count(b"[") + text.count(b"{") > DEEPEST and depth(value) > DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} deep")
    if b"\\u0000" in text and any("\0" in each for each in strings(value)):
        raise ValueError("holds a NUL character")
    if ODD_NUMBER.search(b" " + text):
        _look_at_numbers(text)
    return value


def _look_at_numbers(text: bytes) -> None:
    zeros = 0.0

    def look(number: str) -> None:
        nonlocal zeros
        value, (digits, _, exponent) = float(number), number.lower().partition("e")
        if abs(value) == inf or (value == 0 and re.search("[1-9]", digits)):
            raise ValueError("holds a number that no double holds")
        zeros += abs(float(exponent or 0))
        if zeros > MOST_ZEROS:
            raise ValueError(f"holds numbers whose exponents write out more than {MOST_ZEROS} zeros")

    json.loads(text, parse_float=look, parse_int=look)


def depth(value: Any) -> int:
    """How deep the lists and objects in a parsed value are nested."""
    levels, level = 0, [value]
    while level := [each for each in level if isinstance(each, dict | list)]:
        levels += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return levels


def strings(value: Any) -> Iterator[str]:
    """Every string in a parsed value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for each in value.values():
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    # In Python "$" also matches before a last line feed; in a JSON Schema it does not.
    return re.compile(re.sub(r"\$$", r"\\Z", pattern))


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _compiled(pattern).search(value):
        yield ValidationError(f"does not match {pattern}")


def _required(_: Any, names: list[str], value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, dict):
        yield from (ValidationError("is required", path=[name]) for name in names if name not in value)


def _additional(_: Any, allowed: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if allowed is False and isinstance(value, dict):
        known = schema.get("properties", {})
        yield from (ValidationError("is not known here", path=[name]) for name in value if name not in known)


def _type(of: Any, types: str | list[str], value: Any, _: Any) -> Iterator[ValidationError]:
    types = [types] if isinstance(types, str) else types
    if not any(of.is_type(value, each) for each in types):
        yield ValidationError(f"is not of type {' or '.join(types)}")


def _enum(_: Any, words: list[str | None], value: Any, __: Any) -> Iterator[ValidationError]:
    if not (value is None or isinstance(value, str)) or value not in words:
        yield ValidationError(f"must be one of {', '.join(map(str, words))}")


def _max_items(_: Any, most: int, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, list) and len(value) > most:
        yield ValidationError(f"has more than {most} items")


# These name the place more exactly than the originals, or do not quote a value, which may have 16 MiB.
# Enumerations are of words here, and a schema as additionalProperties stands in answers only, unchecked.
KEYWORDS = {
    "pattern": _pattern,
    "required": _required,
    "additionalProperties": _additional,
    "type": _type,
    "enum": _enum,
    "maxItems": _max_items,
}
# A whole number is written as one: 1.0, which JSON Schema lets pass, is none to PostgreSQL.
TYPES = Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
)
Validator = validators.extend(Draft202012Validator, KEYWORDS, type_checker=TYPES)  # type: ignore[no-untyped-call]


def validator(schema: dict[str, Any]) -> Any:
    """A compiled validator for a schema without references; formats are checked."""
    return Validator(schema, format_checker=FORMATS)


def complaints(validator: Any, value: Any) -> list[dict[str, str]]:
    """What is wrong with a value: {path, message}, the message the rest of a sentence; [] if nothing is."""
    found = []
    for error in islice(validator.iter_errors(value), MOST_COMPLAINTS):
        error = best_match([error])  # of alternatives, the one that nearly fits
        message = error.message
        if isinstance(error.instance, str | int | float):
            message = message.removeprefix(repr(error.instance)).lstrip()
        if error.validator in ("format", "pattern") and "x-must-be" in error.schema:
            message = f"must be {error.schema['x-must-be']}"
        complaint = {"path": ".".join(map(str, error.absolute_path)), "message": message[:300]}
        if complaint not in found:  # as of a time that fits neither its format nor its pattern
            found.append(complaint)
    return found


def value_check(schema: dict[str, Any]) -> Check:
    """The check of a single value that comes as text. The common kinds are plain functions, for speed."""
    if "enum" in schema:
        words = frozenset(schema["enum"])
        return lambda text: None if text in words else f"must be one of {', '.join(schema['enum'])}"
    if schema.get("format") == "uuid":
        return lambda text: None if UUID.fullmatch(text) else "is not a UUID"
    if schema["type"] == "boolean":
        return lambda text: None if text in ("true", "false") else "must be true or false"
    if schema["type"] == "integer":
        return _integer_check(schema["minimum"], schema["maximum"])
    if schema["type"] == "array":
        return _list_check(value_check(schema["items"]), schema["maxItems"])
    return _string_check(validator(schema))


def _list_check(item: Check, most: int) -> Check:
    def check(text: str) -> str | None:
        items = text.split(",")
        if len(items) > most:
            return f"may name {most}"
        return next((f"holds one that {wrong}" for each in items if (wrong := item(each.strip()))), None)

    return check


def _integer_check(least: int, most: int) -> Check:
    def check(text: str) -> str | None:
        if INTEGER.fullmatch(text) and least <= int(text) <= most:
            return None
        return f"must be a whole number from {least} to {most}"

    return check


def _string_check(validator: Any) -> Check:
    def check(text: str) -> str | None:
        if "\0" in text:
            return "holds a NUL character"
        return next((each["message"] for each in complaints(validator, text)), None)

    return check


def json_check(schema: dict[str, Any]) -> Check:
    """The check of a value that comes as a JSON text."""
    compiled = validator(schema)

    def check(text: str) -> str | None:
        try:
            return next((each["message"] for each in complaints(compiled, parse(text.encode()))), None)
        except ValueError as error:
            return str(error)

    return check
