-- migrate:up
create table imi.agents (
  id text collate "C" constraint agents_pkey primary key
    constraint agent_id_is_not_empty check (id <> ''),
  name text,
  type text constraint agent_type_is_known
    check (type in ('human', 'ai_code_writer', 'ai_reviewer', 'ai_tester', 'orchestrator', 'service')),
  host text,
  last_seen timestamptz not null default now(),
  metadata jsonb not null default '{}' constraint agent_metadata_is_an_object check (jsonb_typeof(metadata) = 'object')
);
comment on table imi.agents is 'People and programs that have reported or claimed something; the first word makes the row';

create index agents_by_last_seen on imi.agents (last_seen desc, id);

create table imi.work_items (
  id uuid default uuidv7() constraint work_items_pkey primary key,
  project_id uuid not null constraint work_belongs_to_a_project references imi.projects,
  branch_name text collate "C" not null constraint branch_name_is_not_empty check (branch_name <> ''),
  work_type text not null default 'feature' constraint work_type_is_known
    check (work_type in ('feature', 'fix', 'experiment', 'review', 'devops', 'aiops')),
  source_type text not null default 'manual' constraint source_type_is_known
    check (source_type in ('plane_ticket', 'bloodbank_command', 'agent_assignment', 'manual')),
  source_ref text collate "C",
  owner_id text collate "C" not null constraint owner_is_not_empty check (owner_id <> ''),
  worktree_path text,
  host text collate "C",
  has_uncommitted_changes boolean not null default false,
  uncommitted_files_count integer not null default 0 constraint uncommitted_files_is_not_negative check (uncommitted_files_count >= 0),
  ahead_of_trunk integer not null default 0 constraint ahead_is_not_negative check (ahead_of_trunk >= 0),
  behind_trunk integer not null default 0 constraint behind_is_not_negative check (behind_trunk >= 0),
  last_commit_hash text collate "C",
  last_commit_message text,
  last_sync_at timestamptz,
  completed_at timestamptz,
  completion_type text constraint completion_type_is_known check (completion_type in ('merged', 'abandoned', 'superseded')),
  completion_evidence jsonb,
  merge_commit_hash text collate "C",
  merged_by text,
  metadata jsonb not null default '{}' constraint work_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
  active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint completion_has_time_and_type check ((completed_at is null) = (completion_type is null)),
  constraint completed_work_is_not_active check (completed_at is null or not active)
);
comment on table imi.work_items is 'One row a branch somebody works on; its status is computed, never stored';

create unique index one_active_item_per_branch on imi.work_items (project_id, branch_name) where active;
create index work_items_by_project on imi.work_items (project_id, created_at desc, id desc);
create index work_items_by_owner on imi.work_items (owner_id, created_at desc, id desc);
create index work_items_by_age on imi.work_items (created_at desc, id desc);
create index work_items_by_branch on imi.work_items (branch_name);
create index work_items_by_source on imi.work_items (source_ref) where source_ref is not null;
create index work_items_by_last_commit on imi.work_items (last_commit_hash) where last_commit_hash is not null;
create index work_items_by_merge_commit on imi.work_items (merge_commit_hash) where merge_commit_hash is not null;
create index work_in_flight_by_age on imi.work_items (created_at desc, id desc) include (owner_id)
  where active and (has_uncommitted_changes or ahead_of_trunk > 0 or behind_trunk > 0);
create index work_in_flight_by_project on imi.work_items (project_id, created_at desc, id desc) include (owner_id)
  where active and (has_uncommitted_changes or ahead_of_trunk > 0 or behind_trunk > 0);

create table imi.claims (
  work_item_id uuid constraint claims_pkey primary key constraint claim_is_on_a_work_item references imi.work_items,
  agent_id text collate "C" constraint claim_is_held_by_an_agent references imi.agents,
  claimed_at timestamptz,
  lease_until timestamptz,
  fencing_token bigint not null constraint fencing_token_is_positive check (fencing_token > 0),
  constraint claim_is_whole_or_released
    check ((agent_id is null) = (lease_until is null) and (agent_id is null) = (claimed_at is null))
);
comment on table imi.claims is 'Who may write on a work item, until when. The row outlives its release, so that no fencing token comes twice';

create index claims_by_agent on imi.claims (agent_id) where agent_id is not null;

create table imi.worktrees (
  id uuid default uuidv7() constraint worktrees_pkey primary key,
  project_id uuid not null constraint worktree_belongs_to_a_project references imi.projects,
  work_item_id uuid constraint worktree_serves_a_work_item references imi.work_items,
  name text collate "C" not null constraint worktree_name_is_not_empty check (name <> ''),
  path text collate "C" not null constraint worktree_path_is_not_empty check (path <> ''),
  host text collate "C" not null constraint worktree_host_is_not_empty check (host <> ''),
  branch_name text collate "C",
  created_at timestamptz not null default now(),
  last_accessed timestamptz not null default now(),
  removed_at timestamptz,
  metadata jsonb not null default '{}' constraint worktree_metadata_is_an_object check (jsonb_typeof(metadata) = 'object')
);
comment on table imi.worktrees is 'Folders on somebody''s disk that hold a branch; a removed one keeps its row';

create unique index one_worktree_per_path on imi.worktrees (host, path) where removed_at is null;
create unique index one_worktree_per_name on imi.worktrees (project_id, host, name) where removed_at is null;
create index worktrees_by_project on imi.worktrees (project_id, created_at desc, id desc);
create index worktrees_by_work_item on imi.worktrees (work_item_id) where work_item_id is not null;
create index worktrees_by_age on imi.worktrees (created_at desc, id desc);

create table imi.activities (
  id uuid constraint activities_pkey primary key,
  work_item_id uuid not null constraint activity_is_on_a_work_item references imi.work_items,
  agent_id text collate "C" constraint activity_is_by_an_agent references imi.agents,
  activity_type text collate "C" not null constraint activity_type_is_not_empty check (activity_type <> ''),
  path text collate "C",
  details jsonb not null default '{}' constraint activity_details_are_an_object check (jsonb_typeof(details) = 'object'),
  occurred_at timestamptz not null
);
comment on table imi.activities is 'What agents and people did to files and branches; the id is the reporter''s, so that a repeated report is one row';

create index activities_by_work_item on imi.activities (work_item_id, occurred_at);
create index activities_by_path on imi.activities (path, occurred_at) where path is not null;
create index activities_by_time on imi.activities (occurred_at) where path is not null;
create index activities_by_agent on imi.activities (agent_id) where agent_id is not null;

-- migrate:down
drop table imi.activities;
drop table imi.worktrees;
drop table imi.claims;
drop table imi.work_items;
drop table imi.agents;
