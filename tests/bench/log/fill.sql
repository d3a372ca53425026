-- A log of bench.events events, the same every time: 40 usual types, of which the most frequent is a quarter of the log and
-- the least a hundredth, and a rare one; one event in ten is of a workflow, 50 events to each; half of the others have a
-- cause. Event n has the id bench.event(n), workflow w the id bench.workflow(w), so that a load generator can name any of
-- them without reading one first. Ids are random ones, as publishers make them. Indexes are made when the rows are there.
create schema if not exists bench;
create or replace function bench.event(p_n bigint) returns uuid
language sql
immutable
begin atomic
  select md5('event ' || p_n)::uuid;
end;
create or replace function bench.workflow(p_w bigint) returns uuid
language sql
immutable
begin atomic
  select md5('workflow ' || p_w)::uuid;
end;
create or replace function bench.chance(p_n bigint, p_seed integer) returns double precision
language sql
immutable
begin atomic
  select (hashint8extended(p_n, p_seed) & ((1::bigint << 40) - 1)) / (1::bigint << 40)::double precision;
end;

create temporary table made_anew as
select
  format('alter table %s drop constraint %I', conrelid::regclass, conname) as drop,
  format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) as make
from pg_constraint
where contype in ('p', 'u') and conrelid in ('bloodbank.events'::regclass, 'bloodbank.causes'::regclass)
union all
select format('drop index %s', indexrelid::regclass), pg_get_indexdef(indexrelid)
from pg_index
where indrelid in ('bloodbank.events'::regclass, 'bloodbank.causes'::regclass)
  and not exists (select from pg_constraint where conindid = indexrelid);

do $$
declare
  v_step record;
begin
  for v_step in select * from made_anew loop
    execute v_step.drop;
  end loop;
end
$$;

insert into bloodbank.events (
  event_id, event_type, "timestamp", version, source, correlation_ids, payload, ingested_at, arrived)
select
  bench.event(n),
  case
    when is_flow then (array['bmad.workflow.phase.completed', 'bmad.workflow.handoff.requested', 'agent.handoff.accepted',
      'agent.letta.checkpoint.saved', 'agent.letta.task.completed', 'bmad.workflow.started', 'bmad.workflow.completed'])
      [case when k % 1000 < 20 then 6 when k % 1000 >= 980 then 7 else 1 + k % 5 end]
    when n % 100003 = 0 then 'audit.key.revoked'
    else (array[
      'tool.mutation.edit', 'tool.mutation.write', 'llm.prompt.sent', 'llm.response.received', 'tool.mutation.bash',
      'llm.tool.called', 'session.thread.message', 'git.push', 'agent.state.changed', 'imi.work.git_state_updated',
      'host.load.measured', 'build.step.finished', 'git.pr.opened', 'plane.ticket.updated', 'artifact.created',
      'transcript.ready', 'review.comment.added', 'imi.work.started', 'imi.work.updated', 'imi.work.completed', 'imi.work.claimed',
      'imi.work.released', 'imi.pr.created', 'imi.pr.merged', 'git.pr.merged', 'git.pr.closed', 'ci.deploy.completed',
      'imi.deploy.completed', 'plane.ticket.created', 'imi.link.ticket_linked', 'imi.cmd.start_work', 'imi.cmd.done', 'imi.worktree.created',
      'imi.worktree.removed'])[1 + floor(34 * bench.chance(n, 1) ^ 2.5)]
  end,
  made + bench.chance(n, 2) * interval '30 seconds', '1.0.0',
  jsonb_build_object('host', 'builder-' || n % 8, 'type', 'agent', 'app', 'bench'),
  case
    when is_flow and k % 1000 >= 20 then array[bench.event(n - 200)]
    when not is_flow and bench.chance(n, 3) < 0.5 then array[bench.event(n - 1)]
    else '{}'
  end,
  case when is_flow then jsonb_build_object('workflow_id', bench.workflow(k / 1000 * 20 + k % 20)) else '{}' end
    || jsonb_build_object('n', n, 'branch', 'feat/change-' || n % 4000, 'repo', jsonb_build_object(
      'remote_url', 'https://github.com/acme/service-' || n % 200, 'head_sha', md5(n::text)), 'file_path', 'src/part_' || n % 900 || '.py',
      'text', 'Keep the lease until the branch is merged; the runner asks for it again when the work item moves.'),
  made, case when n % 3 = 0 then 'local' else 'bus' end
from generate_series(1, current_setting('bench.events')::bigint) as n
cross join lateral (select n / 10 as k, n % 10 = 0 as is_flow, timestamptz '2025-01-01Z' + n * interval '3 seconds' as made) as of
order by n;

insert into bloodbank.causes (cause, effect)
select cause, event_id from bloodbank.events cross join unnest(correlation_ids) as cause;

do $$
declare
  v_step record;
begin
  for v_step in select * from made_anew order by make like '%PRIMARY%' desc loop
    execute v_step.make;
  end loop;
end
$$;
drop table made_anew;
update bloodbank.cursors set position = current_setting('bench.events')::bigint;
update bloodbank.subscriptions set position = current_setting('bench.events')::bigint;
