-- Publishing: envelopes into the log, over the API or by what else hands them to logic.event_ingest.
--
-- Judged are only the keys that the log itself reads, whichever door an event comes through: the log is history, not a
-- gatekeeper, and an unknown source or agent type is stored as it came. Over the API a list goes in whole or not at all;
-- of what a bus brings (intake.sql) what is good goes in. A change's own event is appended by logic.event_append (log.sql).

-- One expression without a query in it, so that it is inlined where hundreds of envelopes are judged. An indexed value may
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
