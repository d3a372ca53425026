-- Events over the API: reading the log by filters, or from a cursor on.
--
-- An envelope is shown as the bus carries it, its unknown keys merged back in. Filters read what is committed; a cursor
-- reads below the floor (log.sql) and therefore misses nothing, however late a lower position commits; its 0 is where
-- the log begins to be whole, above what retention (retention.sql) has been through.

-- Each of these two is one expression without a query in it, so that it is inlined and no row is built for it: twice as fast.
create or replace function logic.event_known(p_event bloodbank.events) returns json
language sql
stable
as $$
  select json_build_object(
    'event_id', p_event.event_id,
    'event_type', p_event.event_type,
    'timestamp', p_event."timestamp",
    'version', p_event.version,
    'source', p_event.source,
    'correlation_ids', p_event.correlation_ids,
    'agent_context', p_event.agent_context,
    'payload', p_event.payload)
$$;
comment on function logic.event_known is 'The keys of an envelope that every event has';

create or replace function logic.event_envelope(p_event bloodbank.events) returns json
language sql
stable
as $$
  select case
    when p_event.extra is null then logic.event_known(p_event)
    else (p_event.extra || logic.event_known(p_event)::jsonb)::json
  end
$$;
comment on function logic.event_envelope is 'An event as the bus and the API show it';

-- Hops along the index from one type to the next: there are dozens of types, however long the log is. It begins at the
-- words in front of the first wildcard, and ends where a type no longer begins with them.
create or replace function logic.event_types(p_pattern text) returns setof text
language sql
stable
as $$
  with recursive wanted as materialized (
    select logic.topic_regex(p_pattern) as regex, rtrim(substring(p_pattern from '^[^*#]*'), '.') as prefix
  ), types (event_type) as (
    select (
      select events.event_type from bloodbank.events
      where events.event_type >= wanted.prefix
      order by events.event_type limit 1)
    from wanted
    union all
    select (
      select events.event_type from bloodbank.events
      where events.event_type > types.event_type
      order by events.event_type limit 1)
    from types
    cross join wanted
    where starts_with(types.event_type, wanted.prefix)
  )
  select types.event_type from types cross join wanted
  where starts_with(types.event_type, wanted.prefix) and ('.' || types.event_type) ~ wanted.regex
$$;
comment on function logic.event_types is 'The event types in the log that a pattern matches';

-- An array, because the planner has no idea how many events a workflow has, and would read the whole log for half a percent of it.
create or replace function logic.workflow_positions(p_workflow text) returns bigint[]
language sql
stable
as $$
  select array(
    select events.position from bloodbank.events where lower(events.payload ->> 'workflow_id') = lower(p_workflow)
    union
    select events.position from bloodbank.causes join bloodbank.events on events.event_id = causes.effect
    where causes.cause = logic.uuid_of(p_workflow))
$$;
comment on function logic.workflow_positions is 'The events of a workflow: those whose payload names it, and those that name it as a cause';

