-- Worktrees: which folders on whose disk hold which branch.
--
-- A worktree is known by its host and path while it exists; a removed one keeps its row, so the same path may come
-- again as another worktree. Reporting it again fills what was missing; with `work` it has the branch that is given, and that
-- branch's active item. iMi's command line does the git work; this is what everybody else sees of it.

create or replace function logic.worktree_document(p_worktree imi.worktrees) returns json
language sql
stable
as $$
  select json_build_object(
    'id', p_worktree.id, 'project_id', p_worktree.project_id, 'work_item_id', p_worktree.work_item_id,
    'name', p_worktree.name, 'path', p_worktree.path, 'host', p_worktree.host, 'branch_name', p_worktree.branch_name,
    'created_at', p_worktree.created_at, 'last_accessed', p_worktree.last_accessed, 'removed_at', p_worktree.removed_at,
    'metadata', p_worktree.metadata)
$$;
comment on function logic.worktree_document is 'A worktree as the API shows it';

create or replace function logic.worktrees_matching(
  p_project_id uuid, p_work_item_id uuid, p_host text, p_path text, p_active text
) returns setof imi.worktrees
language sql
stable
as $$
  select worktrees.* from imi.worktrees
  where (p_project_id is null or worktrees.project_id = p_project_id)
    and (p_work_item_id is null or worktrees.work_item_id = p_work_item_id)
    and (p_host is null or worktrees.host = p_host)
    and (p_path is null or worktrees.path = p_path)
    and (coalesce(p_active, 'true') = 'all' or (worktrees.removed_at is null) = (coalesce(p_active, 'true') = 'true'))
$$;
comment on function logic.worktrees_matching is 'Worktrees by project, work item, host and path; those that exist unless said otherwise';

create or replace function logic.worktree_lock(p_worktree_id uuid) returns imi.worktrees
language plpgsql
as $$
declare
  v_worktree imi.worktrees;
begin
  select * into v_worktree from imi.worktrees where worktrees.id = p_worktree_id for no key update;
  if not found then
    perform logic.fail(404, 'NOT_FOUND', 'Worktree not found', jsonb_build_object('worktree_id', p_worktree_id));
  end if;
  return v_worktree;
end
$$;
comment on function logic.worktree_lock is 'The worktree, locked until the transaction ends; 404 without one';

create or replace function logic.worktree_check(p_worktree imi.worktrees) returns void
language plpgsql
as $$
declare
  v_other imi.worktrees;
begin
  -- two questions, not one with "or": each then has its index, also while PostgreSQL thinks that the table is small
  select taken.* into v_other
  from (
    select other.* from imi.worktrees as other
    where other.removed_at is null and other.host = p_worktree.host and other.path = p_worktree.path
    union all
    select other.* from imi.worktrees as other
    where other.removed_at is null and other.host = p_worktree.host
      and other.project_id = p_worktree.project_id and other.name = p_worktree.name
  ) as taken
  where taken.id is distinct from p_worktree.id
    -- one that has just been made is the same, not another
    and (p_worktree.id is not null
      or (taken.project_id, taken.name, taken.path) is distinct from (p_worktree.project_id, p_worktree.name, p_worktree.path))
  limit 1;
  if found then
    perform logic.fail(409, 'CONFLICT', 'Another worktree has this path, or this name in the project',
      jsonb_build_object('worktree_id', v_other.id, 'project_id', v_other.project_id, 'name', v_other.name, 'path', v_other.path),
      'Remove that one first, if it is gone');
  elsif not exists (select from imi.projects where projects.id = p_worktree.project_id) then
    perform logic.fail(400, 'INVALID_REFERENCE', 'The project does not exist',
      jsonb_build_object('project_id', p_worktree.project_id), 'Register it with POST /api/v1/projects');
  elsif p_worktree.work_item_id is not null and not exists (
    select from imi.work_items where work_items.id = p_worktree.work_item_id)
  then
    perform logic.fail(400, 'INVALID_REFERENCE', 'The work item does not exist',
      jsonb_build_object('work_item_id', p_worktree.work_item_id), 'Start it with POST /api/v1/work');
  end if;
end
$$;
comment on function logic.worktree_check is 'Refuses a worktree whose place or name another one has, or whose project or work item does not exist';

create or replace function logic.worktree_work(p_body jsonb, p_context json) returns uuid
language plpgsql
as $$
declare
  v_git_state jsonb := p_body #> '{work,git_state}';
  v_made record;
begin
  if p_body ->> 'branch_name' is null or p_body ->> 'work_item_id' is not null then
    perform logic.fail(400, 'VALIDATION_ERROR', 'work is that of branch_name',
      '{"errors": [{"path": "work", "message": "needs branch_name, and no work_item_id beside it"}]}');
  end if;
  v_made := logic.work_ensure(
    logic.pick(p_body, 'project_id', 'branch_name', 'host') || logic.pick(p_body -> 'work', 'work_type', 'source', 'owner_id')
      || jsonb_build_object('worktree_path', p_body -> 'path'),
    v_git_state, p_context);
  if v_git_state is not null and not v_made.is_new then
    perform logic.work_git_state_update(v_made.work_item_id, v_git_state, p_context);
  end if;
  return v_made.work_item_id;
end
$$;
comment on function logic.worktree_work is 'The active work item of a worktree''s branch, or a new one in its folder, as `work` says';

create or replace function logic.worktree_register(p_body jsonb, p_context json, out worktree imi.worktrees, out is_new boolean)
language plpgsql
as $$
declare
  v_now timestamptz := logic.now();
  v_given imi.worktrees := jsonb_populate_record(null::imi.worktrees, logic.pick(p_body,
    'project_id', 'work_item_id', 'name', 'path', 'host', 'branch_name', 'metadata'));
