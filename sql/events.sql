-- Events over the API: reading the log by filters or from a cursor on, and publishing into it.
--
-- An envelope is shown as the bus carries it, its unknown keys merged back in. Filters read what is committed; a cursor
-- reads below the floor (log.sql) and therefore misses nothing, however late a lower position commits; its 0 is where
-- the log begins to be whole, above what retention (retention.sql) has been through. Publishing
-- judges only the keys that the log itself reads, whichever door an event comes through: the log is history, not a
-- gatekeeper. A list goes in whole or not at all.

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

create or replace function logic.is_uuid(p_text text) returns boolean
language sql
stable
as $$
  select p_text like '________-____-____-____-____________' and pg_input_is_valid(p_text, 'uuid')
$$;
comment on function logic.is_uuid is 'Whether a text is a UUID in its usual form, of 36 characters';

create or replace function logic.uuid_of(p_text text) returns uuid
language sql
stable
as $$
  select case when logic.is_uuid(p_text) then p_text::uuid end
$$;
comment on function logic.uuid_of is 'The UUID that a text is; null if it is none';

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
    elsif p_after > coalesce(pg_sequence_last_value('bloodbank.events_position_seq'), 0) then
      perform logic.fail(400, 'INVALID_CURSOR', 'The cursor lies beyond the end of the log',
        jsonb_build_object('after', p_after), 'Use a cursor that this server handed out, or 0 for the beginning');
    end if;
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
  v_pruned := logic.log_pruned();  -- once more, after the rows: what retention took from among them meanwhile is not passed over
  if p_after between 1 and v_pruned - 1 then
    perform logic.fail(410, 'GONE', 'The log no longer reaches back to this cursor',
      jsonb_build_object('after', p_after, 'oldest', v_pruned), 'Go on from params.oldest; what lay between is gone');
  end if;
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

-- Of the keys only those are judged that the log itself reads; an unknown source or agent type is stored as it came. One
-- expression without a query in it, so that it is inlined where hundreds of envelopes are judged. An indexed value may
-- have 1 KiB: a row that no index page holds would fail the whole statement.
create or replace function logic.envelope_fault(p_envelope jsonb) returns text
language sql
stable
as $$
  select case
    when jsonb_typeof(p_envelope) is distinct from 'object' then 'is not an object'
    when jsonb_typeof(p_envelope -> 'event_type') is distinct from 'string' then 'has no event_type'
    when octet_length(p_envelope ->> 'event_type') > 255
      or p_envelope ->> 'event_type' !~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$'
      then 'has an event_type that is not words of letters, digits, _ and - joined by dots, 255 bytes at most'
    when jsonb_typeof(p_envelope -> 'payload') is distinct from 'object' then 'has no payload object'
    when not logic.is_uuid(p_envelope ->> 'event_id') then 'has an event_id that is no UUID'
    when jsonb_typeof(coalesce(nullif(p_envelope -> 'correlation_ids', 'null'), '[]')) <> 'array' then 'has correlation_ids that are no list'
    when jsonb_path_exists(nullif(p_envelope -> 'correlation_ids', 'null'),
      'strict $[*] ? (@.type() != "string" || !(@ like_regex "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"))')
      then 'has a correlation id that is no UUID'
    when jsonb_array_length(nullif(p_envelope -> 'correlation_ids', 'null')) > 1000 then 'has more than 1,000 correlation_ids'
    when jsonb_typeof(coalesce(nullif(p_envelope -> 'source', 'null'), '{}')) <> 'object' then 'has a source that is no object'
    when jsonb_typeof(coalesce(nullif(p_envelope -> 'agent_context', 'null'), '{}')) <> 'object' then 'has an agent_context that is no object'
    when not pg_input_is_valid(coalesce(p_envelope ->> 'timestamp', 'epoch'), 'timestamptz') then 'has a timestamp that is no time'
    when (p_envelope ->> 'timestamp')::timestamptz not between '1970-01-01 00:00Z' and '2200-01-01 00:00Z'
      then 'has a timestamp outside 1970..2200'
    when p_envelope ->> 'timestamp' !~ '^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)$'
      then 'has a timestamp that is not RFC 3339 with its zone'
    when char_length(p_envelope ->> 'version') > 20 then 'has a version of more than 20 characters'
    when octet_length(p_envelope -> 'payload' ->> 'workflow_id') > 1 << 10 then 'has a workflow_id of more than 1 KiB'
    when octet_length(p_envelope -> 'agent_context' ->> 'checkpoint_id') > 1 << 10 then 'has a checkpoint_id of more than 1 KiB'
  end
$$;
comment on function logic.envelope_fault is 'Why the log cannot hold an envelope, as the rest of a sentence; null if it can';

create or replace function logic.envelope_check(p_envelope jsonb, p_index integer, p_context json) returns void
language plpgsql
as $$
declare
  v_fault text := coalesce(
    logic.envelope_fault(p_envelope), case when octet_length(p_envelope::text) > 1 << 20 then 'is larger than 1 MiB' end);
begin
  if v_fault is not null then
    perform logic.fail(400, 'VALIDATION_ERROR', format('The event at index %s %s', p_index, v_fault),
      jsonb_build_object('errors', jsonb_build_array(jsonb_build_object('path', p_index::text, 'message', v_fault))),
      'Nothing was stored; mend this one and send the whole list again');
  elsif starts_with(p_envelope ->> 'event_type', 'imi.') and p_context ->> 'scope' is distinct from 'admin' then
    perform logic.fail(403, 'FORBIDDEN', 'Events named imi.* are iMi''s own; publishing one needs an admin key',
      jsonb_build_object('index', p_index, 'event_type', p_envelope ->> 'event_type'), 'Use another first word, or an admin key');
  end if;
