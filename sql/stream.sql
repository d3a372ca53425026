-- The stream: the log as those who watch it read it.
--
-- A page is what a stretch of the log below the floor (log.sql) holds for one filter, and where the next one begins. The
-- server's tail reads without a filter and shares what it finds among its clients; a client that is behind reads pages of
-- its own until it has met the tail. A page is bounded in rows looked at, rows and bytes, so nobody waits for another's
-- history. A ticket is a short-lived stand-in for a key where a browser can send no header; the server signs it with a
-- secret that is made here when it is first asked for, so that all servers of one database know it.

-- Volatile, because it reads below the floor. Sorting is off, because each of its orders is an index's: the planner, which
-- knows no workflow's size, would rather read and sort all of a large one.
create or replace function logic.stream_read(
  p_after bigint,
  p_event_type text,
  p_workflow_id uuid,
  p_limit integer,
  out upto bigint, out behind boolean, out positions bigint[], out event_types text[], out concerned text[], out envelopes text[]
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set enable_sort = off
as $$
declare
  v_floor bigint := logic.log_floor();
  v_regex text := logic.topic_regex(p_event_type);
  v_looks integer := 5000;
  v_workflow text := p_workflow_id;
  v_has_few_effects boolean;
  v_positions bigint[];
  v_after bigint;
  v_bytes integer := 0;
  v_event record;
begin
  if p_after is null then
    upto := v_floor;
    behind := false;
    return;
  end if;
  perform logic.cursor_refuse_beyond(p_after);
  -- the log is whole above what was pruned; what is kept below that is no beginning
  v_after := case when p_after = 0 then logic.log_pruned() else p_after end;
  upto := greatest(v_after, v_floor);
  -- few effects are looked up one by one (offset 0: no join with all of the log); where there are many, the log is gone
  -- through as it is without a workflow
  v_has_few_effects := p_workflow_id is not null
    and not exists (select from bloodbank.causes where causes.cause = p_workflow_id offset v_looks);
  if v_has_few_effects then
    v_looks := case when p_event_type is null then p_limit else v_looks end;
    v_positions := array(
      (
        -- a comparison of rows and not an equality, so that the order is of this index and no other
        select events.position from bloodbank.events
        where (lower(events.payload ->> 'workflow_id'), events.position) > (v_workflow, v_after)
          and lower(events.payload ->> 'workflow_id') <= v_workflow and events.position <= v_floor
        order by lower(events.payload ->> 'workflow_id'), events.position
        limit v_looks
      )
      union
      select effect.position from bloodbank.causes
      cross join lateral (select events.position from bloodbank.events where events.event_id = causes.effect offset 0) as effect
      where causes.cause = p_workflow_id and effect.position > v_after and effect.position <= v_floor
      order by position
      limit v_looks);
    upto := coalesce(v_positions[v_looks], upto);
  else
    upto := coalesce((
      select events.position from bloodbank.events
      where events.position > v_after and events.position <= v_floor
      order by events.position
      offset v_looks - 1 limit 1), upto);
  end if;
  for v_event in execute format($query$
    select events.position, events.event_type, logic.event_envelope(events)::text as envelope,
      concat_ws(' ',
        logic.uuid_of(events.payload ->> 'workflow_id'),
        array_to_string(events.correlation_ids, ' ')) as concerned
    from bloodbank.events
    where events.position > $1 and events.position <= $2 %s %s
    order by events.position
    limit $5$query$,
    case when v_regex is not null then 'and (''.'' || events.event_type) ~ $3' end,
    case
      when v_has_few_effects then 'and events.position = any ($4)'
      when p_workflow_id is not null then 'and (lower(events.payload ->> ''workflow_id'') = $6 or $6::uuid = any (events.correlation_ids))'
    end)
  using v_after, upto, v_regex, v_positions, p_limit, v_workflow
  loop
    v_bytes := v_bytes + octet_length(v_event.envelope);
    if v_bytes > 1 << 20 and positions is not null then
      upto := positions[cardinality(positions)];
      exit;
    end if;
    positions := positions || v_event.position;
    event_types := event_types || v_event.event_type;
    concerned := concerned || v_event.concerned;
    envelopes := envelopes || v_event.envelope;
    if cardinality(positions) = p_limit then
      upto := v_event.position;
    end if;
  end loop;
  perform logic.cursor_refuse_pruned(p_after);
  behind := upto < v_floor;
end
$$;
comment on function logic.stream_read is
  'The next events of the log for a filter, at most 1 MiB of them or one, and where to go on; with a null cursor only that';

-- Three random UUIDs carry 366 random bits, as in keys.sql.
create or replace function logic.ticket_key() returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_key text;
begin
  select secrets.value into v_key from imi_meta.secrets where secrets.name = 'ticket key';
  if not found then
    insert into imi_meta.secrets (name, value)
    values ('ticket key', encode(
      sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex'))
    on conflict (name) do update set value = secrets.value
    returning secrets.value into v_key;
  end if;
  return v_key;
end
$$;
comment on function logic.ticket_key() is 'The secret that stream tickets are signed with; made when it is first asked for';
