-- Analytics: the registry and the log as views for people who write SQL.
--
-- A view a kind of thing, a row a thing, its key named after it, so that views join with using (project_id) or
-- using (work_item_id). One name means one thing in every view; dictionary.sql says what. Times are timestamptz, spans
-- are intervals, days are UTC's. A view reads its tables with its owner's rights but calls functions with the reader's,
-- so functions are few and none of them reads a table. What costs (counts, lists) is a scalar subquery: it is left out
-- when its column is. The time is asked for in a subquery as well: that way it is one for the whole statement.
-- The figures made of these views are in reports.sql.

create or replace view analytics.projects as
select
  project.id as project_id, project.name as project, project.remote_origin, project.default_branch, project.trunk_path,
  project.description, project.active, project.created_at, project.updated_at, project.metadata,
  array(
    select remote.remote_key from imi.project_remotes as remote
    where remote.project_id = project.id
    order by remote.is_current desc, remote.remote_key) as remote_keys,
  (select count(*) from imi.work_items as item where item.project_id = project.id and item.active) as active_items,
  (select count(*) from logic.work_in_flight as flying where flying.project_id = project.id) as in_flight_items
from imi.projects as project;
comment on view analytics.projects is 'Repositories, inactive ones too';

create or replace view analytics.work_items as
select
  item.id as work_item_id, item.project_id, project.name as project, item.branch_name, item.work_type,
  item.source_type, item.source_ref, item.owner_id, item.host, item.worktree_path,
  logic.work_status(item) as status, item.active, flying.id is not null as in_flight,
  item.has_uncommitted_changes, item.uncommitted_files_count, item.ahead_of_trunk, item.behind_trunk,
  item.last_commit_hash, item.last_commit_message, item.last_sync_at,
  item.created_at as started_at, item.updated_at, item.completed_at,
  coalesce(item.completed_at, (select logic.now())) - item.created_at as age,
  item.completion_type, item.merge_commit_hash, item.merged_by,
  case when claim.lease_until > (select logic.now()) then claim.agent_id end as claimed_by,
  item.metadata
from imi.work_items as item
join imi.projects as project on project.id = item.project_id
left join logic.work_in_flight as flying on flying.id = item.id
left join imi.claims as claim on claim.work_item_id = item.id;
comment on view analytics.work_items is 'Branches somebody works or worked on';

create or replace view analytics.claims as
select
  claim.work_item_id, item.project_id, project.name as project, item.branch_name, item.owner_id, claim.agent_id,
  claim.claimed_at, claim.lease_until, claim.lease_until <= (select logic.now()) as expired, claim.fencing_token
from imi.claims as claim
join imi.work_items as item on item.id = claim.work_item_id
join imi.projects as project on project.id = item.project_id
where claim.agent_id is not null;
comment on view analytics.claims is 'Who holds which work item; expired leases until somebody releases or takes them over';

create or replace view analytics.worktrees as
select
  worktree.id as worktree_id, worktree.project_id, project.name as project, worktree.work_item_id, worktree.branch_name,
  worktree.name, worktree.host, worktree.path, worktree.created_at, worktree.last_accessed, worktree.removed_at,
  worktree.removed_at is null as present, worktree.metadata
from imi.worktrees as worktree
join imi.projects as project on project.id = worktree.project_id;
comment on view analytics.worktrees is 'Folders that hold a branch, removed ones too';

create or replace view analytics.agents as
select
  agent.id as agent_id, agent.name, agent.type, agent.host, agent.last_seen,
  (select logic.now()) - agent.last_seen as silent_for,
  (
    select count(*) from imi.claims as claim
    where claim.agent_id = agent.id and claim.lease_until > (select logic.now())
  ) as claimed_items,
  (select count(*) from imi.work_items as item where item.owner_id = agent.id and item.active) as active_items,
  agent.metadata
from imi.agents as agent;
comment on view analytics.agents is 'People and programs that have reported or claimed something';

create or replace view analytics.links as
select
  link.kind, link.link_id, link.work_item_id, item.project_id, project.name as project, item.branch_name,
  link.ref, link.title, link.url, link.state, link.environment, link.commit_hash, link.deployed_at, link.linked_at,
  link.evidence, link.metadata
