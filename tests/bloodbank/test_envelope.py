"""imi/bloodbank/envelope.py: what may go to SQL, and what may not."""

from __future__ import annotations

import random

import orjson
import pytest

from imi.bloodbank.envelope import LARGEST, sort

GOOD = [
    b'{"event_type": "a.b", "payload": {}}',
    b'{"anything": "that is an object"}',
    b' {"a": [1e308, -2.5, 0.1]} ',
    '{"a": "é \U0001f600"}'.encode(),
    rb'{"a": "\\u0000"}',
    b'{"a":' * 100 + b"1" + b"}" * 100,
    b'{"a": "' + b"x" * (LARGEST - 9) + b'"}',
]
BAD = [
    (b'{"a": "' + b"x" * (LARGEST - 8) + b'"}', "is larger than 1 MiB"),
    (b"[" * 20_000, "is not valid JSON"),
    (b"[" * 20_000 + b"]" * 20_000, "is not valid JSON"),
    (b'{"a":' * 101 + b"1" + b"}" * 101, "is nested more than 100 deep"),
    (b'{"a": 1e131071}', "is not valid JSON"),
    (b'{"a": 1e-131071}', "holds a number that no double holds"),
    (b'{"a": [' + b"1e308," * 4000 + b"1]}", "exponents write out"),
    (rb'{"a": "\u0000"}', "holds a NUL character"),
    (rb'{"\u0000": 1}', "holds a NUL character"),
    (b'{"a": "\x00"}', "is not valid JSON"),
    (rb'{"a": "\ud800"}', "is not valid JSON"),
    (b'{"a": "\xed\xa0\x80"}', "is not valid JSON"),
    (b'{"a": "\xff"}', "is not valid JSON in UTF-8"),
    (b'{"a": NaN}', "is not valid JSON"),
    (b"", "is not valid JSON"),
    (b"{", "is not valid JSON"),
    (b"hello", "is not valid JSON"),
    (b"[]", "is not an object"),
    (b'"text"', "is not an object"),
    (b"5", "is not an object"),
    (b"null", "is not an object"),
]


def test_the_largest_and_the_deepest_pass_as_they_came() -> None:
    batch = sort(GOOD)
    assert [each.encode() for each in batch.messages] == GOOD
    assert len(GOOD[-1]) == LARGEST
    assert (batch.rejected, batch.reasons) == ([], [])


@pytest.mark.parametrize(("message", "reason"), BAD, ids=lambda each: repr(each[:24]))
def test_each_fault_is_named(message: bytes, reason: str) -> None:
    batch = sort([message])
    assert (batch.messages, batch.rejected) == ([], [message])
    assert reason in batch.reasons[0]


def test_garbage_among_good_spoils_nothing_and_the_order_stays() -> None:
    garbage = random.Random(1)
    messages = GOOD + [each for each, _ in BAD] + [garbage.randbytes(200) for _ in range(200)]
    garbage.shuffle(messages)
    batch = sort(messages)
    assert [each.encode() for each in batch.messages] == [each for each in messages if each in GOOD]
    assert batch.rejected == [each for each in messages if each not in GOOD]
    assert len(batch.reasons) == len(batch.rejected)


def test_what_passes_is_the_value_that_came() -> None:
    for came, passed in zip(GOOD, sort(GOOD).messages, strict=True):
        assert orjson.loads(passed) == orjson.loads(came)


def test_nothing_is_an_empty_batch() -> None:
    batch = sort([])
    assert (batch.messages, batch.rejected, batch.reasons) == ([], [], [])
