"""`imi dead-letters` against the real server."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import asyncpg
import pytest

from imi.cli import dead_letters
from tests.commandline import Imi
from tests.postgres import Database

pytestmark = pytest.mark.usefixtures("live")

HANDLER = """
truncate bloodbank.dead_letters, bloodbank.events, bloodbank.causes;
delete from bloodbank.subscriptions;
drop schema if exists mine cascade;
create schema mine;
create table mine.mended (yes boolean);
create table mine.seen (n bigint generated always as identity, event_id uuid);
create function mine.note(p_event bloodbank.events) returns void language plpgsql as $$
begin
  if p_event.payload ? 'fails' and not exists (select from mine.mended) then
    raise exception '%', p_event.payload ->> 'fails';
  end if;
  insert into mine.seen (event_id) values (p_event.event_id);
end $$;
insert into bloodbank.subscriptions (name, handler, patterns) values ('notes', 'mine.note', '{#}');
"""
BAD = b'{"event_type": "a.b"}'


class Desk:
    """The table behind the server: letters are laid on it, and the handler mended, as the owner."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.laid = 0

    def do(self, statement: str, *arguments: Any) -> Any:
        async def run() -> Any:
            connection = await self.database.connect()
            try:
                return await connection.fetch(statement, *arguments)
            finally:
                await connection.close()

        return asyncio.run(run())

    def lay(self, event_type: str = "a.b", hours: int = 0, **payload: Any) -> str:
        """A letter of the subscription that failed some hours ago; each later than the one before."""
        self.laid += 1
        query = """
            insert into bloodbank.dead_letters (source, event_id, reason, subscription, first_failed_at, last_failed_at)
            select 'subscription', logic.event_append($1, $2, '{}'), 'it did not go', 'notes', at, at
            from (select now() - make_interval(hours => $3) + make_interval(secs => $4 / 1000.0) as at) as given
            returning id::text"""
        return str(self.do(query, event_type, json.dumps(payload), hours, self.laid)[0][0])

    def take(self, message: bytes, state: str = "IM400") -> str:
        """A letter of the intake."""
        query = "select logic.dead_letter('intake', null, $1, 'The message is odd', $2, 1)::text"
        return str(self.do(query, message, state)[0][0])

    def mend(self) -> None:
        self.do("insert into mine.mended values (true)")

    def seen(self) -> list[str]:
        query = """select dead_letters.id::text from mine.seen
                   join bloodbank.dead_letters using (event_id) order by mine.seen.n"""
        return [row[0] for row in self.do(query)]


@pytest.fixture
def desk(database: Database) -> Desk:
    async def prepare() -> None:
        connection: asyncpg.Connection = await database.connect()
        await connection.execute(HANDLER)
        await connection.close()

    asyncio.run(prepare())
    return Desk(database)


def ids(page: dict[str, Any]) -> list[str]:
    return [each["id"] for each in page["items"]]


class TestList:
    def test_a_table_with_what_and_why(self, imi: Imi, desk: Desk) -> None:
        old = desk.lay("git.push", hours=3)
        odd = desk.take(b"\xff\x00\xff", "IM422")
        title, first, second = imi("dead-letters", "list").lines
        assert title.split() == ["id", "source", "what", "reason", "tries", "age"]
        assert first.startswith(f"{odd}  intake") and "3 bytes" in first and first.endswith("s")
        assert second.startswith(f"{old}  subscription  notes: git.push  it did not go")
        assert second.split()[-2:] == ["1", "3h"]

    def test_a_long_reason_is_shortened_in_the_table_alone(self, imi: Imi, desk: Desk) -> None:
        letter = desk.take(BAD)
        desk.do("update bloodbank.dead_letters set reason = repeat('no ', 1000)")
        assert f"{'no ' * 33}…" in imi("dead-letters", "list").lines[1]
        (item,) = imi.data("dead-letters", "list")["items"]
        assert (item["id"], len(item["reason"])) == (letter, 3000)

    def test_filters(self, imi: Imi, desk: Desk) -> None:
        old, new = desk.lay("git.push", hours=50), desk.lay("git.pull")
        odd = desk.take(BAD)
        desk.do("update bloodbank.dead_letters set replayed_at = now() where id = $1::text::uuid", new)

        def listed(*options: str) -> list[str]:
            return ids(imi.data("dead-letters", "list", *options))

        assert listed() == [odd, old]
        assert listed("--replayed", "true") == [new]
        assert listed("--replayed", "all") == [odd, new, old]
        assert listed("--source", "intake") == [odd]
        assert listed("--type", "git.*") == [old]
        assert listed("--reason", "DID NOT") == [old]
        assert listed("--subscription", "notes", "--replayed", "all") == [new, old]
        assert listed("--older-than", "2d") == listed("--older-than", "49h") == [old]
        assert listed("--older-than", "3d") == []
        assert listed("--older-than", "0s") == [odd, old]
        assert listed("--limit", "1") == [odd] and listed("--all") == [odd, old]
        assert "replayed" in imi("dead-letters", "list", "--replayed", "all").lines[0]

    @pytest.mark.parametrize("age", ["", "7", "d", "-1d", "1w", "1.5h", "99999d", "yesterday"])
    def test_what_is_no_age(self, imi: Imi, age: str) -> None:
        error = imi.error(2, "dead-letters", "list", f"--older-than={age}")
        assert "30m, 2h or 7d" in str(error["message"])


