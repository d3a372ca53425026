-- Projections: where each workflow and each agent's session stands, kept up with the log in the transaction that stores.
--
-- Eight types of events tell of them. A row remembers for each of its fields the mark that last set it: a JSON array
-- [rank, position, …, value], and of two marks the greater one, element by element, stays. So events may come in any
-- order, twice or with gaps: the row is what those that are there make in any order, and rebuilding it from the log is
-- the same code with nothing known before. The rank is the event's moment in microseconds: its timestamp, but at most 5
-- minutes after it was taken in, so that a fast clock does not win for ever. Where the first wins and not the last, rank
-- and position are negative. All columns are read from the marks and from nothing else.
-- Which agent has a workflow is told by two events, the acceptance and the request that caused it, and either may come
-- first or in a transaction beside the other's. So the workflow's row is locked before the log is asked for the other.
-- Workflows are locked in the order of their ids, then sessions in that of theirs.
-- An event that cannot be projected is a dead letter; it is in the log all the same. iMi's own events (event_append) tell
-- of no workflow.

create or replace function logic.projected_types() returns text[]
language sql
immutable
as $$
  select '{bmad.workflow.started, bmad.workflow.phase.completed, bmad.workflow.handoff.requested, bmad.workflow.completed,
    agent.handoff.accepted, agent.letta.checkpoint.saved, agent.letta.task.completed, agent.letta.task.blocked}'::text[]
$$;
comment on function logic.projected_types() is 'The types of events that tell of workflows and sessions';

create or replace function logic.session_of(p_text text) returns uuid
language sql
stable
as $$
  select logic.uuid_of(regexp_replace(p_text, '^agent-', ''))
$$;
comment on function logic.session_of is 'The session that an agent''s id names, with or without agent- before it; null if it names none';

