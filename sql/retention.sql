-- Retention: what is old leaves the log, from its beginning on, one batch a call.
--
-- Old is what came in before a moment. The log goes in the order of its positions, so a call looks at the next events
-- above the mark, the row `pruned` of bloodbank.cursors, and stops at the first one that came in later; a producer's wrong
-- clock (timestamp) neither saves an event nor costs it.
-- A workflow leaves as a whole, when it is completed and all its events are old; until then all of them are kept. Its
-- events are those whose payload names it, and those that name it as a cause. One that never completes is kept for ever:
-- publish bmad.workflow.completed for what was given up. What the projections know of a workflow outlives its events.
-- The mark passes over what is kept. Nothing has to look below it again: what ends a workflow is an event of it, above the
-- mark, and the call that comes to a workflow's events later on takes along what was kept of it below.
-- So at or below the mark the log is not whole. A cursor in there is told GONE and goes on from the mark, and reading from
-- the beginning (cursor 0) begins at the mark. What is kept below is found by id, workflow, cause, type and time.
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
    exists (select from bloodbank.workflow_state where workflow_state.workflow_id = named.id and workflow_state.completed_at is null)
    or coalesce(greatest(
      (select max(events.ingested_at) from bloodbank.events where events.payload ->> 'workflow_id' = p_workflow),
      (
        select max(events.ingested_at) from bloodbank.causes
        join bloodbank.events on events.event_id = causes.effect
        where causes.cause = named.id
      )) >= p_before, false)
  from (select case when logic.is_uuid(p_workflow) then p_workflow::uuid end as id) as named
$$;
comment on function logic.workflow_goes_on is 'Whether a workflow is not completed, or has an event that came in at this moment or later';

create or replace function logic.workflow_events(p_mark bigint, p_upto bigint, p_before timestamptz)
returns table (event_position bigint, is_kept boolean)
language sql
stable
as $$
  with above (event_position, workflow) as materialized (
    select events.position, events.payload ->> 'workflow_id' from bloodbank.events
    where events.position > p_mark and events.position <= p_upto and events.payload ->> 'workflow_id' is not null
    union all
    select events.position, workflow_state.workflow_id::text
    from bloodbank.events
    cross join unnest(events.correlation_ids) as cause
    join bloodbank.workflow_state on workflow_state.workflow_id = cause
    where events.position > p_mark and events.position <= p_upto
  ), judged as materialized (
    select named.workflow, logic.workflow_goes_on(named.workflow, p_before) as goes_on
    from (select distinct above.workflow from above) as named
  ), below (event_position, other) as materialized (
    select events.position, null from judged
    join bloodbank.events on events.payload ->> 'workflow_id' = judged.workflow
    where not judged.goes_on and events.position <= p_mark
    union
    select events.position, events.payload ->> 'workflow_id' from judged
    join bloodbank.causes on causes.cause = case when logic.is_uuid(judged.workflow) then judged.workflow::uuid end
    join bloodbank.events on events.event_id = causes.effect
    where not judged.goes_on and events.position <= p_mark
  )
  select above.event_position, bool_or(judged.goes_on) from above join judged using (workflow) group by above.event_position
  union all
  select below.event_position, bool_or(coalesce(logic.workflow_goes_on(below.other, p_before), false)) from below group by below.event_position
$$;
comment on function logic.workflow_events is
  'The events of workflows between two positions, and below them those of the same workflows that have ended; whether each is kept';
