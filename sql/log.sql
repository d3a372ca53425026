-- The log: how a mutation's event gets in, and how far it can be read without a hole.
--
-- Every mutation appends its event in its own transaction, so the log is history and outbox at once. Whoever follows
-- the log remembers a position. Positions are given out before they commit, so a plain "position > last" would step
-- over one that commits late. Therefore a transaction takes, before its first append, a shared advisory lock numbered
-- with the highest position given out so far; the floor is the lowest number so held, and below it nothing can appear
-- any more. A reader takes the floor first and the rows in a second statement, which is why it must be VOLATILE
-- plpgsql: a stable function has one snapshot, older than the floor it computes.
-- Anybody who may connect can take an advisory lock, so only those of roles that append count.
-- The lock's key is 4242 in the upper 16 bits, the position below. The other numbers that are taken: 4243 the wake-up,
-- 4244 the migrate step, 4245 the relay that sends, 4246 the runner of iMi's own handlers, 4247 the sample.

create or replace function logic.log_enter() returns void
language plpgsql
as $$
begin
  if current_setting('imi.append', true) is distinct from pg_current_xact_id()::text then
    perform pg_advisory_xact_lock_shared(
      (4242::bigint << 48) | coalesce(pg_sequence_last_value('bloodbank.events_position_seq'), 0));
    perform set_config('imi.append', pg_current_xact_id()::text, true);
  end if;
end
$$;
comment on function logic.log_enter() is 'Holds the floor down until this transaction ends; to be called before it appends';

create or replace function logic.log_floor() returns bigint
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_last bigint := coalesce(pg_sequence_last_value('bloodbank.events_position_seq'), 0);
begin
  return least(v_last, coalesce((
    select min(((locks.classid::bigint << 32) | locks.objid::bigint) & ((1::bigint << 48) - 1))
    from pg_locks as locks
    where locks.locktype = 'advisory'
      and locks.objsubid = 1
      and locks.classid::bigint >> 16 = 4242
      and locks.database = (select oid from pg_database where datname = current_database())
      and exists (
        select from pg_stat_get_activity(locks.pid) as holder
        cross join unnest(array['imi_owner', 'imi_api', 'imi_worker', 'imi_operator']) as appender
        where pg_has_role(holder.usesysid, appender, 'member'))
  ), v_last));
end
$$;
comment on function logic.log_floor() is 'The position up to which the log is complete: nothing can appear at or below it any more';

-- A NOTIFY in every transaction would serialise all commits, so there is at most one in 50 ms, from whoever gets the
-- window first. It is speed only: a window whose sender lingers stays silent, and followers poll as well.
create or replace function logic.log_wake() returns void
language plpgsql
as $$
declare
  v_window bigint := floor(extract(epoch from clock_timestamp()) * 20);
begin
  if coalesce(pg_sequence_last_value('bloodbank.wake'), 0) < v_window and pg_try_advisory_xact_lock(4243::bigint << 48) then
    if coalesce(pg_sequence_last_value('bloodbank.wake'), 0) < v_window then
      perform setval('bloodbank.wake', v_window);
      perform pg_notify('bloodbank', '');
    end if;
  end if;
end
$$;
comment on function logic.log_wake() is 'Tells the listeners of channel bloodbank to look; at most once in 50 ms';

create or replace function logic.event_append(p_event_type text, p_payload json, p_context json) returns uuid
language plpgsql
as $$
declare
  v_event_id uuid := uuidv7();
  v_causes uuid[] := logic.correlation_ids(p_context);
  v_now timestamptz := logic.now();
begin
  -- the envelope around it, causes too, is to fit into the bus's 1 MiB
  if octet_length(p_payload::text) > (1 << 20) - (64 << 10) then
    perform logic.fail(413, 'TOO_LARGE', 'The entity is too large for an event of 1 MiB',
      jsonb_build_object('bytes', octet_length(p_payload::text)), 'Keep less in its metadata');
  end if;
  perform logic.log_enter();
  insert into bloodbank.events (
    event_id, event_type, "timestamp", version, source, correlation_ids, payload, ingested_at, arrived)
  values (
    v_event_id, p_event_type, v_now, '1.0.0',
    jsonb_build_object(
      'host', coalesce(p_context ->> 'host', 'postgresql'),
      'type', 'system',
      'app', 'imi',
      'meta', jsonb_build_object('actor', coalesce(p_context ->> 'actor', session_user))),
    v_causes, p_payload, v_now, 'local');
  insert into bloodbank.causes (cause, effect)
  select distinct cause, v_event_id from unnest(v_causes) as cause;
  perform logic.agent_seen(p_context ->> 'agent_id');
  perform logic.log_wake();
  return v_event_id;
end
$$;
comment on function logic.event_append is 'Writes a mutation''s event into the log, in the mutation''s transaction';

create or replace function logic.log_pruned() returns bigint
language sql
stable
as $$
  select coalesce((select cursors.position from bloodbank.cursors where cursors.name = 'pruned'), 0)
$$;
comment on function logic.log_pruned() is 'The highest position that retention has removed; a cursor below it has lost events';

create or replace function logic.cursor_refuse_beyond(p_after bigint) returns void
language plpgsql
as $$
begin
  if p_after > coalesce(pg_sequence_last_value('bloodbank.events_position_seq'), 0) then
    perform logic.fail(400, 'INVALID_CURSOR', 'The cursor lies beyond the end of the log',
      jsonb_build_object('after', p_after), 'Use a cursor that this server handed out, or 0 for the beginning');
  end if;
end
$$;
comment on function logic.cursor_refuse_beyond is 'Refuses a cursor that no reader can have got here';

-- Asked after the rows were read: retention moves its position in the transaction that removes, so whatever they missed,
-- that shows.
create or replace function logic.cursor_refuse_pruned(p_after bigint) returns void
language plpgsql
as $$
declare
  v_pruned bigint := logic.log_pruned();
begin
  if p_after between 1 and v_pruned - 1 then
    perform logic.fail(410, 'GONE', 'The log no longer reaches back to this cursor',
      jsonb_build_object('after', p_after, 'oldest', v_pruned), 'Go on from params.oldest; what lay between is gone');
  end if;
end
$$;
comment on function logic.cursor_refuse_pruned is 'Refuses a cursor behind which retention has removed events; 0, where the log begins, is none';
