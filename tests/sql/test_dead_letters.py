"""sql/dead_letters.sql: what failed is laid aside with its reason."""

from __future__ import annotations

import asyncpg


async def test_it_keeps_what_came_and_why(db: asyncpg.Connection) -> None:
    made = await db.fetchval(
        "select logic.dead_letter('intake', null, $1, 'is not JSON', '22P02', 3)", b"\x00{"
    )
    letter = await db.fetchrow("select * from bloodbank.dead_letters where id = $1", made)
    assert (letter["raw"], letter["reason"], letter["sqlstate"]) == (b"\x00{", "is not JSON", "22P02")
    assert letter["attempts"] == 3 and letter["replayed_at"] is None
    assert letter["first_failed_at"] == letter["last_failed_at"]
    shown = await db.fetchrow("select * from ops.dead_letters where dead_letter_id = $1", made)
    assert shown["source"] == "intake" and shown["event_type"] is None
