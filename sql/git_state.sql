-- Git state: what git says of a branch, and when it said so.
--
-- Six facts of a work item come from whoever looks at the branch: monitors, agents, hooks. Each report carries the time
-- it was observed at, which becomes last_sync_at; a report older than that changes nothing, however late a spool
-- delivers it, and one from the future counts as now. A report that says nothing new is a heartbeat: it moves
-- last_sync_at and makes no event.

create or replace function logic.work_observed(p_item imi.work_items, p_state jsonb) returns imi.work_items
language plpgsql
as $$
declare
  v_item imi.work_items := jsonb_populate_record(p_item, logic.pick(p_state,
    'has_uncommitted_changes', 'uncommitted_files_count', 'ahead_of_trunk', 'behind_trunk', 'last_commit_hash', 'last_commit_message'));
  v_observed_at timestamptz := least((p_state ->> 'observed_at')::timestamptz, logic.now());
begin
  v_item.last_commit_hash := lower(v_item.last_commit_hash);
  if not p_state ? 'has_uncommitted_changes' and p_state ? 'uncommitted_files_count' then
    v_item.has_uncommitted_changes := v_item.uncommitted_files_count > 0;
  end if;
  if p_state ? 'last_commit_hash' then
    v_item.last_commit_at := v_observed_at;
  end if;
  v_item.last_sync_at := greatest(v_observed_at, p_item.last_sync_at);
  return v_item;
end
$$;
comment on function logic.work_observed is 'A work item as a report of its git state says that it is';

create or replace function logic.work_git_state_update(p_work_item_id uuid, p_body jsonb, p_context json) returns void
language plpgsql
as $$
declare
  v_old imi.work_items := logic.work_lock(p_work_item_id);
  v_new imi.work_items;
  v_now timestamptz := logic.now();
  v_observed_at timestamptz := least((p_body ->> 'observed_at')::timestamptz, v_now);
begin
  perform logic.work_refuse_completed(v_old);
  perform logic.claim_check(p_work_item_id, (p_body ->> 'fencing_token')::bigint);
  -- a push comes late by nature: a sign of life that was quicker must not swallow it, another commit must
  if v_observed_at < (case when p_body ? 'is_push' then v_old.last_commit_at else v_old.last_sync_at end) then
    return;
  end if;
  v_new := logic.work_observed(v_old, p_body);
  v_old.last_commit_at := v_new.last_commit_at;  -- to have been seen again is a heartbeat
  v_old.last_sync_at := v_new.last_sync_at;
  update imi.work_items
  set has_uncommitted_changes = v_new.has_uncommitted_changes,
    uncommitted_files_count = v_new.uncommitted_files_count,
    ahead_of_trunk = v_new.ahead_of_trunk,
    behind_trunk = v_new.behind_trunk,
    last_commit_hash = v_new.last_commit_hash,
    last_commit_message = v_new.last_commit_message,
    last_commit_at = v_new.last_commit_at,
    last_sync_at = v_new.last_sync_at,
    updated_at = case when v_new is distinct from v_old then v_now else work_items.updated_at end
  where work_items.id = p_work_item_id;
  if v_new is distinct from v_old then
    perform logic.event_append('imi.work.git_state_updated', logic.work_document(p_work_item_id), p_context);
  else
    perform logic.agent_seen(p_context ->> 'agent_id');
  end if;
end
$$;
comment on function logic.work_git_state_update is 'Takes what git says of a branch; a report older than the last changes nothing, an unchanged one is a heartbeat';

create or replace function api.work_git_state_update(p_work_item_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform logic.work_git_state_update(p_work_item_id, p_body::jsonb, p_context);
  return logic.work_document(p_work_item_id);
end
$$;
comment on function api.work_git_state_update is 'PATCH /api/v1/work/{work_item_id}/git-state: what git says of the branch, and when it said so';

create or replace function api.work_git_state_update_by_branch(p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid := (
    select item.id from imi.work_items as item
    where item.project_id = (p_body ->> 'project_id')::uuid and item.branch_name = p_body ->> 'branch_name' and item.active);
begin
  if v_id is null then
    perform logic.fail(404, 'NOT_FOUND', 'No active work item holds this branch', jsonb_build_object(
      'project_id', p_body ->> 'project_id', 'branch_name', p_body ->> 'branch_name'), 'Start it with POST /api/v1/work');
  end if;
  perform logic.work_git_state_update(v_id, p_body::jsonb, p_context);
  return logic.work_document(v_id);
end
$$;
comment on function api.work_git_state_update_by_branch is 'PATCH /api/v1/work/git-state: the same, by project and branch';
