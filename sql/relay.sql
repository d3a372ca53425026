-- The relay: what was made here, sent on in log order.
--
-- Its cursor is the row `relay` of bloodbank.cursors; it reads what arrived locally below the floor (log.sql). With a
-- broker it reads a batch, has it confirmed, and moves the cursor by compare-and-set: after a crash in between the batch
-- goes out once more, never otherwise. The embedded bus is in this database, so there matching, sending and moving are
-- one transaction. Patterns mean what AMQP's do, by logic.topic_matches; pgmq's own topics differ.

-- Volatile, because it reads below the floor. A batch that is not full has seen everything up to the floor.
create or replace function logic.relay_read(
  p_limit integer,
  out after bigint, out upto bigint, out event_ids uuid[], out event_types text[], out envelopes text[]
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_floor bigint := logic.log_floor();
begin
  after := (select cursors.position from bloodbank.cursors where cursors.name = 'relay');
  select
    case when count(*) = p_limit or not bool_and(sized.fits) then max(sized.position) filter (where sized.fits) end,
    array_agg(sized.event_id order by sized.position) filter (where sized.fits),
    array_agg(sized.event_type order by sized.position) filter (where sized.fits),
    array_agg(sized.envelope order by sized.position) filter (where sized.fits)
  into upto, event_ids, event_types, envelopes
  from (
    select
      page.*, page.n = 1 or sum(octet_length(page.envelope)) over (order by page.position) <= 8 << 20 as fits
    from (
      select
        events.position, events.event_id, events.event_type, logic.event_envelope(events)::text as envelope,
        row_number() over (order by events.position) as n
      from bloodbank.events
      where events.position > after and events.position <= v_floor and events.arrived = 'local'
      order by events.position
      limit p_limit
    ) as page
  ) as sized;
  upto := coalesce(upto, greatest(after, v_floor));
end
$$;
comment on function logic.relay_read is 'The next events to send, at most 8 MiB of them, between two positions of the relay''s cursor';

create or replace function logic.relay_move(p_after bigint, p_upto bigint, p_leader text) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update bloodbank.cursors
  set position = p_upto, leader = p_leader, moved_at = logic.now()
  where cursors.name = 'relay' and cursors.position = p_after;
  return found;
end
$$;
comment on function logic.relay_move is 'Moves the relay''s cursor if it still stands where the batch began';

-- The cursor's row is held from before the batch is read, so a second relay waits and then finds nothing left.
create or replace function logic.relay_deliver(p_limit integer, p_leader text, out sent integer)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_batch record;
  v_queue record;
begin
  perform from bloodbank.cursors where cursors.name = 'relay' for update;
  select * into v_batch from logic.relay_read(p_limit);
  sent := coalesce(cardinality(v_batch.event_ids), 0);
  for v_queue in
    with matching (queue, event_type) as (
      select distinct bindings.queue, types.event_type
      from (select distinct event_type from unnest(v_batch.event_types) as event_type) as types
      join bloodbank.bindings on logic.topic_matches(bindings.pattern, types.event_type)
      where to_regclass('pgmq.q_' || bindings.queue) is not null  -- else somebody has dropped it without ops.unsubscribe
    )
    select matching.queue, array_agg(event.envelope::jsonb order by event.n) as envelopes
    from unnest(v_batch.event_types, v_batch.envelopes) with ordinality as event (event_type, envelope, n)
    join matching using (event_type)
    group by matching.queue
  loop
    perform pgmq.send_batch(v_queue.queue, v_queue.envelopes);
  end loop;
  if v_batch.upto > v_batch.after then
    perform logic.relay_move(v_batch.after, v_batch.upto, p_leader);
  end if;
end
$$;
comment on function logic.relay_deliver is 'Puts the next events into the embedded bus''s queues that are bound to them; answers how many were read';
