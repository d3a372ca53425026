-- Workflows over the API: where each stands, its events, and the sessions of the agents that took it on.
--
-- All of it is read from what projections.sql keeps up.

create or replace view logic.workflow_documents as
select
  workflow_id, project_name, current_phase, current_agent, started_at, updated_at, completed_at, last_event_id,
  correlation_ids, metadata
from bloodbank.workflow_state;
comment on view logic.workflow_documents is 'Workflows as the API shows them';

create or replace view logic.session_documents as
select
  session_id, agent_type, agent_instance_id, workflow_id, status, checkpoint_id, started_at, last_active_at, completed_at,
  metadata
from bloodbank.agent_sessions;
comment on view logic.session_documents is 'Agents'' sessions as the API shows them';

create or replace function logic.workflows_matching(p_phase text, p_project_name text, p_agent text, p_completed boolean)
returns setof logic.workflow_documents
language sql
stable
as $$
  select * from logic.workflow_documents as document
  where (p_phase is null or document.current_phase = p_phase)
    and (p_project_name is null or document.project_name = p_project_name)
    and (p_agent is null or document.current_agent = p_agent)
    and (p_completed is null or (document.completed_at is not null) = p_completed)
$$;
comment on function logic.workflows_matching is 'Workflows of these traits; null: any';

create or replace function logic.sessions_matching(p_status text, p_agent_type text, p_workflow_id uuid)
returns setof logic.session_documents
language sql
stable
as $$
  select * from logic.session_documents as document
  where (p_status is null or document.status = p_status)
    and (p_agent_type is null or document.agent_type = p_agent_type)
    and (p_workflow_id is null or document.workflow_id = p_workflow_id)
$$;
comment on function logic.sessions_matching is 'Agents'' sessions of these traits; null: any';

create or replace function api.workflow_list(
  p_phase text default null,
  p_project_name text default null,
  p_agent text default null,
  p_completed boolean default null,
  p_offset integer default null,
  p_limit integer default null
) returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
begin
  return logic.page(
    array(
      select row_to_json(document)
      from logic.workflows_matching(p_phase, p_project_name, p_agent, p_completed) as document
      order by document.updated_at desc, document.workflow_id desc
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (select count(*) from logic.workflows_matching(p_phase, p_project_name, p_agent, p_completed)),
    p_offset, p_limit);
end
$$;
comment on function api.workflow_list is 'GET /api/v1/workflows: where each stands, last changed first';

create or replace function api.workflow_get(p_workflow_id uuid, out status integer, out body json)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  select 200, row_to_json(document) into status, body
  from logic.workflow_documents as document
  where document.workflow_id = p_workflow_id;
  if not found then
    status := 404;
    body := logic.not_found('Workflow', 'workflow_id', p_workflow_id::text);
  end if;
end
$$;
comment on function api.workflow_get is 'GET /api/v1/workflows/{workflow_id}: where one stands';

-- Volatile, because it reads below the floor: see the head of log.sql.
create or replace function api.workflow_events(
  p_workflow_id uuid,
  p_event_type text default null,
  p_start_time timestamptz default null,
  p_end_time timestamptz default null,
  p_order text default null,
  p_limit integer default null,
  p_offset integer default null,
  p_after bigint default null,
  p_count boolean default null,
  out status integer,
  out body json,
  out headers json
)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from bloodbank.workflow_state where workflow_state.workflow_id = p_workflow_id) then
    perform logic.fail(404, 'NOT_FOUND', 'Workflow not found', jsonb_build_object('workflow_id', p_workflow_id));
  end if;
  select * into status, body, headers from api.event_list(
    p_event_type => p_event_type, p_workflow_id => p_workflow_id, p_start_time => p_start_time, p_end_time => p_end_time,
    p_order => p_order, p_limit => p_limit, p_offset => p_offset, p_after => p_after, p_count => p_count);
end
$$;
comment on function api.workflow_events is 'GET /api/v1/workflows/{workflow_id}/events: as GET /api/v1/events, of one workflow';

create or replace function api.agent_session_list(
  p_status text default null,
  p_agent_type text default null,
  p_workflow_id uuid default null,
  p_offset integer default null,
  p_limit integer default null
) returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
as $$
begin
  return logic.page(
    array(
      select row_to_json(document)
      from logic.sessions_matching(p_status, p_agent_type, p_workflow_id) as document
      order by document.last_active_at desc, document.session_id desc
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (select count(*) from logic.sessions_matching(p_status, p_agent_type, p_workflow_id)),
    p_offset, p_limit);
end
$$;
comment on function api.agent_session_list is 'GET /api/v1/agent-sessions: last active first';
