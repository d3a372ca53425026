-- Work items: which branches are in flight, who owns them, how each ended.
--
-- A work item is one branch of one project while somebody works on it; a partial unique index allows one active item a
-- branch. Its status is never stored: logic.work_status computes it from the git facts, and "in flight" is the plain
-- predicate in logic.work_in_flight, because only that meets its partial index. A completed item never changes but for
-- values that were missing; with its completion its claim ends (claims.sql). What git says is taken in git_state.sql.

create or replace function logic.work_status(p_item imi.work_items) returns text
language sql
immutable
as $$
  select case
    when p_item.completion_type is not null then p_item.completion_type
    when p_item.has_uncommitted_changes then 'uncommitted'
    when p_item.ahead_of_trunk > 0 and p_item.behind_trunk > 0 then 'diverged'
    when p_item.ahead_of_trunk > 0 then 'ahead'
    when p_item.behind_trunk > 0 then 'behind'
    else 'clean'
  end
$$;
comment on function logic.work_status is 'The status of a work item: how it was completed, else what its git facts say; first match wins';

-- The clock is asked once a statement, not once a row: its function cannot be inlined.
create or replace view logic.work_documents as
select
  work_items.id, work_items.project_id, work_items.branch_name, work_items.work_type,
  row_to_json(source) as source,
  work_items.owner_id, work_items.worktree_path, work_items.host,
  logic.work_status(work_items) as status,
  work_items.has_uncommitted_changes, work_items.uncommitted_files_count, work_items.ahead_of_trunk, work_items.behind_trunk,
  work_items.last_commit_hash, work_items.last_commit_message, work_items.last_sync_at,
  work_items.completed_at, work_items.completion_type, work_items.completion_evidence, work_items.merge_commit_hash,
  work_items.merged_by, work_items.metadata, work_items.active, work_items.created_at, work_items.updated_at,
  case when claims.lease_until > (select logic.now()) then row_to_json(claim) end as claim
from imi.work_items
cross join lateral (select work_items.source_type as type, work_items.source_ref as ref) as source
left join imi.claims on claims.work_item_id = work_items.id
cross join lateral (select claims.agent_id, claims.claimed_at, claims.lease_until, claims.fencing_token) as claim;
comment on view logic.work_documents is 'Work items as the API shows them, with the living claim';

create or replace view logic.work_in_flight as
select
  document.*,
  floor(date_part('epoch', (select logic.now()) - document.created_at))::bigint as age_seconds,
  floor(date_part('epoch', (select logic.now()) - document.last_sync_at))::bigint as observed_age_seconds
from logic.work_documents as document
where document.active
  and (document.has_uncommitted_changes or document.ahead_of_trunk > 0 or document.behind_trunk > 0);
comment on view logic.work_in_flight is 'Active work items that are not clean, with their age and the age of their facts';

create or replace function logic.work_document(p_work_item_id uuid) returns json
language sql
stable
as $$
  select row_to_json(document) from logic.work_documents as document where document.id = p_work_item_id
$$;
comment on function logic.work_document is 'One work item as the API shows it';

create or replace function logic.work_matching(
  p_project_id uuid, p_owner_id text, p_work_type text, p_status text, p_active text, p_source_ref text, p_host text,
  p_branch_name text
) returns setof imi.work_items
language sql
stable
as $$
  select item.* from imi.work_items as item
  where (p_project_id is null or item.project_id = p_project_id)
    and (p_owner_id is null or item.owner_id = p_owner_id)
    and (p_work_type is null or item.work_type = p_work_type)
    and (p_source_ref is null or item.source_ref = p_source_ref)
    and (p_host is null or item.host = p_host)
    and (p_branch_name is null or item.branch_name = p_branch_name)
    and (p_status is null or logic.work_status(item) = p_status)
    and case coalesce(p_active, case when p_status in ('merged', 'abandoned', 'superseded') then 'all' else 'true' end)
      when 'true' then item.active
      when 'false' then not item.active
      else true
    end
