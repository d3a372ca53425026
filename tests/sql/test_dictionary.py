"""sql/dictionary.sql: every view and column explained, nothing explained that is not there."""

import re

from imi.database.lanes import lanes

VIEWS = """select pg_class.oid, relname, obj_description(pg_class.oid) as comment
           from pg_class where relnamespace::regnamespace::text in ('analytics', 'ops') and relkind = 'v'"""
COLUMNS = f"""select relname, attname, col_description(attrelid, attnum) as comment
              from pg_attribute join ({VIEWS}) as view on view.oid = attrelid where attnum > 0"""


async def test_every_view_and_column_is_explained(db):
    assert [row["relname"] for row in await db.fetch(VIEWS) if not row["comment"]] == []
    assert [
        f"{row['relname']}.{row['attname']}" for row in await db.fetch(COLUMNS) if not row["comment"]
    ] == []


async def test_every_explanation_is_of_a_column_that_is_there(db):
    words = re.findall(
        r"^ +\('([a-z_.]+)', '", (lanes().sql_dir / "dictionary.sql").read_text(), re.MULTILINE
    )
    columns = await db.fetch(COLUMNS)
    names = {row["attname"] for row in columns} | {f"{row['relname']}.{row['attname']}" for row in columns}
    assert len(words) > 150
    assert len(words) == len(set(words))
    assert set(words) - names == set()


async def test_a_sense_of_its_own_wins(db):
    comments = {(row["relname"], row["attname"]): row["comment"] for row in await db.fetch(COLUMNS)}
    assert comments["agent_sessions", "status"] == "active, completed or blocked"
    assert (
        comments["trace", "status"]
        == comments["work_items", "status"]
        != comments["agent_sessions", "status"]
    )