begin
  if p_body ? 'work' then
    v_given.work_item_id := logic.worktree_work(p_body, p_context);
  end if;
  -- Between the two statements somebody may make or remove the worktree; then the next round sees it.
  loop
    select * into worktree from imi.worktrees as mine
    where mine.host = v_given.host and mine.path = v_given.path and mine.removed_at is null
    for no key update;
    is_new := not found;
    exit when not is_new;
    perform logic.worktree_check(v_given);
    insert into imi.worktrees as mine (
      project_id, work_item_id, name, path, host, branch_name, metadata, created_at, last_accessed)
    values (
      v_given.project_id, v_given.work_item_id, v_given.name, v_given.path, v_given.host, v_given.branch_name,
      coalesce(v_given.metadata, '{}'), v_now, v_now)
    on conflict do nothing  -- of either unique index: one that is not named raises its error when two insert at once
    returning mine.* into worktree;
    exit when found;
  end loop;
  if is_new then
    perform logic.event_append('imi.worktree.created', logic.worktree_document(worktree), p_context);
  else
    -- under another name, or in another project, it is another worktree, and that one's path is taken
    v_given.id := case when (worktree.project_id, worktree.name) = (v_given.project_id, v_given.name) then worktree.id end;
    perform logic.worktree_check(v_given);
    if not p_body ? 'work' then
      v_given.work_item_id := coalesce(worktree.work_item_id, v_given.work_item_id);
      v_given.branch_name := coalesce(worktree.branch_name, v_given.branch_name);
      v_given.metadata := null;
    end if;
    if (v_given.branch_name, v_given.work_item_id) is distinct from (worktree.branch_name, worktree.work_item_id) then
      update imi.worktrees as mine
      set branch_name = v_given.branch_name, work_item_id = v_given.work_item_id,
        metadata = mine.metadata || coalesce(v_given.metadata, '{}')
      where mine.id = worktree.id
      returning mine.* into worktree;
      perform logic.event_append('imi.worktree.synced', logic.worktree_document(worktree), p_context);
    end if;
  end if;

  if p_body #> '{work,plane_ticket_id}' is not null then
    perform logic.link_ticket(
      jsonb_build_object('work_item_id', v_given.work_item_id, 'plane_ticket_id', p_body #> '{work,plane_ticket_id}'),
      logic.link_evidence(p_context), null, p_context);
  end if;
end
$$;
comment on function logic.worktree_register is 'Finds or makes the worktree at a host''s path, and fills what was null; with `work` it has that branch and its item';

create or replace function api.worktree_register(p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_registered record := logic.worktree_register(p_body::jsonb, p_context);
begin
  status := case when v_registered.is_new then 201 else 200 end;
  body := logic.worktree_document(v_registered.worktree);
end
$$;
comment on function api.worktree_register is 'POST /api/v1/worktrees: a folder that holds a branch';

create or replace function api.worktree_list(
  p_project_id uuid default null,
  p_work_item_id uuid default null,
  p_host text default null,
  p_path text default null,
  p_active text default null,
  p_offset integer default null,
  p_limit integer default null
) returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select logic.page(
    array(
      select logic.worktree_document(matching)
      from logic.worktrees_matching(p_project_id, p_work_item_id, p_host, p_path, p_active) as matching
      order by matching.created_at desc, matching.id desc
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (select count(*) from logic.worktrees_matching(p_project_id, p_work_item_id, p_host, p_path, p_active)), p_offset, p_limit)
$$;
comment on function api.worktree_list is 'GET /api/v1/worktrees: newest first';

create or replace function api.worktree_update(p_worktree_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old imi.worktrees := logic.worktree_lock(p_worktree_id);
  v_new imi.worktrees;
begin
  if v_old.removed_at is not null then
    perform logic.fail(409, 'CONFLICT', 'The worktree is removed',
      jsonb_build_object('worktree_id', p_worktree_id, 'removed_at', v_old.removed_at), 'Register it again');
  end if;
  v_new := jsonb_populate_record(v_old, logic.pick(p_body::jsonb,
    'name', 'path', 'host', 'branch_name', 'work_item_id', 'last_accessed', 'metadata'));
  if v_new is distinct from v_old then
    perform logic.worktree_check(v_new);
    update imi.worktrees
    set name = v_new.name, path = v_new.path, host = v_new.host, branch_name = v_new.branch_name,
      work_item_id = v_new.work_item_id, last_accessed = v_new.last_accessed, metadata = v_new.metadata
    where worktrees.id = p_worktree_id;
    -- being looked at is a heartbeat, not an event
    v_old.last_accessed := v_new.last_accessed;
    if v_new is distinct from v_old then
      perform logic.event_append('imi.worktree.synced', logic.worktree_document(v_new), p_context);
    end if;
  end if;
  return logic.worktree_document(v_new);
end
$$;
comment on function api.worktree_update is 'PATCH /api/v1/worktrees/{worktree_id}: what is given replaces, null clears';

create or replace function api.worktree_remove(p_worktree_id uuid, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_worktree imi.worktrees := logic.worktree_lock(p_worktree_id);
begin
  if v_worktree.removed_at is null then
    update imi.worktrees set removed_at = logic.now() where worktrees.id = p_worktree_id returning * into v_worktree;
    perform logic.event_append('imi.worktree.removed', logic.worktree_document(v_worktree), p_context);
  end if;
  status := 204;
end
$$;
comment on function api.worktree_remove is 'DELETE /api/v1/worktrees/{worktree_id}: it is no longer there; its row is kept';