end
$$;
comment on function logic.envelope_check is 'Refuses an envelope that the log cannot hold, naming its index';

-- The one way of envelopes into the log, whichever door they come through; they have been judged before. Positions are
-- given out in the order of the list, so that a cause in front of its effect stays there. Rows go in in the order of
-- their ids: two calls that hold the same events wait for each other at the same one, never in a circle. What is there
-- already is looked for first, because most of what a bus brings are our own events coming back. What the new ones tell
-- of workflows is projected at once (projections.sql).
create or replace function logic.event_ingest(p_events jsonb[], p_arrived text, p_context json) returns jsonb
language plpgsql
as $$
declare
  v_now timestamptz := logic.now();
  v_causes uuid[] := logic.correlation_ids(p_context);
  v_taken jsonb;
  v_projected bigint[];
begin
  perform logic.log_enter();
  with named as materialized (
    select n, event, coalesce((event ->> 'event_id')::uuid, uuidv7()) as event_id
    from unnest(p_events) with ordinality as list (event, n)
  ), given as materialized (
    select n, event_id, row_number() over (partition by event_id order by n) as turn,
      (select events.position from bloodbank.events where events.event_id = named.event_id) as position
    from named
  ), placed as materialized (
    select n, event_id, nextval('bloodbank.events_position_seq') as position
    from (select n, event_id from given where turn = 1 and position is null order by n) as fresh
  ), fresh as materialized (
    select placed.position, event_id, event, case
      when cardinality(v_causes) = 0 and jsonb_array_length(coalesce(nullif(event -> 'correlation_ids', 'null'), '[]')) < 2
        then array(select id::uuid from jsonb_array_elements_text(nullif(event -> 'correlation_ids', 'null')) as id)
      else array(
        select id::uuid
        from (
          select id, row_number() over () as place
          from jsonb_array_elements_text(nullif(event -> 'correlation_ids', 'null')) as id
          union all
          select id::text, null from unnest(v_causes) as id
        ) as ids
        group by id::uuid
        order by min(place) nulls last)
      end as causes
    from placed
    join named using (n, event_id)
  ), inserted as (
    insert into bloodbank.events (
      position, event_id, event_type, "timestamp", version, source, correlation_ids, agent_context, payload, extra,
      ingested_at, arrived)
    overriding system value
    select
      position,
      event_id,
      event ->> 'event_type',
      coalesce((event ->> 'timestamp')::timestamptz, v_now),
      coalesce(event ->> 'version', '1.0.0'),
      coalesce(nullif(event -> 'source', 'null'), jsonb_build_object(
        'host', coalesce(p_context ->> 'host', 'postgresql'), 'type', 'manual', 'meta', jsonb_build_object('actor', p_context ->> 'actor'))),
      causes,
      nullif(event -> 'agent_context', 'null'),
      event -> 'payload',
      nullif(event - array['event_id', 'event_type', 'timestamp', 'version', 'source', 'correlation_ids', 'agent_context', 'payload'], '{}'),
      v_now,
      p_arrived
    from fresh
    order by event_id
    on conflict (event_id) do nothing
    returning event_id, position, event_type, correlation_ids
  ), edges as (
    insert into bloodbank.causes (cause, effect)
    select cause, event_id
    from inserted
    cross join unnest(inserted.correlation_ids) as cause
    on conflict do nothing
  )
  select jsonb_agg(jsonb_build_object('event_id', event_id, 'cursor', coalesce(given.position, inserted.position),
    'new', turn = 1 and inserted.position is not null) order by n),
    array_agg(inserted.position) filter (where turn = 1 and inserted.event_type = any (logic.projected_types()))
  into v_taken, v_projected
  from given
  left join inserted using (event_id);
  if v_projected is not null then
    perform logic.project(v_projected);
  end if;
  -- what somebody else stored while this waited for it
  if v_taken @> '[{"cursor": null}]' then
    select jsonb_agg(event || jsonb_build_object('cursor', coalesce(event -> 'cursor', to_jsonb((
      select events.position from bloodbank.events where events.event_id = (event ->> 'event_id')::uuid)))) order by n)
    into v_taken
    from (select n, jsonb_strip_nulls(event) as event from jsonb_array_elements(v_taken) with ordinality as list (event, n)) as taken;
  end if;
  if v_taken @> '[{"new": true}]' then
    perform logic.log_wake();
  end if;
  return coalesce(v_taken, '[]');
end
$$;
comment on function logic.event_ingest is 'Stores a list of envelopes; for each, in order: {event_id, cursor, new}';

create or replace function api.event_publish(p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_is_list boolean := json_typeof(p_body) = 'array';
  v_events jsonb[] := case when v_is_list then array(select jsonb_array_elements(p_body::jsonb)) else array[p_body::jsonb] end;
  v_taken jsonb;
begin
  perform logic.envelope_check(given.event, given.n::integer - 1, p_context)
  from unnest(v_events) with ordinality as given (event, n);
  v_taken := logic.event_ingest(v_events, 'local', p_context);
  perform logic.agent_seen(p_context ->> 'agent_id');
  status := case when v_taken @> '[{"new": true}]' then 202 else 200 end;
  body := case when v_is_list then json_build_object('items', v_taken) else (v_taken -> 0)::json end;
end
$$;
comment on function api.event_publish is 'POST /api/v1/events: one envelope or a list of them into the log; a repeated event_id is not new';
