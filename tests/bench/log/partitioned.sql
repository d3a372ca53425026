-- The same log in twelve partitions by time. A unique key of a partitioned table has to hold the partitions' key, so what
-- keeps an event from being stored twice is a table of its own: event_id, and where the event is.
create schema part;
create table part.events (like bloodbank.events including identity including defaults including constraints) partition by range ("timestamp");
create table part.ids (event_id uuid primary key, "timestamp" timestamptz not null, position bigint not null);
do $$
declare
  v_first timestamptz := (select min("timestamp") from bloodbank.events);
  v_last timestamptz := (select max("timestamp") from bloodbank.events);
begin
  for n in 1 .. 12 loop
    execute format('create table part.events_%s partition of part.events for values from (%s) to (%s)', n,
      case n when 1 then 'minvalue' else quote_literal(v_first + (n - 1) * (v_last - v_first) / 12) end,
      case n when 12 then 'maxvalue' else quote_literal(v_first + n * (v_last - v_first) / 12) end);
  end loop;
end
$$;
insert into part.events overriding system value select * from bloodbank.events order by position;
insert into part.ids select event_id, "timestamp", position from bloodbank.events order by event_id;
create index on part.events (position);
create index on part.events (event_type, "timestamp" desc, position desc);
create index on part.events ("timestamp" desc, position desc);
create index on part.events ((agent_context ->> 'checkpoint_id')) where agent_context ->> 'checkpoint_id' is not null;
create index on part.events (lower(payload ->> 'workflow_id'), position) where payload ->> 'workflow_id' is not null;
create table part.causes (like bloodbank.causes including all);
insert into part.causes select * from bloodbank.causes;

-- What comes in: 500 new events at a time, which are looked up and stored in one statement.
create table part.fresh as
select row_number() over () as n, event_type, version, source, payload, arrived
from (select * from bloodbank.events order by position desc limit 500) as last;

create procedure part.store(p_whole boolean)
language plpgsql
as $$
declare
  v_ids uuid[] := array(select gen_random_uuid() as id from generate_series(1, 500) order by id);
begin
  if p_whole then
    insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, arrived)
    select v_ids[n], event_type, now(), version, source, payload, arrived from part.fresh
    on conflict (event_id) do nothing;
  else
    with taken as (
      insert into part.ids (event_id, "timestamp", position)
      select v_ids[n], now(), nextval(pg_get_serial_sequence('part.events', 'position')) from part.fresh
      on conflict (event_id) do nothing
      returning event_id, position
    )
    insert into part.events (position, event_id, event_type, "timestamp", version, source, payload, arrived) overriding system value
    select taken.position, taken.event_id, event_type, now(), version, source, payload, arrived
    from taken join part.fresh on v_ids[n] = event_id;
  end if;
end
$$;

create function part.by_id(p_whole boolean, p_event_id uuid) returns jsonb
language plpgsql
as $$
begin
  return case when p_whole
    then (select payload from bloodbank.events where event_id = p_event_id)
    else (select e.payload from part.ids join part.events as e on e."timestamp" = ids."timestamp" and e.position = ids.position where ids.event_id = p_event_id)
  end;
end
$$;

-- As api.event_list picks them: the newest hundred of each type before a moment, of those the newest hundred.
create function part.by_type(p_whole boolean, p_types text[], p_from timestamptz, p_to timestamptz) returns bigint
language plpgsql
as $$
declare
  v_found bigint;
begin
  execute format('
    select count(*) from (
      select picked.* from unnest($1) as given (event_type) cross join lateral (
        select e.position, e."timestamp" from %s as e
        where e.event_type = given.event_type and e."timestamp" >= $2 and e."timestamp" <= $3
        order by "timestamp" desc, position desc limit 100) as picked
      order by "timestamp" desc, position desc limit 100) as page', case when p_whole then 'bloodbank.events' else 'part.events' end)
  using p_types, p_from, p_to into v_found;
  return v_found;
end
$$;
