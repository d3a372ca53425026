"""What is published, and how it is counted in the end."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

SETUP = """
set role imi_owner;
create schema soak;
create table soak.published (event_id uuid primary key);
create table soak.seen (event_id uuid);
create function soak.see(p_event bloodbank.events) returns void language sql as
  'insert into soak.seen values (p_event.event_id)';
insert into bloodbank.subscriptions (name, patterns, handler) values ('soak.seen', '{soak.#}', 'soak.see');
"""
HANDLERS = """
create function soak.raises(p_event bloodbank.events) returns void language plpgsql as 'begin raise ''never''; end';
create function soak.hangs(p_event bloodbank.events) returns void language plpgsql as $$
begin
  if p_event.event_type = 'soak.hang' then perform pg_sleep(600); end if;
end $$;
insert into bloodbank.subscriptions (name, patterns, handler) values
  ('soak.raises', '{soak.happened}', 'soak.raises'), ('soak.hangs', '{soak.#}', 'soak.hangs'),
  ('soak.lost', '{soak.#}', 'soak.nowhere');
"""

IMPATIENT = """
reset role;
alter role imi_main_worker in database imi_main set statement_timeout = '1s';
select pg_terminate_backend(pid) from pg_stat_activity where usename = 'imi_main_worker';
"""
COUNT = """
select
  (select count(*) from soak.published) as published,
  (select count(*) from bloodbank.events where event_type like 'soak.%') as stored,
  (select count(*) from soak.published left join bloodbank.events using (event_id) where position is null) as missing,
  (select count(*) from soak.seen) as handled,
  (select count(distinct event_id) from soak.seen) as handled_once,
  (select count(*) from bloodbank.dead_letters) as dead
"""
STORED = "select count(*) from bloodbank.events where event_type like 'soak.%'"
HANDLED = "select count(*) from soak.seen"


@dataclass(frozen=True, slots=True)
class Size:
    """How much of a fault."""

    events: int
    kills: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """What was counted in the end; `repeats` are the copies beyond each event's first, on the broker."""

    scenario: str
    published: int
    stored: int
    handled: int
    dead: int
    repeats: int
    unacked: int


def envelope(event_type: str = "soak.happened") -> tuple[str, bytes]:
    """An event of somebody else's: its id and its message."""
    event_id = str(uuid.uuid4())
    return event_id, json.dumps(
        {
            "event_id": event_id,
            "event_type": event_type,
            "timestamp": "2026-01-01T00:00:00Z",
            "version": "1.0.0",
            "source": {"host": "soak", "type": "service"},
            "correlation_ids": [],
            "payload": {"n": 1},
        }
    ).encode()
