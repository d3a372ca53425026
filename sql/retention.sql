-- Retention: what is old leaves the log, from its beginning on, one batch a call.
--
-- Old is what came in before a moment. The log goes in the order of its positions, so a call looks at the next events
-- above the position pruned, the row `pruned` of bloodbank.cursors, and stops at the first one that came in later; a producer's wrong
-- clock (timestamp) neither saves an event nor costs it.
-- A workflow leaves as a whole, when it is completed and all its events are old; until then all of them are kept. Its
-- events are those whose payload names it, and those that name it as a cause. One that never completes is kept for ever:
-- publish bmad.workflow.completed for what was given up. What the projections know of a workflow outlives its events.
-- That position passes over what is kept. Nothing has to look below it again: what ends a workflow is an event of it, above
-- it, and the call that comes to a workflow's events later on takes along what was kept of it below.
-- So the log is whole above it only. A cursor below it is told GONE and goes on from there, and reading from the
-- beginning (cursor 0) begins there. What is kept below is found by id, workflow, cause, type and time.
-- Nobody who follows the log loses anything: while one of them, paused or not, is behind what a call would remove, the
-- call is refused. Followers only go forwards, so none can come to be behind it meanwhile.
-- An event's causes leave with it. An effect that stays keeps naming it, as it may name any event that is not here: its
-- ancestors end there. Dead letters keep their row, and say that the event is gone. An event that a bus brings once more
-- after it was removed is new.

create or replace function logic.workflow_goes_on(p_workflow text, p_before timestamptz) returns boolean
language sql
stable
as $$
  select
    exists (select from bloodbank.workflow_state where workflow_state.workflow_id = logic.uuid_of(p_workflow) and workflow_state.completed_at is null)
    or exists (
      select from bloodbank.events
      where events.position = any (logic.workflow_positions(p_workflow)) and events.ingested_at >= p_before)
$$;
comment on function logic.workflow_goes_on is 'Whether a workflow is not completed, or has an event that came in at this moment or later';

create or replace function logic.prune_verdicts(p_pruned bigint, p_upto bigint, p_before timestamptz)
returns table (event_position bigint, is_kept boolean)
language sql
stable
as $$
  with above (event_position, workflow) as materialized (
    select events.position, lower(events.payload ->> 'workflow_id') from bloodbank.events
    where events.position > p_pruned and events.position <= p_upto and events.payload ->> 'workflow_id' is not null
    union all
    select events.position, workflow_state.workflow_id::text
    from bloodbank.events
    cross join unnest(events.correlation_ids) as cause
    join bloodbank.workflow_state on workflow_state.workflow_id = cause
    where events.position > p_pruned and events.position <= p_upto
  ), judged as materialized (
    select named.workflow, logic.workflow_goes_on(named.workflow, p_before) as goes_on
    from (select distinct above.workflow from above) as named
  ), ended as materialized (
    select judged.workflow from judged where not judged.goes_on
  ), below as materialized (
    select distinct earlier.position
    from ended
    cross join lateral unnest(logic.workflow_positions(ended.workflow)) as earlier (position)
    where earlier.position <= p_pruned
  )
  select above.event_position, bool_or(judged.goes_on) from above join judged using (workflow) group by above.event_position
  union all
  select below.position, exists (
    select from bloodbank.events
    cross join lateral (
      select lower(events.payload ->> 'workflow_id')
      union all
      select workflow_state.workflow_id::text from bloodbank.workflow_state
      where workflow_state.workflow_id = any (events.correlation_ids)
    ) as also (workflow)
    where events.position = below.position and also.workflow not in (select ended.workflow from ended)
      and logic.workflow_goes_on(also.workflow, p_before))
  from below
$$;
comment on function logic.prune_verdicts is
  'The events of workflows between two positions, and below them those of the same workflows that have ended; whether each is kept';