-- Judged is only what is read. One expression without a query in it, as logic.envelope_fault.
create or replace function logic.projection_text_fault(p_value jsonb, p_key text, p_is_needed boolean, p_longest integer) returns text
language sql
stable
as $$
  select case
    when coalesce(p_value #>> '{}', '') = '' then case when p_is_needed then 'has no ' || p_key end
    when jsonb_typeof(p_value) <> 'string' then 'has no text in ' || p_key
    when p_key = 'workflow_id' and not logic.is_uuid(p_value #>> '{}')
      or p_key = 'session_id' and logic.session_of(p_value #>> '{}') is null
      then 'has no UUID in ' || p_key
    when char_length(p_value #>> '{}') > p_longest then format('has more than %s characters in %s', p_longest, p_key)
  end
$$;
comment on function logic.projection_text_fault is 'What is wrong with the text at one key of a payload; null if nothing is';

create or replace function logic.projection_fault(p_event_type text, p_payload jsonb) returns text
language sql
stable
as $$
  select coalesce(logic.projection_text_fault(p_payload -> 'workflow_id', 'workflow_id', true, 36), case p_event_type
    when 'bmad.workflow.started' then coalesce(
      logic.projection_text_fault(p_payload -> 'project_name', 'project_name', true, 255),
      logic.projection_text_fault(p_payload -> 'phase', 'phase', false, 50))
    when 'bmad.workflow.phase.completed' then coalesce(
      logic.projection_text_fault(p_payload -> 'phase', 'phase', true, 50),
      logic.projection_text_fault(p_payload -> 'next_phase', 'next_phase', false, 50))
    when 'bmad.workflow.handoff.requested' then logic.projection_text_fault(p_payload -> 'to_agent', 'to_agent', true, 100)
    when 'agent.handoff.accepted' then coalesce(
      logic.projection_text_fault(p_payload -> 'agent_type', 'agent_type', true, 50),
      logic.projection_text_fault(p_payload -> 'session_id', 'session_id', true, 42))
    when 'agent.letta.checkpoint.saved' then coalesce(
      logic.projection_text_fault(p_payload -> 'session_id', 'session_id', true, 42),
      logic.projection_text_fault(p_payload -> 'checkpoint_id', 'checkpoint_id', true, 255))
    when 'agent.letta.task.completed' then logic.projection_text_fault(p_payload -> 'session_id', 'session_id', true, 42)
    when 'agent.letta.task.blocked' then logic.projection_text_fault(p_payload -> 'session_id', 'session_id', false, 42)
  end)
$$;
comment on function logic.projection_fault is 'Why an event tells nothing of a workflow, as the rest of a sentence; null if it does';

create or replace function logic.projection_moment(p_event bloodbank.events) returns bigint
language sql
stable
as $$
  select (extract(epoch from least(p_event."timestamp", p_event.ingested_at + interval '5 minutes')) * 1000000)::bigint
$$;
comment on function logic.projection_moment is 'When an event counts as having happened, in microseconds since 1970';

create or replace function logic.moment_of(p_moment text) returns timestamptz
language sql
stable
as $$
  select timestamptz 'epoch' + p_moment::bigint * interval '1 microsecond'
$$;
comment on function logic.moment_of is 'The time that a moment is';

-- The marks of a workflow, or of a session where session_id is not null. A cause's field is its id.
create or replace function logic.projection_marks(p_positions bigint[])
returns table (workflow_id uuid, session_id uuid, marks jsonb)
language sql
stable
as $$
  with told as materialized (
    select
      event.event_id, event.event_type, event.position, event.correlation_ids, event.payload,
      logic.projection_moment(event) as moment,
      (event.payload ->> 'workflow_id')::uuid as workflow_id,
      logic.session_of(event.payload ->> 'session_id') as session_id
    from unnest(p_positions) as given (position)
    join bloodbank.events as event on event.position = given.position
  ), handed as (
    select causes.cause, causes.effect
    from told join bloodbank.causes on causes.effect = told.event_id
    where told.event_type = 'agent.handoff.accepted'
    union
    select causes.cause, causes.effect
    from told join bloodbank.causes on causes.cause = told.event_id
    where told.event_type = 'bmad.workflow.handoff.requested'
  ), facts (workflow_id, session_id, field, mark) as (
    -- 10^16 microseconds: whatever is no start ranks behind every start
    select told.workflow_id, null::uuid, fact.field, fact.mark
    from told
    cross join lateral (
      values
        ('last_event_id', jsonb_build_array(moment, position, event_id)),
        ('started_at', jsonb_build_array(-moment - case event_type when 'bmad.workflow.started' then 0 else 10000000000000000 end, -position, moment)),
        ('project_name', case when event_type = 'bmad.workflow.started' then
          jsonb_build_array(moment, position, payload ->> 'project_name') end),
        ('current_phase', case
          when event_type = 'bmad.workflow.started' and payload ->> 'phase' <> '' then
            jsonb_build_array(moment, position, payload ->> 'phase')
          when event_type = 'bmad.workflow.phase.completed' then
            jsonb_build_array(moment, position, coalesce(nullif(payload ->> 'next_phase', ''), payload ->> 'phase')) end),
        ('current_agent', case when event_type = 'agent.handoff.accepted' then
          jsonb_build_array(moment, position, 0, 0, payload ->> 'agent_type') end),
        ('completed_at', case when event_type = 'bmad.workflow.completed' then
          jsonb_build_array(moment, position, moment) end)
    ) as fact (field, mark)
    where fact.mark is not null
    union all
    select told.workflow_id, null, cause::text, jsonb_build_array(moment, position, null)
    from told
    cross join unnest(told.correlation_ids) as cause
    union all
    select ((accepted).payload ->> 'workflow_id')::uuid, null, 'current_agent', jsonb_build_array(
      logic.projection_moment(accepted), (accepted).position, logic.projection_moment(request), (request).position,
      (request).payload ->> 'to_agent')
    from handed
    -- offset 0: by their ids, however rare the statistics think these types are
    cross join lateral (select events from bloodbank.events where events.event_id = handed.cause offset 0) as cause (request)
    cross join lateral (select events from bloodbank.events where events.event_id = handed.effect offset 0) as effect (accepted)
    where (request).event_type = 'bmad.workflow.handoff.requested' and (accepted).event_type = 'agent.handoff.accepted'
      and lower((request).payload ->> 'workflow_id') = lower((accepted).payload ->> 'workflow_id')
      and logic.projection_fault((request).event_type, (request).payload) is null
      and logic.projection_fault((accepted).event_type, (accepted).payload) is null
    union all
    select null, told.session_id, fact.field, fact.mark
    from told
    cross join lateral (
      values
        ('workflow_id', jsonb_build_array(moment, position, told.workflow_id)),
        ('agent_instance_id', jsonb_build_array(moment, position, payload ->> 'session_id')),
        ('started_at', jsonb_build_array(-moment - case event_type when 'agent.handoff.accepted' then 0 else 10000000000000000 end, -position, moment)),
        ('agent_type', case when event_type = 'agent.handoff.accepted' then
          jsonb_build_array(moment, position, payload ->> 'agent_type') end),
        ('checkpoint_id', case when event_type = 'agent.letta.checkpoint.saved' then
          jsonb_build_array(moment, position, payload ->> 'checkpoint_id') end),
        ('status', case event_type
          when 'agent.handoff.accepted' then jsonb_build_array(moment, position, 'active')
          when 'agent.letta.task.completed' then jsonb_build_array(moment, position, 'completed')
          when 'agent.letta.task.blocked' then jsonb_build_array(moment, position, 'blocked') end)
    ) as fact (field, mark)
    where told.session_id is not null and fact.mark is not null
  ), newest as (
    select distinct on (workflow_id, session_id, field collate "C") workflow_id, session_id, field, mark
    from facts
    order by workflow_id, session_id, field collate "C", mark desc
  ), ranked as (
    -- more causes than a row keeps are not carried to it
    select newest.*, octet_length(newest.field) = 36 and row_number() over (
      partition by newest.workflow_id, newest.session_id, octet_length(newest.field) = 36
      order by (newest.mark ->> 0)::bigint desc, (newest.mark ->> 1)::bigint desc, newest.field) > 1000 as is_beyond
    from newest
  )
  select ranked.workflow_id, ranked.session_id, jsonb_object_agg(ranked.field, ranked.mark)
  from ranked
  where not ranked.is_beyond
  group by ranked.workflow_id, ranked.session_id
$$;
comment on function logic.projection_marks is 'What the events at these positions, all without a fault, tell of each workflow and session';

create or replace function logic.marks_merge(p_known jsonb, p_new jsonb) returns jsonb
language sql
immutable
as $$
  select p_known || jsonb_object_agg(field, greatest(mark, p_known -> field))
  from jsonb_each(p_new) as new (field, mark)
$$;
comment on function logic.marks_merge is 'Of each field the greater mark; there is at least one new one';

-- Of the causes the newest 1,000 are kept. None that is dropped would have come back: whatever pushed it out stays.
create or replace function logic.workflow_row(p_workflow_id uuid, p_marks jsonb) returns bloodbank.workflow_state
language sql
stable
as $$
  with causes as materialized (
    select field, row_number() over (order by (mark ->> 0)::bigint desc, (mark ->> 1)::bigint desc, field) as n
    from jsonb_each(p_marks) as marks (field, mark)
    where octet_length(field) = 36
  )
  select
    p_workflow_id,
    p_marks #>> '{project_name,-1}',
    p_marks #>> '{current_phase,-1}',
    p_marks #>> '{current_agent,-1}',
    logic.moment_of(p_marks #>> '{started_at,-1}'),
    logic.moment_of(p_marks #>> '{last_event_id,0}'),
    logic.moment_of(p_marks #>> '{completed_at,-1}'),
    '{}'::jsonb,
    array(select field::uuid from causes where n <= 1000 order by n desc),
    (p_marks #>> '{last_event_id,-1}')::uuid,
    p_marks - array(select field from causes where n > 1000)
$$;
comment on function logic.workflow_row is 'The row that a workflow''s marks mean';

create or replace function logic.session_row(p_session_id uuid, p_marks jsonb) returns bloodbank.agent_sessions
language sql
stable
as $$
  select
    p_session_id,
    p_marks #>> '{agent_type,-1}',
    p_marks #>> '{agent_instance_id,-1}',
    p_marks #>> '{checkpoint_id,-1}',
    (p_marks #>> '{workflow_id,-1}')::uuid,
    logic.moment_of(p_marks #>> '{started_at,-1}'),
    logic.moment_of(p_marks #>> '{agent_instance_id,0}'),
    case when p_marks #>> '{status,-1}' = 'completed' then logic.moment_of(p_marks #>> '{status,0}') end,
    coalesce(p_marks #>> '{status,-1}', 'active'),
    '{}'::jsonb,
    p_marks
$$;
comment on function logic.session_row is 'The row that a session''s marks mean';

create or replace function logic.projection_write(p_positions bigint[]) returns void
language plpgsql
as $$
begin
  -- A statement of its own: what was committed while this waited for a row must be seen by the next. It only locks (where false).
  insert into bloodbank.workflow_state (workflow_id, started_at, updated_at)
  select distinct (event.payload ->> 'workflow_id')::uuid, timestamptz '-infinity', timestamptz '-infinity'
  from unnest(p_positions) as given (position)
  join bloodbank.events as event on event.position = given.position
  order by 1
  on conflict (workflow_id) do update set updated_at = excluded.updated_at where false;
  with told as materialized (
    select * from logic.projection_marks(p_positions)
  ), workflows as (
    update bloodbank.workflow_state as known
    set (project_name, current_phase, current_agent, started_at, updated_at, completed_at, correlation_ids, last_event_id, marks) = (
      select whole.project_name, whole.current_phase, whole.current_agent, whole.started_at, whole.updated_at,
        whole.completed_at, whole.correlation_ids, whole.last_event_id, whole.marks
      from logic.workflow_row(known.workflow_id, logic.marks_merge(known.marks, told.marks)) as whole)
    from told
    where told.workflow_id = known.workflow_id
  )
  insert into bloodbank.agent_sessions as known
  select fresh.*
  from (select * from told where session_id is not null order by session_id) as told
  cross join lateral logic.session_row(told.session_id, told.marks) as fresh
  on conflict (session_id) do update
  set (agent_type, agent_instance_id, checkpoint_id, workflow_id, started_at, last_active_at, completed_at, status, metadata,
    marks) = (
      select whole.agent_type, whole.agent_instance_id, whole.checkpoint_id, whole.workflow_id, whole.started_at,
        whole.last_active_at, whole.completed_at, whole.status, whole.metadata, whole.marks
      from logic.session_row(known.session_id, logic.marks_merge(known.marks, excluded.marks)) as whole);
end
$$;
comment on function logic.projection_write is 'Merges what the events at these positions tell into their workflows and sessions';

create or replace function logic.projection_try(p_event bloodbank.events, out reason text, out state text)
language plpgsql
as $$
begin
  reason := 'The event ' || logic.projection_fault(p_event.event_type, p_event.payload);
  if reason is not null then
    state := 'IM400';
    return;
  end if;
  perform logic.projection_write(array[p_event.position]);
exception
  when others or assert_failure then
    if logic.is_transient(sqlstate) then
      raise;
    end if;
    reason := sqlerrm;
    state := sqlstate;
end
$$;
comment on function logic.projection_try is 'Projects one event; answers the fault, nulls without one';

create or replace function logic.project(p_positions bigint[]) returns void
language plpgsql
as $$
declare
  v_good bigint[];
  v_fault record;
begin
  select array_agg(event.position) into v_good
  from unnest(p_positions) as given (position)
  join bloodbank.events as event on event.position = given.position
  where logic.projection_fault(event.event_type, event.payload) is null;
  begin
    perform logic.projection_write(v_good);
  exception
    when others or assert_failure then
      if logic.is_transient(sqlstate) then
        raise;
      end if;
      v_good := '{}';
  end;
  for v_fault in
    select bad.event_id, fault.reason, fault.state
    from (
      select event, event.event_id from unnest(p_positions) as given (position)
      join bloodbank.events as event on event.position = given.position
      where event.position <> all (coalesce(v_good, '{}'))
      order by lower(event.payload ->> 'workflow_id'), event.position
    ) as bad
    cross join lateral logic.projection_try(bad.event) as fault
    where fault.reason is not null
  loop
    perform logic.dead_letter('projection', v_fault.event_id, null, v_fault.reason, v_fault.state, 1);
  end loop;
end
$$;
comment on function logic.project is 'Projects the new events at these positions; one that cannot be is a dead letter';
