-- Queues of the embedded bus: pgmq's, bound to patterns of event types.
--
-- A subscriber is a login in imi_subscriber. `ops.subscribe` makes its queue, or binds it anew, and gives the calling
-- login rights on that queue alone; the relay fills it (relay.sql), the pgmq client reads it. What a queue holds stays
-- until its subscriber deletes or archives it, so a queue that nobody reads any more is to be given up. What a subscriber
-- cannot handle it rejects with `ops.reject`: a dead letter, which when replayed comes into the queue once more.

create or replace function logic.queue_check(p_queue text) returns void
language plpgsql
as $$
begin
  if p_queue is null or p_queue !~ '^[a-z_][a-z0-9_]{0,46}$' then
    perform logic.fail(400, 'VALIDATION_ERROR', 'Not a name of a queue', jsonb_build_object('queue', p_queue),
      'Use at most 47 small letters, digits and _, no digit first');
  elsif to_regclass('pgmq.q_' || p_queue) is not null and not has_table_privilege(session_user, 'pgmq.q_' || p_queue, 'delete') then
    perform logic.fail(403, 'FORBIDDEN', 'The queue is another login''s', jsonb_build_object('queue', p_queue), 'Choose another name');
  end if;
end
$$;
comment on function logic.queue_check is 'Refuses a name that no queue can have, and a queue that is another login''s';

create or replace function ops.subscribe(p_queue text, p_patterns text[]) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform logic.queue_check(p_queue);
  if coalesce(cardinality(p_patterns), 0) = 0 or array_position(p_patterns, null) is not null then
    perform logic.fail(400, 'VALIDATION_ERROR', 'A queue needs patterns of event types', jsonb_build_object('queue', p_queue),
      'Give array[''#''] for all events; ops.unsubscribe gives a queue up');
  end if;
  perform logic.topic_regex(pattern) from unnest(p_patterns) as pattern;
  if to_regclass('pgmq.q_' || p_queue) is null then
    perform pgmq.create(p_queue);
    execute format('grant select, update, delete on pgmq.%I to %I', 'q_' || p_queue, session_user);
    execute format('grant select, insert on pgmq.%I to %I', 'a_' || p_queue, session_user);
  end if;
  delete from bloodbank.bindings where bindings.queue = p_queue and bindings.pattern <> all (p_patterns);
  insert into bloodbank.bindings (queue, pattern)
  select distinct p_queue, pattern from unnest(p_patterns) as pattern
  on conflict do nothing;
end
$$;
comment on function ops.subscribe is 'Makes a queue of the embedded bus, or binds it anew: from now on it gets the events that a pattern matches';

create or replace function ops.unsubscribe(p_queue text) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform logic.queue_check(p_queue);
  delete from bloodbank.bindings where bindings.queue = p_queue;
  return to_regclass('pgmq.q_' || p_queue) is not null and pgmq.drop_queue(p_queue);
end
$$;
comment on function ops.unsubscribe is 'Gives a queue of the embedded bus up, with what it still holds; false if there is none';

create or replace function ops.reject(p_queue text, p_msg_id bigint, p_reason text) returns uuid
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_message jsonb;
begin
  perform logic.queue_check(p_queue);
  if to_regclass('pgmq.q_' || p_queue) is null then
    perform logic.fail(404, 'NOT_FOUND', 'Queue not found', jsonb_build_object('queue', p_queue));
  end if;
  execute format('delete from pgmq.%I where msg_id = $1 returning message', 'q_' || p_queue) into v_message using p_msg_id;
  return (
    select logic.dead_letter('subscription', (v_message ->> 'event_id')::uuid, null, coalesce(p_reason, 'No reason given'), null, 1, p_queue)
    where v_message is not null);
end
$$;
comment on function ops.reject is 'Makes a dead letter of a message in the caller''s queue and answers its id; null if the message is no longer there';
