"""Messages that are no events."""

from __future__ import annotations

GARBAGE = [
    b"no JSON %d",
    b'"%d"',
    b"[%d]",
    b'{"event_id": %d}',
    b'{"event_type": "soak.happened", "event_id": "%d", "payload": {}}',
    b"%d" + b"[" * 20_000,
    b"[" * 20_000 + b"%d" + b"]" * 20_000,
    b'{"event_type": "soak.happened", "payload": {"n": 1e131071, "m": %d}}',
    b'{"event_type": "soak.happened", "payload": {"n": "\\u0000 %d"}}',
    b"\0%d",
    b"\xff%d",
]
LARGE = b'{"event_type": "soak.happened", "payload": {"n": "%s"}}' % (b"x" * (1 << 20))


def worthless(count: int) -> list[bytes]:
    """So many, no two the same; one in a hundred is larger than 1 MiB."""
    large = count // 100
    some = [GARBAGE[n % len(GARBAGE)] % n for n in range(count - large)]
    return some + [LARGE + b" " * n for n in range(large)]
