-- Ops: what an operator asks in psql, and the figures behind /health and /metrics.
--
-- Everything here reads and nothing waits; what an operator does (replay, subscribe, prune, rebuild) comes with what it
-- is done to. A view's functions run with the reader's rights: PostgreSQL shows an operator the queries of other users
-- only if that login is also a member of pg_monitor. A follower is whatever remembers a position in the log: a cursor or
-- a subscription; how far it is behind is counted in events, because positions may have gaps.
-- The log is held back when a transaction that appended does not end; nothing above it can be followed until it does.

create or replace function logic.handler_resolves(p_handler text) returns boolean
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select logic.subscription_handler(p_handler) is not null
$$;
comment on function logic.handler_resolves is 'Whether a subscription''s handler names one function that iMi may call';

create or replace function logic.workers() returns bigint
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select count(*) from pg_stat_get_activity(null) as session
  join pg_database as own on own.oid = session.datid
  where own.datname = current_database() and pg_has_role(session.usesysid, 'imi_worker', 'member')
    and not pg_has_role(session.usesysid, 'imi_owner', 'member')
$$;
comment on function logic.workers() is 'How many sessions follow the log: relays, intakes and runners of subscriptions';

create or replace view logic.followers as
select
  follower.name, follower.kind, follower.position, follower.leader, follower.moved_at, follower.paused, follower.handler,
  state.handler_resolves, state.behind_for,
  case
    when follower.paused then null
    when not state.handler_resolves then 'its handler is missing'
    when state.behind_for >= interval '1 minute' then 'behind for ' || date_trunc('second', state.behind_for)
  end as trouble
from (
  select name, 'cursor' as kind, position, leader, moved_at, false as paused, null::text as handler
  from bloodbank.cursors
  where name <> 'pruned'
  union all
  select name, 'subscription', position, null, null, paused, handler from bloodbank.subscriptions
) as follower
cross join lateral (
  select
    case when follower.handler is not null then logic.handler_resolves(follower.handler) end as handler_resolves,
    coalesce((
      select (select logic.now()) - event.ingested_at from bloodbank.events as event
      where event.position > follower.position and (follower.name <> 'relay' or event.arrived = 'local')
      order by event.position
      limit 1
    ), interval '0') as behind_for
) as state;
comment on view logic.followers is 'Whatever remembers a position in the log, how long the next event has waited for it, and what is wrong with it';

create or replace function logic.health() returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select json_build_object(
    'followers', (select coalesce(json_object_agg(name, trouble order by name), '{}') from logic.followers where trouble is not null))
$$;
comment on function logic.health() is 'Answers if the database does: {followers: {name: what is wrong with it}}';

create or replace function logic.queue_depth(p_queue text) returns bigint
language plpgsql
stable
as $$
declare
  v_depth bigint := 0;
begin
  if to_regclass('pgmq.q_' || p_queue) is not null then
    execute format('select count(*) from (select from pgmq.%I limit 100000) as waiting', 'q_' || p_queue) into v_depth;
  end if;
  return v_depth;
end
$$;
comment on function logic.queue_depth is 'How many messages a queue of the embedded bus holds; 100,000 means at least as many';

-- Asked every few seconds, so nothing is counted that may be large: the events are estimated as the planner does it, what
-- waits is counted up to 100,000, and the log's growth and the intake's rate and latency are those of the last 10 seconds.
create or replace function logic.metrics() returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  with recent as materialized (
    select events.arrived, events.ingested_at - events."timestamp" as latency from bloodbank.events
    where events.position > coalesce((
      select older.position from bloodbank.events as older
      where older.ingested_at < (select logic.now()) - interval '10 seconds'
      order by older.position desc
      limit 1), 0)
  )
  select json_build_object(
    'total_events', (
      select case
        when class.relpages = 0 then (select count(*) from bloodbank.events)
        else (class.reltuples / class.relpages * (pg_relation_size(class.oid) / current_setting('block_size')::integer))::bigint
      end
      from pg_catalog.pg_class as class where class.oid = 'bloodbank.events'::regclass),
    'log_end', (select coalesce(max(events.position), 0) from bloodbank.events),
    'log_bytes', pg_total_relation_size('bloodbank.events') + pg_total_relation_size('bloodbank.causes'),
    'log_pruned', logic.log_pruned(),
    'log_growth_rate', (select count(*) / 10.0 from recent),
    'log_events_held_back', (select count(*) from bloodbank.events where events.position > (select logic.log_floor())),
    'ingest_rate', (select count(*) / 10.0 from recent where arrived = 'bus'),
    'ingest_latency_seconds', (select coalesce(extract(epoch from avg(latency)), 0) from recent where arrived = 'bus'),
    'relay_lag', logic.relay_lag(),
    'lag_events_by_follower', (
      select json_object_agg(follower.name, (
        select count(*) from (
          select from bloodbank.events
          where events.position > follower.position and (follower.name <> 'relay' or events.arrived = 'local')
          limit 100000
        ) as waiting))
      from logic.followers as follower),
    'lag_seconds_by_follower', (select json_object_agg(name, extract(epoch from behind_for)) from logic.followers),
    'messages_by_queue', (
      select coalesce(json_object_agg(queue, logic.queue_depth(queue)), '{}')
      from (select distinct queue from bloodbank.bindings) as bound),
    'workers', logic.workers(),
    'dead_letters', (select count(*) from bloodbank.dead_letters where dead_letters.replayed_at is null))
