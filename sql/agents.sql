-- Agents: who reports, what they touch, and where two of them touch the same file.
--
-- An agent is whoever gives itself a name: the first word it says makes its row, every later one moves last_seen, once
-- a minute at most. Activities are what agents and people did: each carries its reporter's own id, so a report that is
-- delivered twice, by a spool or a bus, is one row. They make no events; they are heartbeats with detail.
-- A file is a project and a path below the worktree's root. It is in conflict when, within the window that ends now,
-- activities with that path came from two agents or from two work items: one agent in two worktrees collides with
-- itself as well. An activity that names no agent counts for its work item only.

create or replace view logic.agent_documents as
select agents.id, agents.name, agents.type, agents.host, agents.last_seen, agents.metadata
from imi.agents;
comment on view logic.agent_documents is 'Agents as the API shows them';

-- A row that somebody else holds is being moved just now, so it is passed over: a heartbeat waits for nobody.
create or replace function logic.agents_seen(p_agent_ids text[]) returns void
language sql
as $$
  with moved as (
    update imi.agents set last_seen = logic.now()
    where agents.id in (
      select stale.id from imi.agents as stale
      where stale.id = any (p_agent_ids) and stale.last_seen < logic.now() - interval '1 minute'
      for no key update skip locked)
  )
  insert into imi.agents (id, last_seen)
  select distinct named.id, logic.now()
  from unnest(p_agent_ids) as named (id)
  where named.id is not null and not exists (select from imi.agents as known where known.id = named.id)
  order by named.id
  on conflict (id) do nothing
$$;
comment on function logic.agents_seen is 'Makes the rows of agents that are new, and notes the others once a minute; null names nobody';

create or replace function logic.agent_seen(p_agent_id text) returns void
language plpgsql
as $$
begin
  -- asked first, because this is what nearly every event finds
  if not exists (
    select from imi.agents where agents.id = p_agent_id and agents.last_seen >= logic.now() - interval '1 minute') then
    perform logic.agents_seen(array[p_agent_id]);
  end if;
end
$$;
comment on function logic.agent_seen is 'The same for one agent';

-- A clock that is ahead counts as now, as it does for git facts.
create or replace function logic.activity_report(p_activities jsonb, p_context json) returns json
language plpgsql
as $$
declare
  v_now timestamptz := logic.now();
  v_stranger record;
  v_taken json;
begin
  select given.n - 1 as index, given.activity ->> 'work_item_id' as work_item_id into v_stranger
  from jsonb_array_elements(p_activities) with ordinality as given (activity, n)
  where not exists (
    select from imi.work_items where work_items.id = (given.activity ->> 'work_item_id')::uuid)
  order by given.n
  limit 1;
  if found then
    perform logic.fail(400, 'INVALID_REFERENCE',
      format('The activity at index %s is on a work item that does not exist', v_stranger.index), to_jsonb(v_stranger),
      'Nothing was stored; mend this one and send the whole list again');
  end if;
  perform logic.agents_seen(array(
    select coalesce(activity ->> 'agent_id', p_context ->> 'agent_id') from jsonb_array_elements(p_activities) as activity));
  with given as materialized (
    select activity.*, row_number() over (partition by activity.id order by activity.ordinality) = 1 as is_first
    from jsonb_populate_recordset(null::imi.activities, p_activities) with ordinality as activity
  ), taken as (
    insert into imi.activities (id, work_item_id, agent_id, activity_type, path, details, occurred_at)
    select
      given.id, given.work_item_id, coalesce(given.agent_id, p_context ->> 'agent_id'), given.activity_type, given.path,
      coalesce(given.details, '{}'), least(coalesce(given.occurred_at, v_now), v_now)
    from given
    where given.is_first
    order by given.id
    on conflict (id) do nothing
    returning activities.id
  )
  select json_build_object('items', coalesce(json_agg(
    json_build_object('id', given.id, 'new', given.is_first and taken.id is not null) order by given.ordinality), '[]'))
  into v_taken
  from given
  left join taken using (id);
  return v_taken;
end
$$;
comment on function logic.activity_report is 'Stores the activities that are new, all or, if one names an unknown work item, none; says which were new';

create or replace function api.agent_list(p_offset integer default null, p_limit integer default null) returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select logic.page(
    array(
      select row_to_json(document) from logic.agent_documents as document
      order by document.last_seen desc, document.id
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (select count(*) from imi.agents), p_offset, p_limit)
$$;
comment on function api.agent_list is 'GET /api/v1/agents: last seen first';

create or replace function api.activity_report(p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  status := 202;
  body := logic.activity_report(p_body::jsonb, p_context);
end
$$;
comment on function api.activity_report is 'POST /api/v1/activities: what was touched, each with the reporter''s own id';

create or replace function api.activity_list(
  p_work_item_id uuid,
  p_window_seconds integer default null,
  p_offset integer default null,
  p_limit integer default null,
  out status integer,
  out body json
)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_since timestamptz := logic.now() - make_interval(secs => coalesce(p_window_seconds, 3600));
begin
  if not exists (select from imi.work_items where work_items.id = p_work_item_id) then
    status := 404;
    body := logic.not_found('Work item', 'work_item_id', p_work_item_id::text);
    return;
  end if;
  status := 200;
  body := logic.page(
    array(
      select row_to_json(activity)
      from (
        select id, work_item_id, agent_id, activity_type, path, details, occurred_at from imi.activities
        where activities.work_item_id = p_work_item_id and activities.occurred_at >= v_since
        order by activities.occurred_at desc, activities.id
        offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)
      ) as activity),
    (
      select count(*) from imi.activities
      where activities.work_item_id = p_work_item_id and activities.occurred_at >= v_since
    ),
    p_offset, p_limit);
end
$$;
comment on function api.activity_list is
  'GET /api/v1/work/{work_item_id}/activities: what was done to it within the window that ends now, newest first';

create or replace function api.conflict_list(
  p_project_id uuid default null,
  p_window_seconds integer default null,
  p_offset integer default null,
  p_limit integer default null
) returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  with touches as (
    select work_items.project_id, activities.path, activities.agent_id, activities.work_item_id, max(activities.occurred_at) as at
    from imi.activities
    join imi.work_items on work_items.id = activities.work_item_id
    where activities.path is not null
      and activities.occurred_at >= logic.now() - make_interval(secs => coalesce(p_window_seconds, 60))
      and (p_project_id is null or work_items.project_id = p_project_id)
    group by work_items.project_id, activities.path, activities.agent_id, activities.work_item_id
  ), conflicts as (
    select
      project_id, path, max(at) as at,
      json_agg(
        json_build_object('agent_id', agent_id, 'work_item_id', work_item_id, 'at', at)
        order by at desc, work_item_id, agent_id) as touches
    from touches
    group by project_id, path
    having count(distinct agent_id) > 1 or count(distinct work_item_id) > 1
  )
  select logic.page(
    array(
      select json_build_object('path', path, 'project_id', project_id, 'touches', touches) from conflicts
      order by at desc, project_id, path
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (select count(*) from conflicts), p_offset, p_limit)
$$;
comment on function api.conflict_list is 'GET /api/v1/conflicts: files touched by two agents or work items within the window that ends now, newest first; each touch is the toucher''s last';
