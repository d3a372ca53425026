-- A log of bench.events events of about 600 bytes, the same every time. Every hundredth is of one large tree of causes,
-- the others are of trees of 100. The events of a tree lie far apart in the log and their ids are random; each but the
-- first has a cause among those before it. Event n has the id bench.id(n): 0 is the large tree's root, 1 a small one's.
create schema bench;

create function bench.id(p_n bigint) returns uuid
language sql
immutable
begin atomic
  select md5('event ' || p_n)::uuid;
end;

insert into bloodbank.events (event_id, event_type, "timestamp", version, source, correlation_ids, payload, ingested_at, arrived)
select
  bench.id(n), (array['tool.mutation.edit', 'git.push', 'llm.prompt.sent', 'session.thread.message', 'agent.state.changed'])[1 + n % 5],
  made, '1.0.0', '{"host": "builder-1", "type": "agent", "app": "hooks"}',
  case when k = 0 then '{}' else array[bench.id(case when large then cause * 100 else other + other / 99 + 1 end)] end,
  jsonb_build_object('number', n, 'thread', bench.id(n / 1000), 'text', repeat('Keep the lease until the branch is merged. ', 8)),
  made, 'bus'
from generate_series(0, current_setting('bench.events')::bigint - 1) as n
cross join lateral (select n % 100 = 0 as large, n - n / 100 - 1 as m, current_setting('bench.events')::bigint / 100 * 99 / 100 as trees,
  timestamptz '2026-01-01Z' + n * interval '1 second' as made) as placed
cross join lateral (select case when large then n / 100 else m / trees end as k) as kth
cross join lateral (select (hashint8extended(n, 1) & 1023) * k / 1024 as cause) as chosen
cross join lateral (select cause * trees + m % trees as other) as named;

insert into bloodbank.causes (cause, effect)
select events.correlation_ids[1], events.event_id from bloodbank.events where events.correlation_ids <> '{}';
