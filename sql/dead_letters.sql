-- Dead letters: what could not be stored, handled or sent, with the reason, until somebody replays it.
--
-- The table is the desk: an event that failed is named by its id, what never became one is kept as the bytes that came.
-- Replaying a subscription's letter calls its handler with the event once more, or puts it into the subscriber's queue that
-- laid it aside (queues.sql); a projection's projects it once more; the intake's judges the bytes once more and stores the
-- event they mean, unless it is there already. A fault renews the letter, it never makes another, and is an answer, not an
-- exception: the renewed letter stays, and so does the event imi.dead_letter.replayed that either outcome appends. What
-- says nothing about the letter (a deadlock, no memory, a lost connection) leaves it as it was.
-- The letter's row is locked first, so of two replays at once the second finds it replayed; then the subscription's, so
-- that its handler never runs twice at the same time; then whatever the handler touches.

create or replace function logic.dead_letter(
  p_source text, p_event_id uuid, p_raw bytea, p_reason text, p_sqlstate text, p_attempts integer, p_subscription text default null
) returns uuid
language sql
as $$
  with failed as materialized (select logic.now() as at)
  insert into bloodbank.dead_letters (
    source, event_id, raw, reason, sqlstate, attempts, first_failed_at, last_failed_at, subscription)
  select p_source, p_event_id, p_raw, left(p_reason, 16 << 10), p_sqlstate, p_attempts, failed.at, failed.at, p_subscription
  from failed
  returning id
$$;
comment on function logic.dead_letter is 'Lays a message or an event aside; source is intake, subscription (and which), projection or relay';

create or replace function logic.dead_letter_refuse(p_letter bloodbank.dead_letters, p_message text, p_hint text, p_params jsonb default '{}')
returns void
language plpgsql
as $$
begin
  perform logic.fail(409, 'CONFLICT', p_message, jsonb_build_object('dead_letter_id', p_letter.id) || p_params, p_hint);
end
$$;
comment on function logic.dead_letter_refuse is 'Says why a dead letter cannot be replayed as things are; it stays as it is';

create or replace function logic.dead_letter_event(p_letter bloodbank.dead_letters) returns bloodbank.events
language plpgsql
stable
as $$
declare
  v_event bloodbank.events;
begin
  select * into v_event from bloodbank.events where events.event_id = p_letter.event_id;
  if not found then
    perform logic.dead_letter_refuse(p_letter, 'The event is no longer in the log',
      'Publish it anew with POST /api/v1/events if you still have it', jsonb_build_object('event_id', p_letter.event_id));
  end if;
  return v_event;
end
$$;
comment on function logic.dead_letter_event is 'The event that a letter is about; refuses if the log does not hold it any more';

create or replace function logic.dead_letter_handle(p_letter bloodbank.dead_letters, out reason text, out state text)
language plpgsql
as $$
declare
  v_subscription bloodbank.subscriptions;
  v_handler regprocedure;
  v_event bloodbank.events;
begin
  v_event := logic.dead_letter_event(p_letter);
  select * into v_subscription from bloodbank.subscriptions where subscriptions.name = p_letter.subscription for update;
  if not found then
    if to_regclass(format('pgmq.%I', 'q_' || p_letter.subscription)) is null then
      perform logic.dead_letter_refuse(p_letter, 'The subscription is gone', 'Insert it into bloodbank.subscriptions again',
        jsonb_build_object('subscription', p_letter.subscription));
    end if;
    perform pgmq.send(p_letter.subscription, logic.event_envelope(v_event)::jsonb);
    return;
  end if;
  v_handler := logic.subscription_handler(v_subscription.handler);
  if v_handler is null then
    perform logic.dead_letter_refuse(p_letter, 'The subscription''s handler is missing, or iMi may not call it',
      'Create the function, with one argument of type bloodbank.events, or name another in bloodbank.subscriptions',
      jsonb_build_object('subscription', p_letter.subscription, 'handler', v_subscription.handler));
  end if;
  begin
    execute format('select %s($1)', v_handler::oid::regproc) using v_event;
  exception
    when others or assert_failure then
      if logic.is_transient(sqlstate) or logic.subscription_handler(v_subscription.handler) is null then
        raise;
      end if;
      reason := sqlerrm;
      state := sqlstate;
  end;
