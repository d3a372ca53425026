-- A team's memory, the same every time: bench.projects projects, ten times as many work items, and their log.
-- Row n has the id bench.id(kind, n), so that a load generator can name any row without reading one first.
-- The last 8 % of the work items are active; of the first bench.busy projects each holds 50 that are in flight.
create schema if not exists bench;
grant usage on schema bench to public;
create or replace function bench.id(p_kind integer, p_n bigint) returns uuid
language sql
immutable
begin atomic
  select format('00000000-0000-7000-%s-%s', p_kind, lpad(to_hex(p_n), 12, '0'))::uuid;
end;
create or replace function bench.commit(p_n bigint) returns text
language sql
immutable
begin atomic
  select lpad(to_hex((p_n * 2654435761) % 4294967296), 8, '0') || lpad(to_hex(p_n), 32, '0');
end;

insert into imi.projects (id, name, remote_origin, description, metadata, created_at, updated_at)
select
  bench.id(8000, n), 'service-' || n, 'git@github.com:acme/service-' || n || '.git', 'Service number ' || n,
  jsonb_build_object('team', 'team-' || n % 40, 'language', (array['go', 'python', 'rust', 'sql'])[1 + n % 4]), made, made
from generate_series(1, current_setting('bench.projects')::bigint) as n
cross join lateral (select timestamptz '2025-01-01Z' + n * interval '30 minutes') as at (made);

insert into imi.project_remotes (remote_key, project_id)
select 'github.com/acme/service-' || n, bench.id(8000, n)
from generate_series(1, current_setting('bench.projects')::bigint) as n;

insert into imi.agents (id, name, type, last_seen)
select 'agent-' || n, 'Agent ' || n, 'ai_code_writer', '2026-01-01Z' from generate_series(0, 199) as n;

insert into imi.work_items (
  id, project_id, branch_name, work_type, source_type, source_ref, owner_id, worktree_path, host,
  has_uncommitted_changes, uncommitted_files_count, ahead_of_trunk, behind_trunk, last_commit_hash, last_commit_message,
  last_sync_at, completed_at, completion_type, merge_commit_hash, merged_by, metadata, active, created_at, updated_at)
select
  bench.id(9000, n), bench.id(8000, project), 'feat/change-' || n, (array['feature', 'fix', 'experiment', 'review'])[1 + n % 4],
  'plane_ticket', 'RKT-' || (n + 1) / 2, 'agent-' || n % 200, '/srv/work/service-' || project || '/change-' || n, 'builder-' || n % 8,
  flies and n % 3 = 0, case when flies and n % 3 = 0 then 1 + n % 7 else 0 end, case when flies then 1 + n % 5 else 0 end,
  case when flies then n % 3 else 0 end, bench.commit(n), 'Change number ' || n, made + interval '2 hours',
  case when ended then made + interval '3 days' end, case when ended then (array['merged', 'merged', 'merged', 'abandoned'])[1 + n % 4] end,
  case when ended and n % 4 < 3 then bench.commit(n + 1000000000) end, case when ended and n % 4 < 3 then 'agent-' || (n + 1) % 200 end,
  jsonb_build_object('estimate', n % 13), not ended, made, made + interval '2 hours'
from generate_series(1, 10 * current_setting('bench.projects')::bigint) as n
cross join lateral (
  select
    n <= 9.2 * current_setting('bench.projects')::bigint as ended,
    10 * current_setting('bench.projects')::bigint - n as from_end,
    timestamptz '2025-02-01Z' + n * interval '5 minutes' as made
) as place
cross join lateral (select from_end < 50 * current_setting('bench.busy')::bigint as flies) as state
cross join lateral (
  select case when flies then 1 + from_end % current_setting('bench.busy')::bigint
    else 1 + (n * 7919) % current_setting('bench.projects')::bigint end as project
) as home;

insert into imi.claims (work_item_id, agent_id, claimed_at, lease_until, fencing_token)
select id, owner_id, updated_at, 'infinity', 1
from imi.work_items
where active and ahead_of_trunk > 0 and uncommitted_files_count > 0;

insert into imi.ticket_links (work_item_id, plane_ticket_id, ticket_title, ticket_url, ticket_state, created_at, updated_at)
select id, source_ref, 'Ticket ' || source_ref, 'https://plane.example/acme/' || source_ref, 'In Progress', created_at, created_at
from imi.work_items;

insert into imi.pr_links (work_item_id, pr_number, pr_url, pr_state, pr_title, created_at, updated_at)
select
  bench.id(9000, n), n, 'https://github.com/acme/pull/' || n, case when item.completed_at is null then 'open' else 'merged' end,
  'Change number ' || n, item.created_at, item.updated_at
from generate_series(1, 10 * current_setting('bench.projects')::bigint) as n
join imi.work_items as item on item.id = bench.id(9000, n)
where n % 10 <> 0;

insert into imi.deploy_links (work_item_id, deploy_id, environment, commit_hash, deployed_at)
select id, 'deploy-' || row_number() over (order by id), 'production', merge_commit_hash, completed_at + interval '1 hour'
from imi.work_items
where merge_commit_hash is not null;

insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, ingested_at, arrived)
select
  bench.id(8800, n), (array['imi.work.started', 'imi.work.git_state_updated', 'imi.work.git_state_updated', 'git.commit.pushed'])[1 + n % 4],
  made, '1.0.0', '{"host": "builder", "type": "system", "app": "imi", "meta": {"actor": "bench"}}',
  jsonb_build_object('work_item_id', bench.id(9000, 1 + n / 2), 'branch_name', 'feat/change-' || n / 2, 'ahead_of_trunk', n % 5), made, 'local'
from generate_series(1, 20 * current_setting('bench.projects')::bigint) as n
cross join lateral (select timestamptz '2025-02-01Z' + n * interval '2 minutes') as at (made);

insert into bloodbank.causes (cause, effect)
select bench.id(8800, n), bench.id(8800, n + 1) from generate_series(1, 20 * current_setting('bench.projects')::bigint - 1, 2) as n;