create or replace function ops.prune_events(p_before timestamptz, p_dry_run boolean default true, p_batch integer default 10000)
returns table (removed bigint, kept bigint, remaining bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_floor bigint;
  v_is_dry boolean := p_dry_run is distinct from false;
  v_batch bigint := case when v_is_dry then 1::bigint << 62 else p_batch end;
  v_pruned bigint;
  v_upto bigint;
  v_end bigint;
  v_young bigint;
  v_middle bigint;
  v_event record;
  v_follower record;
  v_kept bigint[];
  v_below bigint[];
begin
  if p_before is null or p_before > logic.now() then
    perform logic.fail(400, 'VALIDATION_ERROR', 'There is no moment in the past to remove events before',
      jsonb_build_object('before', p_before), 'Give one, such as now() - interval ''90 days''');
  elsif p_batch is null or p_batch not between 1 and 100000 then
    perform logic.fail(400, 'VALIDATION_ERROR', 'A batch is 1 to 100,000 events', jsonb_build_object('batch', p_batch),
      'Leave it out for 10,000');
  end if;
  if not v_is_dry then
    insert into bloodbank.cursors (name, position) values ('pruned', 0) on conflict do nothing;
    perform from bloodbank.cursors where cursors.name = 'pruned' for update;
  end if;
  v_pruned := logic.log_pruned();
  v_floor := logic.log_floor();
  -- the last old one, by halving: what comes in is as old as its position says, but for the seconds that its transaction took
  v_end := v_pruned;
  v_young := v_floor + 1;
  while v_young - v_end > 1 loop
    v_middle := v_end + (v_young - v_end) / 2;
    select events.position, events.ingested_at < p_before as is_old into v_event from bloodbank.events
    where events.position >= v_middle and events.position < v_young
    order by events.position
    limit 1;
    if v_event.is_old then
      v_end := v_event.position;
    else
      v_young := v_middle;
    end if;
  end loop;
  select max(following.position) filter (where following.is_old) into v_upto
  from (
    select events.position, bool_and(events.ingested_at < p_before) over (order by events.position) as is_old
    from bloodbank.events
    where events.position > v_pruned and events.position <= v_end
    order by events.position
    limit v_batch
  ) as following;
  if v_upto is null then
    return query select 0::bigint, 0::bigint, 0::bigint where v_is_dry;
    return;
  end if;
  select followers.* into v_follower from logic.followers where followers.position < v_upto order by followers.position limit 1;
  if found then
    perform logic.fail(409, 'CONFLICT',
      format('The %s %s stands at %s and has still to read what would be removed, up to %s',
        v_follower.kind, v_follower.name, v_follower.position, v_upto),
      jsonb_build_object('follower', v_follower.name, 'kind', v_follower.kind, 'position', v_follower.position, 'upto', v_upto),
      'See ops.lag: let it catch up (a paused one counts too), or delete its row if nobody needs it any more');
  end if;
  remaining := 0;
  if v_is_dry then
    select
      (select count(*) from bloodbank.events where events.position > v_pruned and events.position <= v_upto)
        - count(*) filter (where is_kept and event_position > v_pruned)
        + count(*) filter (where not is_kept and event_position <= v_pruned),
      count(*) filter (where is_kept and event_position > v_pruned)
    into removed, kept
    from logic.prune_verdicts(v_pruned, v_upto, p_before);
    return next;
    return;
  end if;
  select
    coalesce(array_agg(event_position) filter (where is_kept and event_position > v_pruned), '{}'),
    coalesce(array_agg(event_position) filter (where not is_kept and event_position <= v_pruned), '{}')
  into v_kept, v_below
  from logic.prune_verdicts(v_pruned, v_upto, p_before);
  if cardinality(v_below) > p_batch then  -- a batch of its own; what is above comes to it once more
    remaining := cardinality(v_below) - p_batch;
    v_below := v_below[:p_batch];
    v_kept := '{}';
    v_upto := v_pruned;
  end if;
  remaining := least(100000, remaining + (
    select count(*) from (
      select from bloodbank.events where events.position > v_upto and events.position <= v_end limit 100000) as following));
  with gone as (
    delete from bloodbank.events
    where events.position = any (v_below || array(
      select above.position from bloodbank.events as above
      where above.position > v_pruned and above.position <= v_upto and above.position <> all (v_kept)))
    returning events.event_id
  ), edges as (
    delete from bloodbank.causes using gone where causes.effect = gone.event_id
  )
  select count(*), cardinality(v_kept) into removed, kept from gone;
  update bloodbank.cursors set position = v_upto, moved_at = logic.now() where cursors.name = 'pruned' and cursors.position < v_upto;
  return next;
end
$$;
comment on function ops.prune_events is
  'Removes the next old events: one row {removed, kept for their workflows, remaining: old still, 100,000 means at least as '
  'many}, no row when none is left. Dry, as it is unless told otherwise, it counts all of them at once and removes none';