-- Volatile, because it reads below the floor: see the head of log.sql.
create or replace function api.event_list(
  p_event_type text default null,
  p_workflow_id uuid default null,
  p_correlation_id uuid default null,
  p_start_time timestamptz default null,
  p_end_time timestamptz default null,
  p_order text default null,
  p_limit integer default null,
  p_offset integer default null,
  p_after bigint default null,
  p_count boolean default null,
  out status integer,
  out body json,
  out headers json
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_floor bigint := logic.log_floor();
  v_pruned bigint := logic.log_pruned();
  v_types text[];
  v_of_workflow bigint[] := logic.workflow_positions(p_workflow_id::text);
  v_where text := 'true';
  v_of_types text := '';
  v_pick text := 'select e.position, e."timestamp" from bloodbank.events as e where ';
  v_order text := '"timestamp" desc, position desc';
  v_total bigint;
  v_cursor bigint;
begin
  if p_after is not null then
    if p_order is not null or p_offset is not null then
      perform logic.fail(400, 'VALIDATION_ERROR', 'A cursor reads in log order',
        '{"errors": [{"path": "after", "message": "cannot stand beside order or offset"}]}', 'Drop order and offset, or after');
    end if;
    perform logic.cursor_refuse_beyond(p_after);
    v_where := 'e.position > greatest($6, $10) and e.position <= $7';
    v_order := 'position';
  elsif p_order = 'asc' then
    v_order := '"timestamp", position';
  end if;
  if p_start_time is not null then
    v_where := v_where || ' and e."timestamp" >= $4';
  end if;
  if p_end_time is not null then
    v_where := v_where || ' and e."timestamp" <= $5';
  end if;
  if p_event_type <> '#' then
    v_types := case when p_event_type ~ '[*#]' then array(select logic.event_types(p_event_type)) else array[p_event_type] end;
    v_of_types := ' and e.event_type = any ($1)';
  end if;
  if p_workflow_id is not null or p_correlation_id is not null then
    if p_workflow_id is not null then
      v_where := v_where || ' and e.position = any ($2)';
    end if;
    if p_correlation_id is not null then
      v_where := v_where || ' and e.position = any (array(
        select effect.position from bloodbank.causes join bloodbank.events as effect on effect.event_id = causes.effect
        where causes.cause = $3))';
    end if;
    v_pick := v_pick || v_where || v_of_types;
  elsif p_after is not null and (v_types is not null or p_start_time is not null or p_end_time is not null) then
    -- the next of them in the stretch ahead; only if there are too few, those behind it by the indexes on types or time ("+ 0":
    -- not by position), for it may be a long way to the next one
    v_pick := format(
      'select picked.position from (
        select array(%1$s and e.position <= greatest($6, $10) + 10000 order by e.position limit $9) as positions offset 0
      ) as near
      cross join lateral unnest(near.positions || case when cardinality(near.positions) < $9 then
        array(%1$s and e.position > greatest($6, $10) + 10000 order by e.position + 0 limit $9) end) as picked (position)',
      'select e.position from bloodbank.events as e where ' || v_where || v_of_types);
  elsif p_after is null and v_types is not null then
    -- each type's newest by the index on types: a walk through the index on time would read whatever lies between
    v_pick := format(
      'select picked.* from unnest($1) as given (event_type) cross join lateral (
        %s e.event_type = given.event_type and %s order by %s limit $8 + $9) as picked', v_pick, v_where, v_order);
  else
    v_pick := v_pick || v_where;
  end if;
  execute format($query$
    with page as (
      select position, row_number() over (order by %1$s) as n
      from (%2$s) as picked
      order by %1$s
      offset $8 limit $9
    ), sized as (
      select n, position, envelope, n = min(n) over () or sum(octet_length(envelope::text)) over (order by n) <= 32 << 20 as fits
      from (
        select page.n, page.position, logic.event_envelope(event) as envelope
        from page join bloodbank.events as event using (position)
      ) as rendered
    )
    select
      coalesce(json_agg(envelope order by n) filter (where fits), '[]'),
      case when count(*) = $9 or not bool_and(fits) then max(position) filter (where fits) end
    from sized$query$, v_order, v_pick)
  using v_types, v_of_workflow, p_correlation_id, p_start_time, p_end_time, p_after, v_floor,
    coalesce(p_offset, 0)::bigint, coalesce(p_limit, 100)::bigint, v_pruned
  into body, v_cursor;
  perform logic.cursor_refuse_pruned(p_after);
  status := 200;
  headers := '{}';
  if p_after is not null then
    -- a page that is not full has seen everything up to the floor
    headers := json_build_object('X-Next-Cursor', coalesce(v_cursor, greatest(p_after, v_floor))::text);
  end if;
  if p_count then
    execute format('select count(*) from bloodbank.events as e where %s', v_where || v_of_types)
    using v_types, v_of_workflow, p_correlation_id, p_start_time, p_end_time, p_after, v_floor, null, null, v_pruned
    into v_total;
    headers := headers::jsonb || jsonb_build_object('X-Total-Count', v_total::text);
  end if;
end
$$;
comment on function api.event_list is 'GET /api/v1/events: envelopes by type, workflow, cause and time, or from a cursor on';

create or replace function logic.event_not_found(p_event_id uuid) returns json
language sql
stable
as $$
  select logic.not_found('Event', 'event_id', p_event_id::text,
    case when logic.log_pruned() > 0 then 'Retention has removed old events; it may have been one of them' end)
$$;
comment on function logic.event_not_found is 'The error document of an event that is not in the log';

create or replace function api.event_get(p_event_id uuid, out status integer, out body json)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  select 200, logic.event_envelope(events) into status, body from bloodbank.events where events.event_id = p_event_id;
  if not found then
    status := 404;
    body := logic.event_not_found(p_event_id);
  end if;
end
$$;
comment on function api.event_get is 'GET /api/v1/events/{event_id}: one envelope';