$$;
comment on function logic.work_matching is 'Work items by project, owner, type, status, source, host and branch; active ones unless said otherwise';

create or replace function logic.work_lock(p_work_item_id uuid) returns imi.work_items
language plpgsql
as $$
declare
  v_item imi.work_items;
begin
  select * into v_item from imi.work_items where work_items.id = p_work_item_id for no key update;
  if not found then
    perform logic.fail(404, 'NOT_FOUND', 'Work item not found', jsonb_build_object('work_item_id', p_work_item_id));
  end if;
  return v_item;
end
$$;
comment on function logic.work_lock is 'The work item, locked until the transaction ends; 404 without one';

create or replace function logic.work_refuse_completed(p_item imi.work_items) returns void
language plpgsql
as $$
begin
  if p_item.completed_at is not null then
    perform logic.fail(409, 'CONFLICT', 'The work item is completed',
      jsonb_build_object('work_item_id', p_item.id, 'completion_type', p_item.completion_type, 'completed_at', p_item.completed_at),
      'Start a new work item for further work on the branch');
  end if;
end
$$;
comment on function logic.work_refuse_completed is 'Raises 409 when the item is completed';

create or replace function logic.work_ensure(
  p_body jsonb, p_git_state jsonb, p_context json, out work_item_id uuid, out is_new boolean
)
language plpgsql
as $$
declare
  v_now timestamptz := logic.now();
  v_project_id uuid := p_body ->> 'project_id';
  v_owner_id text := coalesce(p_body ->> 'owner_id', p_context ->> 'agent_id');
  v_seen imi.work_items;
