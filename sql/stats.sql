-- Stats: the team's state in numbers, for dashboards.
--
-- One statement, so that all numbers are of one moment, and one pass over the work items. Both maps are over active work
-- items and hold every word there is, zeros too, so that a client needs no defaults.

create or replace function logic.relay_lag() returns bigint
language sql
stable
as $$
  select count(*) from (
    select from bloodbank.events
    where events.position > (select cursors.position from bloodbank.cursors where cursors.name = 'relay')
      and events.arrived = 'local'
    limit 100000
  ) as waiting
$$;
comment on function logic.relay_lag() is 'How many events of ours the relay has not sent yet; 100,000 means at least as many';

create or replace function api.stats_get() returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  with kinds as materialized (
    select item.active, logic.work_status(item) as status, item.work_type, count(*) as n
    from imi.work_items as item
    group by item.active, logic.work_status(item), item.work_type
  )
  select json_build_object(
    'total_projects', (select count(*) from imi.projects),
    'active_projects', (select count(*) from imi.projects where projects.active),
    'total_work_items', (select coalesce(sum(n), 0) from kinds),
    'active_work_items', (select coalesce(sum(n), 0) from kinds where active),
    'inflight_work_items', (select count(*) from logic.work_in_flight),
    'work_items_by_status', (
      select json_object_agg(word, (select coalesce(sum(n), 0) from kinds where active and status = word))
      from unnest(array['clean', 'uncommitted', 'ahead', 'behind', 'diverged']) as word),
    'work_items_by_type', (
      select json_object_agg(word, (select coalesce(sum(n), 0) from kinds where active and work_type = word))
      from unnest(array['feature', 'fix', 'experiment', 'review', 'devops', 'aiops']) as word),
    'total_components', (select count(*) from imi.components),
    'total_events', (select count(*) from bloodbank.events),
    'relay_lag', logic.relay_lag(),
    'total_dead_letters', (select count(*) from bloodbank.dead_letters))
$$;
comment on function api.stats_get() is 'GET /api/v1/stats: counts of everything, at one moment';
