"""The log under writers that dawdle: a reader with a cursor misses nothing and sees nothing twice."""

import asyncio
import json
import random
import uuid

WRITERS, TRANSACTIONS, READERS = 24, 40, 3


async def test_readers_miss_nothing_under_24_dawdling_writers(connect):
    committed: set[str] = set()
    seed = random.Random(20261121)

    async def write(connection, dice):
        append = "select logic.event_append('test.happened', '{}', '{}')"
        for _ in range(TRANSACTIONS):
            mine: list[uuid.UUID] = []
            transaction = connection.transaction()
            await transaction.start()
            for _ in range(dice.randint(1, 3)):
                savepoint = connection.transaction()
                await savepoint.start()
                made = await connection.fetchval(append)
                if dice.random() < 0.3:
                    await savepoint.rollback()
                else:
                    await savepoint.commit()
                    mine.append(made)
                await connection.execute("select pg_sleep($1)", dice.choice([0, 0, 0.001, 0.01]))
            if dice.random() < 0.2:
                await transaction.rollback()
            else:
                await transaction.commit()
                committed.update(map(str, mine))

    async def read(connection, done):
        cursor, seen = 0, []
        while True:
            last_round = done.is_set()
            row = await connection.fetchrow(
                "select * from api.event_list(p_after => $1, p_limit => 50)", cursor
            )
            page = json.loads(row["body"])
            seen += [e["event_id"] for e in page]
            following = int(json.loads(row["headers"])["X-Next-Cursor"])
            assert following >= cursor
            if last_round and not page:
                return seen
            cursor = following

    done = asyncio.Event()
    readers = [asyncio.create_task(read(await connect("reader"), done)) for _ in range(READERS)]
    await asyncio.gather(*[write(await connect(), random.Random(seed.random())) for _ in range(WRITERS)])
    done.set()
    for seen in await asyncio.gather(*readers):
        assert len(seen) == len(set(seen))
        assert set(seen) == committed
    assert len(committed) > WRITERS * TRANSACTIONS