$$;
comment on function logic.metrics() is 'The figures of /metrics that the database knows; x_by_y is an object of figures by y';

create or replace view ops.lag as
select
  follower.name as follower, follower.kind, follower.position,
  (
    select count(*) from bloodbank.events as event
    where event.position > follower.position and (follower.name <> 'relay' or event.arrived = 'local')
  ) as behind_events,
  follower.behind_for, follower.leader, follower.moved_at, follower.paused, follower.handler, follower.handler_resolves
from logic.followers as follower;
comment on view ops.lag is 'How far each follower of the log is from its end';

create or replace view ops.locks as
select
  waiter.pid, session.usename as login, session.application_name as application,
  case waiter.locktype
    when 'relation' then waiter.relation::regclass::text
    when 'tuple' then waiter.relation::regclass::text
    when 'transactionid' then 'transaction ' || waiter.transactionid
    when 'advisory' then 'advisory ' || ((waiter.classid::bigint << 32) | waiter.objid::bigint)
    else waiter.locktype
  end as lock_on,
  waiter.mode, clock_timestamp() - waiter.waitstart as waited, session.query,
  blocker.pid as blocker_pid, holder.usename as blocker_login, holder.application_name as blocker_application,
  holder.state as blocker_state, holder.query as blocker_query
from pg_catalog.pg_locks as waiter
join pg_catalog.pg_stat_activity as session on session.pid = waiter.pid
cross join lateral unnest(pg_blocking_pids(waiter.pid)) as blocker (pid)
left join pg_catalog.pg_stat_activity as holder on holder.pid = blocker.pid
where not waiter.granted and session.datname = current_database();
comment on view ops.locks is 'Who waits for whom: one row a waiting session and a session in its way; empty when nobody waits';

create or replace view ops.subscriptions as
select
  subscription.name, 'handler' as kind, subscription.patterns, subscription.handler, subscription.position,
  subscription.attempts, subscription.paused
from bloodbank.subscriptions as subscription
union all
select binding.queue, 'queue', array_agg(binding.pattern::text order by binding.pattern), null, null, null, null
from bloodbank.bindings as binding
group by binding.queue;
comment on view ops.subscriptions is 'Who gets which events: handlers in SQL, and queues of the embedded bus';

create or replace view ops.dead_letters as
select
  letter.id as dead_letter_id, letter.source, letter.subscription, letter.event_id, event.event_type, letter.reason, letter.sqlstate,
  letter.attempts, letter.first_failed_at, letter.last_failed_at, letter.replayed_at,
  encode(letter.raw, 'escape') as raw
from bloodbank.dead_letters as letter
left join bloodbank.events as event on event.event_id = letter.event_id;
comment on view ops.dead_letters is 'What could not be stored, handled or sent, and why';

create or replace view ops.keys as
select
  key.id as key_id, key.name, key.scope,
  key.revoked_at is null and coalesce(key.expires_at > (select logic.now()), true) as valid,
  key.created_at, key.last_used_at, key.expires_at, key.revoked_at
from imi.api_keys as key;
comment on view ops.keys is 'Keys of the HTTP API; the keys themselves are kept nowhere';

create or replace view ops.log_size as
select
  total.events, total.bytes, total.bytes / nullif(total.events, 0) as bytes_per_event,
  (select min(event."timestamp") from bloodbank.events as event) as oldest_at,
  (select max(event."timestamp") from bloodbank.events as event) as newest_at,
  recent.last_day as events_last_day, recent.last_week / 7 as events_per_day,
  recent.last_week / 7 * total.bytes / nullif(total.events, 0) as bytes_per_day