end
$$;
comment on function logic.dead_letter_handle is
  'Calls the letter''s subscription with its event, or puts that into the letter''s queue again; answers the fault, nulls without one';

create or replace function logic.dead_letter_store(
  p_letter bloodbank.dead_letters, out event_id uuid, out reason text, out state text
)
language plpgsql
as $$
declare
  v_envelope jsonb;
begin
  if p_letter.sqlstate = 'IM422' then
    perform logic.dead_letter_refuse(p_letter, 'These bytes can never become an event', 'Publish a corrected event with POST /api/v1/events');
  end if;
  v_envelope := logic.envelope_of(convert_from(p_letter.raw, 'UTF8')::jsonb);
  reason := 'The message ' || logic.message_fault(v_envelope, octet_length(p_letter.raw));
  if reason is not null then
    state := 'IM400';
    return;
  end if;
  event_id := logic.event_ingest(array[v_envelope], 'bus', '{}') -> 0 ->> 'event_id';
exception
  when others or assert_failure then
    if logic.is_transient(sqlstate) or sqlstate = 'IM409' then
      raise;
    end if;
    event_id := null;
    reason := 'The database refused it: ' || sqlerrm;
    state := sqlstate;
end
$$;
comment on function logic.dead_letter_store is 'Judges the letter''s bytes as the intake does and stores the event they mean; answers its id, or the fault';

create or replace function logic.dead_letter_replay(p_id uuid, p_context json) returns bloodbank.dead_letters
language plpgsql
as $$
declare
  v_letter bloodbank.dead_letters;
  v_event_id uuid;
  v_reason text;
  v_sqlstate text;
begin
  select * into v_letter from bloodbank.dead_letters where dead_letters.id = p_id for update;
  if not found then
    perform logic.fail(404, 'NOT_FOUND', 'Dead letter not found', jsonb_build_object('dead_letter_id', p_id));
  elsif v_letter.replayed_at is not null then
    perform logic.dead_letter_refuse(v_letter, 'The dead letter has been replayed', 'Nothing is left to be done',
      jsonb_build_object('replayed_at', v_letter.replayed_at));
  end if;
  case v_letter.source
    when 'subscription' then
      select reason, state into v_reason, v_sqlstate from logic.dead_letter_handle(v_letter);
    when 'projection' then
      select reason, state into v_reason, v_sqlstate from logic.projection_try(logic.dead_letter_event(v_letter));
    when 'intake' then
      select event_id, reason, state into v_event_id, v_reason, v_sqlstate from logic.dead_letter_store(v_letter);
    else
      perform logic.dead_letter_refuse(v_letter, 'What the relay has laid aside cannot be replayed',
        'The relay itself sends again whatever was not confirmed');
  end case;
  update bloodbank.dead_letters
  set event_id = coalesce(dead_letters.event_id, v_event_id),
    attempts = dead_letters.attempts + (v_reason is not null)::integer,
    reason = coalesce(left(v_reason, 16 << 10), dead_letters.reason),
    sqlstate = case when v_reason is null then dead_letters.sqlstate else v_sqlstate end,
    last_failed_at = case when v_reason is null then dead_letters.last_failed_at else logic.now() end,
    replayed_at = case when v_reason is null then logic.now() end
  where dead_letters.id = p_id
  returning * into v_letter;
  perform logic.event_append(
    'imi.dead_letter.replayed',
    -- a handler's message may hold all of its event
    json_build_object('dead_letter_id', v_letter.id, 'source', v_letter.source, 'event_id', v_letter.event_id,
      'subscription', v_letter.subscription, 'reason', left(v_letter.reason, 1 << 10),
      'outcome', case when v_reason is null then 'replayed' else 'failed' end),
    (coalesce(p_context::jsonb, '{}') || jsonb_build_object('correlation_ids', array(
      select distinct cause from unnest(logic.correlation_ids(p_context) || v_letter.event_id) as cause
      where cause is not null)))::json);
  return v_letter;
end
$$;
comment on function logic.dead_letter_replay is
  'Tries a dead letter once more and answers it as it now is: replayed_at is set, or the reason is the new one';

create or replace function ops.replay(p_dead_letter_id uuid) returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_letter bloodbank.dead_letters := logic.dead_letter_replay(p_dead_letter_id, '{}');
begin
  return case when v_letter.replayed_at is null
    then format('failed, try %s: %s', v_letter.attempts, v_letter.reason) else 'replayed' end;
