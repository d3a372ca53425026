-- A log of bench.events events of about 600 bytes, the same every time; event n has the id bench.id(n), and each tenth of
-- a thousand is of one tree of causes. In the middle every other one of 20,000 is of one large tree instead, whose root is
-- the first of them. Ids are random; each event but a tree's first was caused by one of those before it.
create schema bench;

create function bench.id(p_n bigint) returns uuid
language sql
immutable
begin atomic
  select md5('event ' || p_n)::uuid;
end;

insert into bloodbank.events (event_id, event_type, "timestamp", version, source, correlation_ids, payload, ingested_at, arrived)
select
  bench.id(n), (array['build.step.finished', 'llm.tool.called', 'llm.prompt.sent', 'session.thread.message', 'agent.state.changed'])[1 + n % 5],
  made, '1.0.0', '{"host": "builder-1", "type": "agent", "app": "hooks"}',
  case when k = 0 then '{}' else array[bench.id(n - step * (1 + (hashint8extended(n, 1) & 65535) * k / 65536))] end,
  jsonb_build_object('number', n, 'thread', bench.id(n / 1000), 'text', repeat('Keep the lease until the branch is merged. ', 8)),
  made, 'bus'
from (select current_setting('bench.events')::bigint as events) as log
cross join lateral generate_series(0, events - 1) as n
cross join lateral (select n % 2 = 0 and n between events / 2 and events / 2 + 19999 as large) as belongs
cross join lateral (select
  case when large then 2 else 10 end as step,
  case when large then (n - events / 2) / 2 else n % 1000 / 10 end as k,
  timestamptz '2026-01-01Z' + n * interval '1 second' as made) as placed;

insert into bloodbank.causes (cause, effect)
select events.correlation_ids[1], events.event_id from bloodbank.events where events.correlation_ids <> '{}';

-- nobody has anything left to follow while something else is measured
update bloodbank.subscriptions set position = (select max(events.position) from bloodbank.events);