from (
  select
    (select count(*) from bloodbank.events) as events,
    pg_total_relation_size('bloodbank.events') + pg_total_relation_size('bloodbank.causes') as bytes
) as total
cross join (
  select count(*) as last_week, count(*) filter (where event."timestamp" > (select logic.now()) - interval '1 day') as last_day
  from bloodbank.events as event
  where event."timestamp" > (select logic.now()) - interval '7 days'
) as recent;
comment on view ops.log_size is 'How large the log is and how fast it grows, by the events of the last 7 days';

create or replace view ops.settings as
select 'imi' as scope, loaded.part as name, loaded.version || ', loaded ' || loaded.loaded_at as value
from (
  select distinct on (ledger.part) ledger.part, ledger.version, ledger.loaded_at
  from imi_meta.ledger order by ledger.part, ledger.id desc
) as loaded
union all
select 'server', setting.name, current_setting(setting.name)
from pg_catalog.pg_settings as setting
where setting.name in (
  'server_version', 'max_connections', 'shared_buffers', 'effective_cache_size', 'maintenance_work_mem', 'wal_level', 'max_wal_size',
  'fsync', 'full_page_writes', 'synchronous_commit', 'archive_mode', 'autovacuum', 'password_encryption', 'ssl', 'TimeZone')
union all
select login.rolname, split_part(setting.line, '=', 1), substr(setting.line, strpos(setting.line, '=') + 1)
from pg_catalog.pg_roles as login
cross join lateral unnest(login.rolconfig) as setting (line)
where login.rolname in (select current_database() || '_' || kind from unnest(array['api', 'reader', 'worker']) as kind);
comment on view ops.settings is 'What this database runs with: iMi''s release, the server, and the limits of iMi''s logins';

create or replace view ops.health as
select judged.subject, judged.ok, judged.finding, case when not judged.ok then judged.remedy end as remedy
from (
  select
    'primary' as subject, not pg_is_in_recovery() as ok,
    case when pg_is_in_recovery() then 'a replica' else 'takes writes' end as finding,
    'iMi writes to the primary only; let IMI_DATABASE_URL name it' as remedy
  union all
  select
    'durability', bool_and(setting.setting <> 'off'), string_agg(setting.name || ' ' || setting.setting, ', ' order by setting.name),
    'Turn them on: an acknowledged change can be lost'
  from pg_catalog.pg_settings as setting
  where setting.name in ('fsync', 'full_page_writes', 'synchronous_commit')
  union all
  select
    'connections', sum(stat.numbackends) < 0.8 * current_setting('max_connections')::integer,
    format('%s of %s in use', sum(stat.numbackends), current_setting('max_connections')),
    'Raise max_connections or lower IMI_DATABASE_POOL_SIZE'
  from pg_catalog.pg_stat_database as stat
  union all
  select
    'transaction ids', age(own.datfrozenxid) < 1000000000, format('%s old', age(own.datfrozenxid)),
    'Vacuum: run VACUUM FREEZE, and look for what keeps autovacuum from it'
  from pg_catalog.pg_database as own
  where own.datname = current_database()
  union all
  select
    'locks', coalesce(max(lock.waited) < interval '5 seconds', true), format('%s sessions wait', count(distinct lock.pid)),
    'See ops.locks; pg_terminate_backend(blocker_pid) ends the session that is in the way'
  from ops.locks as lock
  union all
  select
    'log', coalesce(min(event.ingested_at) > (select logic.now()) - interval '30 seconds', true),
    format('%s events held back', count(event.position)),
    'A transaction that appended has not ended; pg_locks shows its pid (advisory locks whose classid >> 16 is 4242)'
  from bloodbank.events as event
  where event.position > (select logic.log_floor())
  union all
  select
    'followers', count(follower.trouble) = 0,
    coalesce(string_agg(format('%s: %s', follower.name, follower.trouble), ', ' order by follower.name)
      filter (where follower.trouble is not null), 'none is behind'),
    'See ops.lag: what has not moved is down (imi up and imi worker run them), or its handler is missing'
  from logic.followers as follower
  union all
  select
    'workers', logic.workers() > 0, format('%s sessions', logic.workers()),
    'Nobody follows the log: run imi up or imi worker'
  union all
  select
    'dead letters', count(*) = 0, format('%s wait', count(*)), 'See ops.dead_letters for the reasons'
  from bloodbank.dead_letters as letter
  where letter.replayed_at is null
) as judged;
comment on view ops.health is 'Is everything all right? One row a subject; what is not says what to do';
