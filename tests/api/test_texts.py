"""Texts from outside: what is taken, what is refused, and how that is said."""

from __future__ import annotations

import orjson
import pytest

from imi.texts import complaints, depth, is_uuid, json_check, parse, validator, value_check

DEEP = b"[" * 100 + b"]" * 100


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": [1, 2.5e10, -0.0, 1e308, 2.3e-308, "\xc3\xa9", null, true]}',
        b'"1e999 and 1e-999 in a string, ' + b"7" * 400 + b'"',
        rb'"a backslash and then u0000: \\u0000"',
        b'{"a": 1, "a": 2}',
        b"0e-999",
        b"0.000e999",
        DEEP,
        b'"' + b"[" * 200 + b'"',
        b"1" + b"0" * 308,
        b"[" + b"1e308," * 3000 + b"1e-10]",
        b'["' + b"1e308," * 10_000 + b'", "9fceb02d0ae598e950", "x,1e999999999"]',
        b"[" + b"1e9," * 200_000 + b"1e9]",
    ],
)
def test_what_postgresql_can_hold_is_taken(text: bytes) -> None:
    assert parse(text) == orjson.loads(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[1,]", "not valid JSON"),
        (b"NaN", "not valid JSON"),
        (rb'"\ud800"', "not valid JSON"),
        (b'"\xed\xa0\x80"', "not valid JSON"),
        (b'"a\x00b"', "not valid JSON"),
        (rb'{"a": ["\u0000"]}', "NUL"),
        (rb'{"\u0000": 1}', "NUL"),
        (b"1e131071", "not valid JSON"),
        (b"-1e400", "not valid JSON"),
        (b"1e-400000", "no double holds"),
        (b"[0.001e-330]", "no double holds"),
        (b"0." + b"0" * 400 + b"1", "no double holds"),
        (b"1" + b"0" * 400, "not valid JSON"),
        (b"[" + b"1e308," * 3500 + b"1]", "write out"),
        (b'{"a":' + b"-1.5E-0300,".join([b"["] + [b""] * 4000) + b"1]}", "write out"),
        (b"[0e1048577]", "write out"),
        (b"0e" + b"9" * 5000, "write out"),
        (b"[" + DEEP + b"]", "nested"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "nested"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_what_it_cannot_hold_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)


def test_depth_counts_lists_and_objects() -> None:
    assert [depth(value) for value in (1, [], {}, [[1], {"a": [2]}])] == [0, 1, 1, 3]


def test_a_uuid_has_one_form() -> None:
    assert is_uuid("01980C1E-5a1f-7cc0-9d07-3e1d8a5c2b10")
    for other in (
        "{01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10}",
        "01980c1e5a1f7cc09d073e1d8a5c2b10",
        "0198_c1e-5a1f-7cc0-9d07-3e1d8a5c2b10",
        "",
    ):
        assert not is_uuid(other)


def test_a_complaint_names_the_place() -> None:
    schema = {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "maxLength": 3},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
            "when": {"oneOf": [{"type": "null"}, {"type": "string", "pattern": "^[0-9]+$"}]},
        },
    }
    found = complaints(validator(schema), {"nam": 1, "tags": ["a", "c"], "when": "soon"})
    assert sorted(found, key=lambda each: each["path"]) == [
        {"path": "nam", "message": "is not known here"},
        {"path": "name", "message": "is required"},
        {"path": "tags.1", "message": "must be one of a, b"},
        {"path": "when", "message": "does not match ^[0-9]+$"},
    ]
    assert complaints(validator(schema), {"name": "four"}) == [{"path": "name", "message": "is too long"}]
    assert len(complaints(validator({"items": {"type": "string"}}), list(range(1000)))) == 20
    assert not complaints(validator({"pattern": "a$"}), 5)


def test_a_whole_number_is_written_as_one() -> None:
    whole = validator({"type": "integer"})
    assert not complaints(whole, 10**30)
    for other in (1.0, 1e3, True):
        assert complaints(whole, other) == [{"path": "", "message": "is not of type integer"}]


def test_what_a_text_must_be_is_said_in_words() -> None:
    when = {"type": "string", "format": "date-time", "pattern": "Z$", "x-must-be": "a time, such as noon"}
    said = [{"path": "", "message": "must be a time, such as noon"}]
    assert complaints(validator(when), "soon") == said
    assert complaints(validator(when), "2026-02-11T10:30:00+01:00") == said
    assert complaints(validator(when), 5) == [{"path": "", "message": "is not of type string"}]
    assert (
        complaints(validator({"type": ["integer", "null"]}), "1")[0]["message"]
        == "is not of type integer or null"
    )
    assert complaints(validator({"maxItems": 1}), [1, 2])[0]["message"] == "has more than 1 items"
    assert complaints(validator({"enum": ["a", None]}), [1])[0]["message"] == "must be one of a, None"
    assert not complaints(validator({"enum": ["a", None]}), None)
    assert complaints(validator({"maximum": 3}), 5)[0]["message"] == "is greater than the maximum of 3"


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"enum": ["a", "b"]}, ["a"], ["", "A", "a "]),
        ({"type": "boolean"}, ["true", "false"], ["1", "True", "", "yes"]),
        ({"type": "integer", "minimum": -5, "maximum": 5}, ["-5", "0", "5", "05"], ["6", "-6", "", "1.0", "1e1", "+1", " 1", "٣", "9" * 30]),
        ({"type": "string", "format": "uuid"}, ["01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10"], ["x", "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10\n"]),
        ({"type": "string", "minLength": 1, "pattern": "^a"}, ["a", "a\n"], ["", "b", "a\0"]),
        ({"type": "array", "maxItems": 3, "items": {"enum": ["a", "b"]}}, ["a", "a,b , a"], ["", ",", "a,", "c", "a,a,a,a"]),
    ],
)  # fmt: skip
def test_a_single_value_is_checked_as_text(
    schema: dict[str, object], good: list[str], bad: list[str]
) -> None:
    check = value_check(schema)
    assert [text for text in good if check(text)] == []
    assert [text for text in bad if not check(text)] == []


def test_a_value_may_be_json() -> None:
    check = json_check({"type": "object"})
    assert check('{"a": 1}') is None
    assert check("[]") == "is not of type object"
    assert "not valid JSON" in str(check("{"))
