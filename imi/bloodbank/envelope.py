"""The gate before the intake: what a bus delivers is bytes, and SQL takes only what PostgreSQL can hold.

Whether a message is an envelope is for SQL to say (`logic.envelope_fault`); here is refused what would abort
the statement that carries it, and its neighbours with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from imi.texts import parse

LARGEST = 1 << 20  # bytes


@dataclass(frozen=True)
class Sorted:
    """A batch as the first three arguments of `logic.intake`; `reasons` has one for each of `rejected`."""

    messages: list[str] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def sort(messages: Sequence[bytes]) -> Sorted:
    """What may go to SQL, as the text that came, and what may not, with the reason; order is kept."""
    batch = Sorted()
    for message in messages:
        if reason := fault(message):
            batch.rejected.append(message)
            batch.reasons.append(reason)
        else:
            batch.messages.append(message.decode())
    return batch


def fault(message: bytes) -> str | None:
    """Why PostgreSQL cannot hold a message, as the rest of a sentence; None if it can."""
    if len(message) > LARGEST:
        return "is larger than 1 MiB"
    try:
        value = parse(message)
    except ValueError as error:
        return str(error)
    return None if isinstance(value, dict) else "is not an object"
