-- The projections made anew from the log, with the code that keeps them up (projections.sql).
--
-- Most of it happens beside the ingest: what lies below the floor, where nothing can appear any more, is read first and
-- laid aside. Then workflows' events wait while the rest of the log is merged in and the rows that differ are written. Of
-- what retention has removed the rows' own marks are the only witness, so those are kept.

create or replace function logic.projectable(p_after bigint, p_upto bigint) returns bigint[]
language sql
stable
as $$
  select coalesce(array_agg(events.position), '{}') from bloodbank.events
  where events.event_type = any (logic.projected_types())
    and events.position > p_after and events.position <= p_upto
    and logic.projection_fault(events.event_type, events.payload) is null
$$;
comment on function logic.projectable is 'The positions within a stretch of the log that can be projected';

create or replace function logic.marks_below(p_marks jsonb, p_position bigint) returns jsonb
language sql
immutable
as $$
  select jsonb_object_agg(field, mark)
  from jsonb_each(p_marks) as marks (field, mark)
  where abs((mark ->> 1)::bigint) <= p_position or field = 'current_agent' and (mark ->> 3)::bigint between 1 and p_position
$$;
comment on function logic.marks_below is 'The marks set by events up to a position, be it by one of two; null if there is none';

create or replace function ops.rebuild_projections(out events bigint, out changed bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set work_mem = '64MB'
as $$
declare
  v_floor bigint := logic.log_floor();
  v_positions bigint[] := logic.projectable(0, v_floor);
  v_rows bigint;
begin
  create temporary table imi_rebuilt (
    workflow_id uuid, session_id uuid, marks jsonb not null, unique nulls not distinct (workflow_id, session_id));
  insert into pg_temp.imi_rebuilt select * from logic.projection_marks(v_positions);
  events := cardinality(v_positions);

  lock table bloodbank.workflow_state, bloodbank.agent_sessions in share row exclusive mode;
  v_positions := logic.projectable(v_floor, pg_sequence_last_value('bloodbank.events_position_seq'));
  insert into pg_temp.imi_rebuilt as rebuilt select * from logic.projection_marks(v_positions)
  on conflict (workflow_id, session_id) do update set marks = logic.marks_merge(rebuilt.marks, excluded.marks);
  events := events + cardinality(v_positions);
  if logic.log_pruned() > 0 then
    insert into pg_temp.imi_rebuilt as rebuilt
    select kept.workflow_id, kept.session_id, kept.marks
    from (
      select workflow_id, null::uuid as session_id, logic.marks_below(marks, logic.log_pruned()) as marks
      from bloodbank.workflow_state
      union all
      select null, session_id, logic.marks_below(marks, logic.log_pruned()) from bloodbank.agent_sessions
    ) as kept
    where kept.marks is not null
    on conflict (workflow_id, session_id) do update set marks = logic.marks_merge(rebuilt.marks, excluded.marks);
  end if;
  analyze pg_temp.imi_rebuilt;

  merge into bloodbank.workflow_state as known
  using (
    select fresh.*
    from pg_temp.imi_rebuilt as rebuilt cross join lateral logic.workflow_row(rebuilt.workflow_id, rebuilt.marks) as fresh
    where rebuilt.workflow_id is not null
  ) as fresh
  on fresh.workflow_id = known.workflow_id
  when not matched then insert values (fresh.*)
  when matched and known.* is distinct from fresh.* then update
    set (project_name, current_phase, current_agent, started_at, updated_at, completed_at, metadata, correlation_ids,
      last_event_id, marks) = (
        fresh.project_name, fresh.current_phase, fresh.current_agent, fresh.started_at, fresh.updated_at,
        fresh.completed_at, fresh.metadata, fresh.correlation_ids, fresh.last_event_id, fresh.marks);
  get diagnostics changed = row_count;
  merge into bloodbank.agent_sessions as known
  using (
    select fresh.*
    from pg_temp.imi_rebuilt as rebuilt cross join lateral logic.session_row(rebuilt.session_id, rebuilt.marks) as fresh
    where rebuilt.session_id is not null
  ) as fresh
  on fresh.session_id = known.session_id
  when not matched by source then delete
  when not matched then insert values (fresh.*)
  when matched and known.* is distinct from fresh.* then update
    set (agent_type, agent_instance_id, checkpoint_id, workflow_id, started_at, last_active_at, completed_at, status, metadata,
      marks) = (
        fresh.agent_type, fresh.agent_instance_id, fresh.checkpoint_id, fresh.workflow_id, fresh.started_at,
        fresh.last_active_at, fresh.completed_at, fresh.status, fresh.metadata, fresh.marks);
  get diagnostics v_rows = row_count;
  changed := changed + v_rows;
  delete from bloodbank.workflow_state as known
  where not exists (select from pg_temp.imi_rebuilt as rebuilt where rebuilt.workflow_id = known.workflow_id);
  get diagnostics v_rows = row_count;
  changed := changed + v_rows;
  drop table pg_temp.imi_rebuilt;
end
$$;
comment on function ops.rebuild_projections() is
  'Makes the workflows and agents'' sessions anew from the log: how many events told of them, and how many rows were not as they tell; while rows are written, workflows'' events wait';