begin
  -- Between the two statements somebody may start the branch's item or complete it; then the next round sees it.
  loop
    select item.id into work_item_id from imi.work_items as item
    where item.project_id = v_project_id and item.branch_name = p_body ->> 'branch_name' and item.active
    for no key update;
    is_new := not found;
    exit when not is_new;
    if v_owner_id is null then
      perform logic.fail(400, 'VALIDATION_ERROR', 'The work item needs an owner',
        '{"errors": [{"path": "owner_id", "message": "is required when there is no X-Agent-Id"}]}', 'Give owner_id, or send X-Agent-Id');
    end if;
    perform from imi.projects where projects.id = v_project_id and projects.active for share;
    if not found then
      perform logic.fail(404, 'NOT_FOUND', 'Project not found, or not active', jsonb_build_object('project_id', v_project_id),
        'Register its remote with POST /api/v1/projects; that also revives it');
    end if;
    if p_git_state is not null then
      v_seen := logic.work_observed(null, p_git_state);
    end if;
    insert into imi.work_items (
      project_id, branch_name, work_type, source_type, source_ref, owner_id, worktree_path, host,
      has_uncommitted_changes, uncommitted_files_count, ahead_of_trunk, behind_trunk,
      last_commit_hash, last_commit_message, last_commit_at, last_sync_at, metadata, created_at, updated_at)
    values (
      v_project_id, p_body ->> 'branch_name', coalesce(p_body ->> 'work_type', 'feature'),
      coalesce(p_body #>> '{source,type}', 'manual'), p_body #>> '{source,ref}', v_owner_id,
      p_body ->> 'worktree_path', p_body ->> 'host',
      coalesce(v_seen.has_uncommitted_changes, false), coalesce(v_seen.uncommitted_files_count, 0),
      coalesce(v_seen.ahead_of_trunk, 0), coalesce(v_seen.behind_trunk, 0),
      v_seen.last_commit_hash, v_seen.last_commit_message, v_seen.last_commit_at, v_seen.last_sync_at,
      coalesce(p_body -> 'metadata', '{}'), v_now, v_now)
    on conflict (project_id, branch_name) where active do nothing
    returning work_items.id into work_item_id;
    exit when found;
  end loop;
  if is_new then
    perform logic.event_append('imi.work.started', logic.work_document(work_item_id), p_context);
  end if;
end
$$;
comment on function logic.work_ensure is 'Finds the active work item of a branch and locks it, or makes one, its source, owner and git state as given';

create or replace function logic.work_start(p_body jsonb, p_context json) returns uuid
language plpgsql
as $$
declare
  v_made record := logic.work_ensure(p_body, null, p_context);
begin
  if not v_made.is_new then
    perform logic.fail(409, 'CONFLICT', 'An active work item holds this branch',
      (select jsonb_build_object('work_item_id', item.id, 'owner_id', item.owner_id) from imi.work_items as item
        where item.id = v_made.work_item_id),
      'Go on with that one, or complete it first');
  end if;
  return v_made.work_item_id;
end
$$;
comment on function logic.work_start is 'Makes the work item of a branch; 409 names the active one that there is';

create or replace function logic.work_complete(p_work_item_id uuid, p_completion jsonb, p_context json) returns void
language plpgsql
as $$
declare
  v_old imi.work_items := logic.work_lock(p_work_item_id);
  v_now timestamptz := logic.now();
  v_is_new boolean := v_old.completed_at is null;
  v_merge_commit_hash text := lower(p_completion ->> 'merge_commit_hash');
begin
  if v_is_new then
    perform logic.claim_check(p_work_item_id, (p_completion ->> 'fencing_token')::bigint);
    perform logic.claim_end(p_work_item_id);
  end if;
  if v_old.completion_type <> p_completion ->> 'completion_type'
    or not logic.commits_agree(v_old.merge_commit_hash, v_merge_commit_hash)
    or v_old.merged_by <> p_completion ->> 'merged_by'
  then
    perform logic.fail(409, 'CONFLICT', 'The work item is completed already, otherwise', jsonb_build_object(
      'work_item_id', p_work_item_id, 'completion_type', v_old.completion_type,
      'merge_commit_hash', v_old.merge_commit_hash, 'merged_by', v_old.merged_by), 'What it says stands; read it');
  end if;
  update imi.work_items as item
  set active = false,
    completed_at = coalesce(item.completed_at, v_now),
    completion_type = p_completion ->> 'completion_type',
    completion_evidence = coalesce(item.completion_evidence, p_completion -> 'evidence'),
    merge_commit_hash = coalesce(item.merge_commit_hash, v_merge_commit_hash),
    merged_by = coalesce(item.merged_by, p_completion ->> 'merged_by'),
    updated_at = v_now
  where item.id = p_work_item_id
    and (v_is_new
      or item.merge_commit_hash is null and v_merge_commit_hash is not null
      or item.merged_by is null and p_completion ->> 'merged_by' is not null);
  if found then
    perform logic.event_append(case when v_is_new then 'imi.work.completed' else 'imi.work.updated' end,
      logic.work_document(p_work_item_id), p_context);
  end if;
end
$$;
comment on function logic.work_complete is 'Completes a work item; the same completion again only fills what was missing';

create or replace function logic.work_deactivate(p_work_item_id uuid, p_context json) returns void
language plpgsql
as $$
begin
  perform logic.work_lock(p_work_item_id);
  perform logic.claim_end(p_work_item_id);
  update imi.work_items set active = false, updated_at = logic.now() where work_items.id = p_work_item_id and work_items.active;
  if found then
    perform logic.event_append('imi.work.deactivated', logic.work_document(p_work_item_id), p_context);
  end if;
end
$$;
comment on function logic.work_deactivate is 'Ends a work item whose project was deactivated, without a completion';

create or replace function api.work_start(p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid := logic.work_start(p_body::jsonb, p_context);
begin
  status := 201;
  body := logic.work_document(v_id);
end
$$;
comment on function api.work_start is 'POST /api/v1/work: starts work on a branch';

create or replace function api.work_list(
  p_project_id uuid default null,
  p_owner_id text default null,
  p_work_type text default null,
  p_status text default null,
  p_active text default null,
  p_source_ref text default null,
  p_host text default null,
  p_branch_name text default null,
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
      from (
        select matching.id
        from logic.work_matching(
          p_project_id, p_owner_id, p_work_type, p_status, p_active, p_source_ref, p_host, p_branch_name) as matching
        order by matching.created_at desc, matching.id desc
        offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)
      ) as page
      join logic.work_documents as document using (id)
      order by document.created_at desc, document.id desc),
    (select count(*) from logic.work_matching(
      p_project_id, p_owner_id, p_work_type, p_status, p_active, p_source_ref, p_host, p_branch_name)),
    p_offset, p_limit);