from (
  select
    'ticket' as kind, id as link_id, work_item_id, plane_ticket_id as ref, ticket_title as title, ticket_url as url,
    ticket_state as state, null::text as environment, null::text as commit_hash, null::timestamptz as deployed_at,
    created_at as linked_at, evidence, metadata
  from imi.ticket_links
  union all
  select 'pr', id, work_item_id, pr_url, pr_title, pr_url, pr_state, null, null, null, created_at, evidence, metadata
  from imi.pr_links
  union all
  select
    'deploy', id, work_item_id, deploy_id, null, null, null, environment, commit_hash, deployed_at, created_at, evidence, metadata
  from imi.deploy_links
) as link
join imi.work_items as item on item.id = link.work_item_id
join imi.projects as project on project.id = item.project_id;
comment on view analytics.links is 'What ties work items to tickets, pull requests and deploys: one row a link';

create or replace view analytics.trace as
select
  item.project_id, project.name as project, item.id as work_item_id, item.branch_name, item.work_type, item.owner_id,
  logic.work_status(item) as status, item.created_at as started_at, item.completed_at,
  ticket.plane_ticket_id, ticket.ticket_title, ticket.ticket_state,
  pr.pr_number, pr.pr_url, pr.pr_title, pr.pr_state,
  deploy.deploy_id, deploy.environment, deploy.commit_hash, deploy.deployed_at
from imi.work_items as item
join imi.projects as project on project.id = item.project_id
left join imi.ticket_links as ticket on ticket.work_item_id = item.id
left join imi.pr_links as pr on pr.work_item_id = item.id
left join imi.deploy_links as deploy on deploy.work_item_id = item.id;
comment on view analytics.trace is
  'From ticket to deploy: one row a combination of work item, ticket, pull request and deploy, so count distinct keys';

create or replace view analytics.components as
select
  component.id as component_id, component.name as component, component.parent_project_id as project_id,
  project.name as project, component.path, component.kind, component.enabled, component.linked_project_id,
  linked.name as linked_project, component.created_at, component.updated_at, component.metadata
from imi.components as component
join imi.projects as project on project.id = component.parent_project_id
left join imi.projects as linked on linked.id = component.linked_project_id;
comment on view analytics.components is 'The parts that meta-repositories are made of';

create or replace view analytics.component_edges as
select
  edge.id as relationship_id, source.name as source_component, edge.relationship_type, target.name as target_component,
  edge.source_component_id, edge.target_component_id, source.parent_project_id as project_id, project.name as project,
  edge.created_at, edge.metadata
from imi.component_relationships as edge
join imi.components as source on source.id = edge.source_component_id
join imi.components as target on target.id = edge.target_component_id
join imi.projects as project on project.id = source.parent_project_id;
comment on view analytics.component_edges is 'Which component depends on, produces events for or consumes events from which';

create or replace view analytics.events as
select
  event.position, event.event_id, event.event_type, event."timestamp", event.ingested_at, event.arrived, event.version,
  event.source ->> 'host' as host, event.source ->> 'app' as app,
  coalesce(event.source #>> '{meta,actor}', event.agent_context ->> 'name') as actor,
  event.agent_context ->> 'type' as agent_type, lower(event.payload ->> 'workflow_id') as workflow_id, event.correlation_ids,
  event.payload, event.source, event.agent_context, event.extra
from bloodbank.events as event;
comment on view analytics.events is 'The log: everything that happened, with its causes. To follow it without a gap, read GET /api/v1/events?after';

create or replace view analytics.workflows as
select
  workflow.workflow_id::text, workflow.project_name, workflow.current_phase, workflow.current_agent,
  workflow.started_at, workflow.updated_at, workflow.completed_at,
  coalesce(workflow.completed_at, (select logic.now())) - workflow.started_at as age,
  workflow.last_event_id, workflow.metadata
from bloodbank.workflow_state as workflow;
comment on view analytics.workflows is 'Where each workflow stands, as its events told it';

create or replace view analytics.agent_sessions as
select
  session.session_id, session.agent_type, session.agent_instance_id, session.workflow_id::text, session.status,
  session.checkpoint_id, session.started_at, session.last_active_at, session.completed_at,
  coalesce(session.completed_at, (select logic.now())) - session.started_at as age,
  session.metadata
from bloodbank.agent_sessions as session;
comment on view analytics.agent_sessions is 'Sessions of agents that accepted a hand-off';
