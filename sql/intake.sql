-- The intake: what a bus delivers, good and bad, into the log and onto the desk, in one call and one transaction.
--
-- A message that is an envelope, or one of two shapes that mean one, is stored once, however often it comes; anything
-- else is a dead letter with the bytes that came, and its neighbours are stored all the same. Types imi.* are allowed
-- here: our own events come back from the bus and are known by their ids. Handlers do not run here, they follow the log.
-- What would abort the statement (bytes that are no text or no JSON, deep nesting, numbers that no double holds) is
-- sorted out before the call, by imi/bloodbank/envelope.py, and handed over as what it is. The letter's sqlstate says who
-- refused it: IM400 is ours, IM422 the gate's, and such bytes never come near a cast (dead_letters.sql).

-- Leftover keys stay beside ours and end up in the log's extra. A CloudEvent is named by its source and id: an id that
-- is no UUID makes one, the same each time. A time without a zone, as older publishers wrote it, is UTC.
create or replace function logic.envelope_of(p_message jsonb) returns jsonb
language sql
stable
as $$
  select case
    when jsonb_typeof(p_message) <> 'object' or p_message ?| array['event_id', 'payload'] then p_message
    when p_message ?& array['specversion', 'type'] and not p_message ? 'event_type' then
      p_message - array['type', 'time', 'source', 'data', case when logic.is_uuid(p_message ->> 'id') then 'id' end]
      || jsonb_build_object(
        'event_id', case
          when logic.is_uuid(p_message ->> 'id') then p_message ->> 'id'
          else encode(substr(sha256(convert_to((p_message ->> 'source') || E'\n' || (p_message ->> 'id'), 'UTF8')), 1, 16), 'hex')::uuid::text
        end,
        'event_type', p_message -> 'type',
        'timestamp', p_message -> 'time',
        'source', case when p_message ? 'source' then jsonb_build_object(
          'host', coalesce(substring(p_message ->> 'source' from '^[A-Za-z][A-Za-z0-9+.-]*://([^/?#]+)'), p_message ->> 'source'),
          'type', 'service',
          'meta', jsonb_build_object('source', p_message -> 'source')) end,
        'payload', case
          when jsonb_typeof(p_message -> 'data') = 'object' then p_message -> 'data'
          when p_message ? 'data' then jsonb_build_object('data', p_message -> 'data')
          else '{}'
        end)
    when p_message ?| array['ts', 'data'] then
      p_message
      - array['id', 'ts', 'source', 'data', case when logic.is_uuid(p_message ->> 'correlation_id') then 'correlation_id' end]
      || jsonb_build_object(
        'event_id', p_message -> 'id',
        'timestamp', (p_message ->> 'ts') || case when p_message ->> 'ts' ~ ':\d\d:\d\d(\.\d+)?$' then 'Z' else '' end,
        'source', case
          when jsonb_typeof(p_message -> 'source') = 'string' then jsonb_strip_nulls(jsonb_build_object(
            'host', substring(p_message ->> 'source' from '[^/]*$'),
            'type', 'service',
            'app', substring(p_message ->> 'source' from '^(.*)/')))
          else p_message -> 'source'
        end,
        'correlation_ids', case
          when logic.is_uuid(p_message ->> 'correlation_id') then jsonb_build_array(p_message -> 'correlation_id')
        end,
        'payload', p_message -> 'data')
    else p_message
  end
$$;
comment on function logic.envelope_of is 'The envelope that a message is or means: ours, the older one {id, ts, event_type, source, data, …} or a CloudEvent';

create or replace function logic.message_fault(p_envelope jsonb, p_bytes integer) returns text
language sql
stable
as $$
  select case
    when p_bytes > 1 << 20 then 'is larger than 1 MiB'
    else coalesce(logic.envelope_fault(p_envelope), case when p_envelope ->> 'event_id' is null then 'has no event_id' end)
  end
$$;
comment on function logic.message_fault is 'Why the intake cannot store what a message of so many bytes means, as the rest of a sentence; null if it can';

create or replace function logic.intake(
  p_messages text[], p_rejected bytea[] default '{}', p_reasons text[] default '{}', p_context json default '{}'
) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_good jsonb[];
  v_dead bigint;
  v_stored bigint := 0;
begin
  with parsed as materialized (
    select n, octet_length(message) as size, message::jsonb as message
    from unnest(p_messages) with ordinality as given (message, n)
  ), read as materialized (
    select n, size, logic.envelope_of(message) as envelope from parsed
  ), judged as materialized (
    select n, envelope, logic.message_fault(envelope, size) as fault from read
  ), bad as (
    select convert_to(p_messages[n], 'UTF8') as raw, fault, 'IM400' as state from judged where fault is not null
    union all
    select raw, reason, 'IM422' from unnest(p_rejected, p_reasons) as given (raw, reason)
  ), letters as materialized (
    select logic.dead_letter('intake', null, raw, 'The message ' || fault, state, 1) as id from bad
  )
  select
    (select array_agg(envelope order by n) from judged where fault is null),
    (select count(id) from letters)
  into v_good, v_dead;
  if v_good is not null then
    select count(*) filter (where (taken ->> 'new')::boolean) into v_stored
    from jsonb_array_elements(logic.event_ingest(v_good, 'bus', p_context)) as taken;
  end if;
  return json_build_object(
    'stored', v_stored, 'known', coalesce(cardinality(v_good), 0) - v_stored, 'dead', v_dead);
end
$$;
comment on function logic.intake is
  'Takes a batch from a bus: JSON texts, and what was rejected before with its reason; answers {stored, known, dead}';

create or replace function logic.intake_refuse(p_message bytea, p_reason text, p_sqlstate text) returns uuid
language sql
security definer
set search_path = pg_catalog, pg_temp
as $$
  select logic.dead_letter('intake', null, p_message, p_reason, p_sqlstate, 1)
$$;
comment on function logic.intake_refuse is
  'Makes a dead letter of a message that could not be stored; SQLSTATE IM422: it is no JSON that PostgreSQL holds';