end
$$;
comment on function api.work_list is 'GET /api/v1/work: work items by any of their traits, newest first';

-- Planning this costs as much as running it, so it keeps its plans: one along the index of what is in flight, one along
-- that of a project. The owner is a mere filter, and written so that PostgreSQL does not hope to find few rows by it.
create or replace function api.work_inflight(
  p_project_id uuid default null,
  p_owner_id text default null,
  p_offset integer default null,
  p_limit integer default null
) returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
begin
  if p_project_id is null then
    return logic.page(
      array(
        select row_to_json(flying) from logic.work_in_flight as flying
        where coalesce(flying.owner_id = p_owner_id, true)
        order by flying.created_at desc, flying.id desc
        offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
      case
        when p_owner_id is null then (select count(*) from logic.work_in_flight)
        else (select count(*) from logic.work_in_flight as flying where flying.owner_id = p_owner_id)
      end,
      p_offset, p_limit);
  end if;
  return logic.page(
    array(
      select row_to_json(flying) from logic.work_in_flight as flying
      where flying.project_id = p_project_id and coalesce(flying.owner_id = p_owner_id, true)
      order by flying.created_at desc, flying.id desc
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (
      select count(*) from logic.work_in_flight as flying
      where flying.project_id = p_project_id and coalesce(flying.owner_id = p_owner_id, true)
    ),
    p_offset, p_limit);
end
$$;
comment on function api.work_inflight is 'GET /api/v1/work/inflight: active work that is not clean, with its age and the age of its facts';

create or replace function api.work_get(p_work_item_id uuid, out status integer, out body json)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  select 200, row_to_json(whole) into status, body
  from (
    select document.*, logic.links_document(document.id) as links
    from logic.work_documents as document
    where document.id = p_work_item_id
  ) as whole;
  if not found then
    status := 404;
    body := logic.not_found('Work item', 'work_item_id', p_work_item_id::text);
  end if;
end
$$;
comment on function api.work_get is 'GET /api/v1/work/{work_item_id}: one work item with its claim and links';

create or replace function api.work_update(p_work_item_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old imi.work_items := logic.work_lock(p_work_item_id);
  v_new imi.work_items;
begin
  perform logic.work_refuse_completed(v_old);
  v_new := jsonb_populate_record(v_old, logic.pick(p_body::jsonb, 'owner_id', 'worktree_path', 'host', 'work_type', 'metadata'));
  if v_new is distinct from v_old then
    update imi.work_items
    set owner_id = v_new.owner_id, worktree_path = v_new.worktree_path, host = v_new.host, work_type = v_new.work_type,
      metadata = v_new.metadata, updated_at = logic.now()
    where work_items.id = p_work_item_id;
    perform logic.event_append('imi.work.updated', logic.work_document(p_work_item_id), p_context);
  end if;
  return logic.work_document(p_work_item_id);
end
$$;
comment on function api.work_update is 'PATCH /api/v1/work/{work_item_id}: owner, place, type and metadata; what is given replaces, null clears';

create or replace function api.work_complete(p_work_item_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform logic.work_complete(p_work_item_id, p_body::jsonb, p_context);
  return logic.work_document(p_work_item_id);
end
$$;
comment on function api.work_complete is 'POST /api/v1/work/{work_item_id}/complete: merged, abandoned or superseded';