end
$$;
comment on function ops.replay is 'Tries a dead letter once more: answers ''replayed'', or ''failed'' with the new reason';

create or replace view logic.dead_letter_documents as
select
  letter.id, letter.source, letter.subscription, letter.event_id, event.event_type, letter.reason, letter.sqlstate,
  letter.attempts, letter.first_failed_at, letter.last_failed_at, letter.replayed_at, octet_length(letter.raw) as raw_bytes
from bloodbank.dead_letters as letter
left join bloodbank.events as event on event.event_id = letter.event_id;
comment on view logic.dead_letter_documents is 'Dead letters as lists of the API show them';

create or replace function logic.text_of(p_bytes bytea) returns text
language plpgsql
stable
as $$
begin
  return convert_from(p_bytes, 'UTF8');
exception
  when character_not_in_repertoire then
    return null;
end
$$;
comment on function logic.text_of is 'The text that bytes are in UTF-8; null if they are none, or one with a NUL';

create or replace function logic.dead_letter_document(p_id uuid) returns json
language sql
stable
as $$
  select row_to_json(whole)
  from (
    select document.*, letter.text as raw,
      case when letter.text is null then translate(encode(letter.raw, 'base64'), E'\n', '') end as raw_base64
    from logic.dead_letter_documents as document
    join (
      select dead_letters.id, dead_letters.raw, logic.text_of(dead_letters.raw) as text
      from bloodbank.dead_letters
      where dead_letters.id = p_id
    ) as letter using (id)
  ) as whole
$$;
comment on function logic.dead_letter_document is 'One dead letter as the API shows it, with the bytes that came: as text if they are one, else in base64';

create or replace function api.dead_letter_list(
  p_source text default null,
  p_event_type text default null,
  p_reason text default null,
  p_subscription text default null,
  p_before timestamptz default null,
  p_replayed text default null,
  p_offset integer default null,
  p_limit integer default null
) returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  with matching as materialized (
    select document.* from logic.dead_letter_documents as document
    where (coalesce(p_replayed, 'false') = 'all' or (document.replayed_at is not null) = (p_replayed is not distinct from 'true'))
      and (p_source is null or document.source = p_source)
      and (p_event_type is null or logic.topic_matches(p_event_type, document.event_type))
      and (p_reason is null or document.reason ilike logic.contains_pattern(p_reason))
      and (p_subscription is null or document.subscription = p_subscription)
      and (p_before is null or document.last_failed_at < p_before)
  )
  select logic.page(
    array(
      select row_to_json(matching) from matching
      order by matching.last_failed_at desc, matching.id desc
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (select count(*) from matching), p_offset, p_limit)
$$;
comment on function api.dead_letter_list is 'GET /api/v1/dead-letters: those that wait, last failed first; with a filter also replayed ones';

create or replace function api.dead_letter_get(p_dead_letter_id uuid, out status integer, out body json)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  status := 200;
  body := logic.dead_letter_document(p_dead_letter_id);
  if body is null then
    status := 404;
    body := logic.not_found('Dead letter', 'dead_letter_id', p_dead_letter_id::text);
  end if;
end
$$;
comment on function api.dead_letter_get is 'GET /api/v1/dead-letters/{dead_letter_id}: one of them, with the bytes that came';

create or replace function api.dead_letter_replay(p_dead_letter_id uuid, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_letter bloodbank.dead_letters := logic.dead_letter_replay(p_dead_letter_id, p_context);
begin
  if v_letter.replayed_at is not null then
    status := 200;
    body := logic.dead_letter_document(p_dead_letter_id);
  else
    status := 409;
    body := json_build_object('detail', json_build_object(
      'code', 'REPLAY_FAILED', 'message', 'It failed again',
      'params', json_build_object('dead_letter_id', v_letter.id, 'reason', v_letter.reason, 'sqlstate', v_letter.sqlstate,
        'attempts', v_letter.attempts),
      'hint', 'Mend what params.reason names, then replay it again'));
  end if;
end
$$;
comment on function api.dead_letter_replay is 'POST /api/v1/dead-letters/{dead_letter_id}/replay: tries one once more; a new fault is stored and answered';
