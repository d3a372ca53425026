async def test_owner(db):
    assert await db.fetchval("select current_user") == "imi_owner"


async def test_login(connect):
    c = await connect("reader")
    assert await c.fetchval("select current_setting('transaction_read_only')") == "on"
