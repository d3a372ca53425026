-- Reports: the figures that a team asks for again and again, as views of schema analytics.
--
-- Each is defined here once, so that two people who ask get one number. "Production" is any environment whose name
-- begins with prod. Work is stuck by the rules that stand in analytics.stuck_work, first match wins:
--   lease_expired  an agent took it, and its lease ran out: it has probably died at it
--   review_waits   its pull request has been open, unchanged, for 3 days
--   silent         it is in flight, and for 3 days neither it has changed nor an agent touched or claimed it
--   idle           it is clean, and the same for 7 days: never begun, or never completed
-- A heartbeat (last_sync_at) is no change: a monitor that keeps seeing the same does not make work move.

create or replace view analytics.lead_times as
select
  item.work_item_id, item.project_id, item.project, item.branch_name, item.work_type, item.owner_id,
  array(
    select ticket.plane_ticket_id from imi.ticket_links as ticket
    where ticket.work_item_id = item.work_item_id
    order by ticket.plane_ticket_id) as tickets,
  item.started_at, item.completed_at as merged_at, production.at as in_production_at,
  item.completed_at - item.started_at as to_merge,
  production.at - item.completed_at as merge_to_production,
  production.at - item.started_at as to_production
from analytics.work_items as item
cross join lateral (
  select min(deploy.deployed_at) as at from imi.deploy_links as deploy
  where deploy.work_item_id = item.work_item_id and lower(deploy.environment) like 'prod%'
) as production
where item.completion_type = 'merged';
comment on view analytics.lead_times is 'How long each merged work item took: from its start to the merge, and to its first deploy to production';

create or replace view analytics.wip_by_owner as
select
  item.owner_id,
  count(*) as active_items,
  count(*) filter (where item.in_flight) as in_flight_items,
  count(*) filter (where item.has_uncommitted_changes) as uncommitted_items,
  count(item.claimed_by) as claimed_items,
  count(distinct item.project_id) as projects,
  min(item.started_at) as oldest_started_at,
  max(item.updated_at) as last_changed_at
from analytics.work_items as item
where item.active
group by item.owner_id;
comment on view analytics.wip_by_owner is 'Work in progress: one row an owner of active work items';

create or replace view analytics.stuck_work as
select
  item.work_item_id, item.project_id, item.project, item.branch_name, item.owner_id, item.status, item.started_at,
  rule.reason, rule.since as stuck_since, (select logic.now()) - rule.since as stuck_for
from analytics.work_items as item
left join imi.claims as claim on claim.work_item_id = item.work_item_id
cross join lateral (
  select greatest(item.updated_at, claim.claimed_at, max(activity.occurred_at)) as at from imi.activities as activity
  where activity.work_item_id = item.work_item_id
) as change
cross join lateral (
  select max(pr.updated_at) as at from imi.pr_links as pr
  where pr.work_item_id = item.work_item_id and pr.pr_state = 'open'
) as review
cross join lateral (
  select given.reason, given.since
  from (
    values
      (1, 'lease_expired', claim.lease_until, interval '0'),
      (2, 'review_waits', review.at, interval '3 days'),
      (3, 'silent', case when item.in_flight then change.at end, interval '3 days'),
      (4, 'idle', case when not item.in_flight then change.at end, interval '7 days')
  ) as given (n, reason, since, patience)
  where given.since <= (select logic.now()) - given.patience
  order by given.n
  limit 1
) as rule
where item.active;
comment on view analytics.stuck_work is
  'Active work that does not move, and why: lease_expired, review_waits (3 days), silent (in flight, 3 days) or idle (clean, 7 days)';

create or replace view analytics.deploy_frequency as
select
  (deploy.deployed_at at time zone 'UTC')::date as day, deploy.environment, item.project_id, project.name as project,
  count(distinct deploy.deploy_id) as deploys, count(distinct deploy.work_item_id) as work_items
from imi.deploy_links as deploy
join imi.work_items as item on item.id = deploy.work_item_id
join imi.projects as project on project.id = item.project_id
group by day, deploy.environment, item.project_id, project.name;
comment on view analytics.deploy_frequency is 'Deploys a day, environment and project; days without one have no row';

-- A walk a component, so that asking for one component walks once. "union" keeps each component of a walk once: it ends
-- on cycles and holds no more rows than there are components.
create or replace view analytics.component_fan_in as
select
  component.id as component_id, component.name as component, component.parent_project_id as project_id, project.name as project,
  (
    select count(distinct edge.source_component_id) from imi.component_relationships as edge
    where edge.target_component_id = component.id
  ) as direct_dependents,
  walk.transitive_dependents, walk.dependents
from imi.components as component
join imi.projects as project on project.id = component.parent_project_id
cross join lateral (
  with recursive reached (id) as (
    select edge.source_component_id from imi.component_relationships as edge
    where edge.target_component_id = component.id
    union
    select edge.source_component_id
    from reached
    join imi.component_relationships as edge on edge.target_component_id = reached.id
  )
  select count(*) as transitive_dependents, coalesce(array_agg(dependent.name order by dependent.name), '{}') as dependents
  from reached
  join imi.components as dependent using (id)
  where reached.id <> component.id
) as walk;
comment on view analytics.component_fan_in is
  'How much stands on each component: whatever points to it, directly or through others, each once (as GET …/graph?direction=in)';

create or replace view analytics.events_by_day as
select
  (event."timestamp" at time zone 'UTC')::date as day, event.event_type, count(*) as events,
  count(distinct event.actor) as actors,
  min(event."timestamp") as first_at, max(event."timestamp") as last_at
from analytics.events as event
group by day, event.event_type;
comment on view analytics.events_by_day is 'How much of what happened on which day';

create or replace view analytics.handoff_latency as
select
  request.event_id as request_event_id,
  lower(request.payload ->> 'workflow_id') as workflow_id,
  request.payload ->> 'from_agent' as from_agent, request.payload ->> 'to_agent' as to_agent,
  request."timestamp" as requested_at, answer."timestamp" as accepted_at,
  answer."timestamp" - request."timestamp" as latency,
  coalesce(answer."timestamp", (select logic.now())) - request."timestamp" as waited,
  answer.event_id as accepted_event_id, logic.session_of(answer.payload ->> 'session_id') as session_id
from bloodbank.events as request
left join lateral (
  select effect.* from bloodbank.causes
  join bloodbank.events as effect on effect.event_id = causes.effect
  where causes.cause = request.event_id and effect.event_type = 'agent.handoff.accepted'
  order by effect."timestamp", effect.position
  limit 1
) as answer on true
where request.event_type = 'bmad.workflow.handoff.requested';
comment on view analytics.handoff_latency is 'Each hand-off of a workflow, and how long it waited for an agent to accept it';
