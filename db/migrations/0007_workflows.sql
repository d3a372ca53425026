-- migrate:up
create table bloodbank.workflow_state (
  workflow_id uuid constraint workflow_state_pkey primary key,
  project_name text constraint project_name_is_short check (char_length(project_name) <= 255),
  current_phase text constraint current_phase_is_short check (char_length(current_phase) <= 50),
  current_agent text constraint current_agent_is_short check (char_length(current_agent) <= 100),
  started_at timestamptz not null,
  updated_at timestamptz not null,
  completed_at timestamptz,
  metadata jsonb not null default '{}' constraint workflow_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
  correlation_ids uuid[] not null default '{}',
  last_event_id uuid
);
comment on table bloodbank.workflow_state is 'Where each workflow stands: a projection of the log, rebuildable from it';

create index workflow_state_by_project on bloodbank.workflow_state (project_name);
create index workflow_state_by_phase on bloodbank.workflow_state (current_phase);
create index workflow_state_by_update on bloodbank.workflow_state (updated_at desc);

create table bloodbank.agent_sessions (
  session_id uuid constraint agent_sessions_pkey primary key,
  agent_type text not null constraint agent_type_is_short check (char_length(agent_type) <= 50),
  agent_instance_id text,
  checkpoint_id text,
  workflow_id uuid constraint session_is_of_a_workflow references bloodbank.workflow_state,
  started_at timestamptz not null,
  last_active_at timestamptz not null,
  completed_at timestamptz,
  status text not null constraint session_status_is_known check (status in ('active', 'completed', 'blocked')),
  metadata jsonb not null default '{}' constraint session_metadata_is_an_object check (jsonb_typeof(metadata) = 'object')
);
comment on table bloodbank.agent_sessions is 'Sessions of agents that accepted a hand-off: a projection of the log, rebuildable from it';

create index agent_sessions_by_workflow on bloodbank.agent_sessions (workflow_id);
create index agent_sessions_by_checkpoint on bloodbank.agent_sessions (checkpoint_id);
create index agent_sessions_by_status on bloodbank.agent_sessions (status, last_active_at desc);

-- migrate:down
drop table bloodbank.agent_sessions;
drop table bloodbank.workflow_state;