def test_show(imi: Imi, desk: Desk) -> None:
    text, odd = desk.take(BAD), desk.take(b"\xff\x00")
    assert imi.data("dead-letters", "show", text)["raw"] == BAD.decode()
    assert imi.data("dead-letters", "show", odd)["raw_base64"] == "/wA="
    shown = imi("dead-letters", "show", text).lines
    assert f"raw              {BAD.decode()}" in shown
    assert imi.error(3, "dead-letters", "show", uuid.uuid4())["code"] == "NOT_FOUND"


class TestReplay:
    def test_those_named(self, imi: Imi, desk: Desk) -> None:
        one, two, three = (desk.lay() for _ in range(3))
        ran = imi("dead-letters", "replay", three, one, three)
        assert ran.lines == [f"{three}  replayed", f"{one}  replayed", "2 replayed, 0 failed"]
        assert desk.seen() == [three, one]
        assert ids(imi.data("dead-letters", "list")) == [two]

    def test_those_that_options_choose_the_longest_waiting_first(self, imi: Imi, desk: Desk) -> None:
        old = [desk.lay("git.push", hours=5) for _ in range(3)]
        desk.lay("git.push")
        desk.lay("other", hours=5)
        chosen = ("--type", "git.#", "--older-than", "4h", "--rate", 1000)
        summary = imi.data("dead-letters", "replay", *chosen)
        assert (summary["replayed"], summary["failed"], summary["dry_run"]) == (3, 0, False)
        assert ids(summary) == old == desk.seen()
        assert {each["outcome"] for each in summary["items"]} == {"replayed"}
        assert imi("dead-letters", "replay", *chosen).lines == ["0 replayed, 0 failed"]

    def test_one_that_fails_stops_nothing(self, imi: Imi, desk: Desk) -> None:
        one, two, three = desk.lay(), desk.lay(fails="no such project"), desk.lay()
        never = desk.take(b"{", "IM422")
        chosen = ("dead-letters", "replay", "--older-than", "0s", "--rate", "1000")
        ran = imi(*chosen, code=1)
        assert ran.lines[:3] == [f"{one}  replayed", f"{two}  failed: no such project", f"{three}  replayed"]
        assert ran.lines[3].startswith(f"{never}  failed: These bytes can never become an event")
        assert ran.lines[4:] == ["2 replayed, 2 failed"]
        again = imi(*chosen, "--subscription", "notes", "--json", code=1)
        document = json.loads(again.out)
        assert document["success"] is False and again.err == ""
        (item,) = document["data"]["items"]
        assert (item["id"], item["outcome"], item["reason"]) == (two, "failed", "no such project")
        desk.mend()
        assert imi("dead-letters", "replay", two).lines[-1] == "1 replayed, 0 failed"

    def test_a_dry_run_only_says_which(self, imi: Imi, desk: Desk) -> None:
        letter, other = desk.lay(), desk.take(BAD)
        said = imi("dead-letters", "replay", "--subscription", "notes", "--dry-run").lines
        assert said == [f"{letter}  notes: a.b: it did not go", "would replay 1"]
        said = imi("dead-letters", "replay", other, "--dry-run").lines
        assert said == [f"{other}  21 bytes: The message is odd", "would replay 1"]
        assert imi.data("dead-letters", "replay", letter, "--dry-run")["items"][0]["outcome"] is None
        assert desk.seen() == [] and len(ids(imi.data("dead-letters", "list"))) == 2

    def test_without_a_choice_it_refuses(self, imi: Imi, desk: Desk) -> None:
        letter = desk.lay()
        for arguments in ((), ("--dry-run",), (letter, "--subscription", "notes")):
            error = imi.error(2, "dead-letters", "replay", *arguments)
            assert "--subscription" in str(error["hint"]) and "list" in str(error["hint"])
        assert desk.seen() == []

    def test_an_unknown_id_is_found_out_before_anything_is_done(self, imi: Imi, desk: Desk) -> None:
        letter = desk.lay()
        imi("dead-letters", "replay", letter, uuid.uuid4(), code=3)
        assert desk.seen() == []

    def test_a_replayed_one_is_no_second_time(self, imi: Imi, desk: Desk) -> None:
        letter = desk.lay()
        imi("dead-letters", "replay", letter)
        ran = imi("dead-letters", "replay", letter, code=1)
        assert "The dead letter has been replayed" in ran.lines[0]
        assert desk.seen() == [letter]

    def test_a_wrong_key_ends_it(self, imi: Imi, desk: Desk) -> None:
        letter = desk.lay()
        key = imi.data("keys", "create", "small", "--scope", "write")["key"]
        imi("dead-letters", "replay", letter, "--api-key", key, code=4)
        assert desk.seen() == []

    def test_no_more_than_the_rate(self, imi: Imi, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a clock that only sleeping moves: the nth begins n / rate after the first."""
        now, slept = 0.0, []

        def sleep(seconds: float) -> None:
            nonlocal now
            slept.append(round(seconds, 6))
            now += seconds

        class Clock:
            monotonic = staticmethod(lambda: now)

        Clock.sleep = staticmethod(sleep)  # type: ignore[attr-defined]
        monkeypatch.setattr(dead_letters, "time", Clock)
        letters = [desk.lay() for _ in range(3)]
        imi("dead-letters", "replay", *letters)
        imi("dead-letters", "replay", *(desk.lay() for _ in range(2)), "--rate", 4)
        assert slept == [0, 0.1, 0.1, 0, 0.25]
