-- Projects: which repositories there are.
--
-- A project is known by its remote, however that is spelled. The identity is the primary key of imi.project_remotes, the
-- canonical key of remotes.sql. A project itself holds no key, so a move (a new remote for the same project) can never
-- race a registration into two owners of one remote; old remotes keep resolving. Registering reads first, so a repeat
-- writes nothing, and then claims the remote and makes the project in one statement: of fifty callers at once one gets
-- the remote, the others wait for it and find the project. Deactivating is soft and takes the work items along.

create or replace view logic.project_documents as
select
  projects.id, projects.name, projects.remote_origin, projects.default_branch, projects.trunk_path, projects.description,
  projects.metadata, projects.active, projects.created_at, projects.updated_at,
  (select count(*) from imi.work_items where work_items.project_id = projects.id and work_items.active) as work_item_count,
  (select count(*) from logic.work_in_flight as flying where flying.project_id = projects.id) as inflight_count
from imi.projects;
comment on view logic.project_documents is 'Projects as the API shows them';

create or replace function logic.project_document(p_project_id uuid) returns json
language sql
stable
as $$
  select row_to_json(document) from logic.project_documents as document where document.id = p_project_id
$$;
comment on function logic.project_document is 'One project as the API shows it';

create or replace function logic.project_of(p_remote_key text) returns uuid
language sql
stable
as $$
  select project_remotes.project_id from imi.project_remotes where project_remotes.remote_key = p_remote_key
$$;
comment on function logic.project_of is 'The project that has or had the remote with this key; null if none';

create or replace function logic.project_lock(p_project_id uuid) returns imi.projects
language plpgsql
as $$
declare
  v_project imi.projects;
begin
  select * into v_project from imi.projects where projects.id = p_project_id for no key update;
  if not found then
    perform logic.fail(404, 'NOT_FOUND', 'Project not found', jsonb_build_object('project_id', p_project_id));
  end if;
  return v_project;
end
$$;
comment on function logic.project_lock is 'The project, locked until the transaction ends; 404 without one';

-- Projects are few; only a search ranks.
create or replace function logic.projects_matching(p_active text, p_search text, p_metadata jsonb) returns setof imi.projects
language sql
stable
as $$
  select projects.* from imi.projects
  where (coalesce(p_active, 'true') = 'all' or projects.active = (coalesce(p_active, 'true') = 'true'))
    and (p_metadata is null or projects.metadata @> p_metadata)
    and (
      p_search is null
      or projects.name operator(imi.%) p_search
      or projects.name ilike logic.contains_pattern(p_search))
$$;
comment on function logic.projects_matching is 'Projects by activity (true, false, all), name and metadata';

create or replace function logic.project_register(p_body jsonb, p_context json, out project_id uuid, out is_new boolean)
language plpgsql
as $$
declare
  v_now timestamptz := logic.now();
  v_remote record := logic.remote_parse(p_body ->> 'remote_origin');
  v_given_id uuid := p_body ->> 'project_id';
  v_was_active boolean;
begin
  if v_given_id is not null and p_context ->> 'scope' is distinct from 'admin' then
    perform logic.fail(403, 'FORBIDDEN', 'Choosing a project''s id needs an admin key', '{}', 'Leave project_id out');
  end if;
  is_new := false;
  project_id := logic.project_of(v_remote.remote_key);
  if project_id is null then
    if exists (select from imi.projects where projects.id = v_given_id) then
      perform logic.fail(409, 'CONFLICT', 'Another project has this id', jsonb_build_object('project_id', v_given_id),
        'Leave project_id out, or move that project with PATCH');
    end if;
    with remote as (
      insert into imi.project_remotes (remote_key, project_id)
      values (v_remote.remote_key, coalesce(v_given_id, uuidv7()))
      on conflict (remote_key) do nothing
      returning project_remotes.project_id
    )
    insert into imi.projects (
      id, name, remote_origin, default_branch, trunk_path, description, metadata, created_at, updated_at)
    select
      remote.project_id, coalesce(p_body ->> 'name', v_remote.name), v_remote.remote_origin,
      coalesce(p_body ->> 'default_branch', 'main'), p_body ->> 'trunk_path', p_body ->> 'description',
      coalesce(p_body -> 'metadata', '{}'), v_now, v_now
    from remote
    returning projects.id into project_id;
    is_new := found;
    if is_new then
      perform logic.event_append('imi.project.registered', logic.project_document(project_id), p_context);
      return;
    end if;
    project_id := logic.project_of(v_remote.remote_key);
  end if;

  if v_given_id <> project_id then
    perform logic.fail(409, 'CONFLICT', 'This remote is registered under another id',
      jsonb_build_object('project_id', project_id), 'Leave project_id out, or use the one in params');
  end if;
  update imi.projects
  set active = true,
    trunk_path = coalesce(projects.trunk_path, p_body ->> 'trunk_path'),
    description = coalesce(projects.description, p_body ->> 'description'),
    updated_at = v_now
  where projects.id = project_register.project_id
    and (not projects.active
      or projects.trunk_path is null and p_body ->> 'trunk_path' is not null
      or projects.description is null and p_body ->> 'description' is not null)
  returning old.active into v_was_active;
  if found then
    perform logic.event_append(
      case when v_was_active then 'imi.project.updated' else 'imi.project.reactivated' end,
      logic.project_document(project_id), p_context);
  end if;
end
$$;
comment on function logic.project_register is 'Finds or makes the project of a remote; revives it, fills what was null';

-- The row is locked, so a racing registration of the same remote waits for the move or makes it fail, never both.
create or replace function logic.project_move(p_project_id uuid, p_remote_origin text) returns text
language plpgsql
as $$
declare
  v_remote record := logic.remote_parse(p_remote_origin);
  v_owner uuid;
begin
  if logic.project_of(v_remote.remote_key) is distinct from p_project_id then
    insert into imi.project_remotes (remote_key, project_id, is_current)
    values (v_remote.remote_key, p_project_id, false)
    on conflict (remote_key) do nothing;
    v_owner := logic.project_of(v_remote.remote_key);
    if v_owner <> p_project_id then
      perform logic.fail(409, 'CONFLICT', 'Another project has or had this remote',
        jsonb_build_object('project_id', v_owner), 'Move or keep that project; one remote names one project');
    end if;
  end if;
  update imi.project_remotes set is_current = false
  where project_remotes.project_id = p_project_id and is_current and remote_key <> v_remote.remote_key;
  update imi.project_remotes set is_current = true where remote_key = v_remote.remote_key and not is_current;
  return v_remote.remote_origin;
end
$$;
comment on function logic.project_move is 'Gives a project a new current remote, keeps the old one as an alias, returns the new remote without secrets';

create or replace function api.project_register(p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_registered record := logic.project_register(p_body::jsonb, p_context);
begin
  status := case when v_registered.is_new then 201 else 200 end;
  body := logic.project_document(v_registered.project_id);
end
$$;
comment on function api.project_register is 'POST /api/v1/projects: registers a remote, or answers the project it already is';

create or replace function api.project_list(
  p_active text default null,
  p_search text default null,
  p_metadata jsonb default null,
  p_offset integer default null,
  p_limit integer default null
) returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  with page as (
    select id, row_number() over () as n
    from (
      select matching.id from logic.projects_matching(p_active, p_search, p_metadata) as matching
      order by
        matching.name ilike logic.contains_pattern(p_search) desc nulls last,
        imi.similarity(matching.name, p_search) desc nulls last, matching.created_at desc, matching.id desc
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)
    ) as ranked
  )
  select logic.page(
    array(select row_to_json(document) from page join logic.project_documents as document using (id) order by page.n),
    (select count(*) from logic.projects_matching(p_active, p_search, p_metadata)), p_offset, p_limit)
$$;
comment on function api.project_list is 'GET /api/v1/projects: newest first; with a search, those that hold it, then the similar ones';

create or replace function api.project_by_origin(p_remote_origin text, out status integer, out body json)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_remote_key text := (logic.remote_parse(p_remote_origin)).remote_key;
begin
  body := logic.project_document(logic.project_of(v_remote_key));
  if body is null then
    perform logic.fail(404, 'NOT_FOUND', 'No project has this remote',
      jsonb_build_object('remote_key', v_remote_key), 'Register it with POST /api/v1/projects');
  end if;
  status := 200;
end
$$;
comment on function api.project_by_origin is 'GET /api/v1/projects/by-origin: by any spelling of a present or former remote';

create or replace function api.project_get(p_project_id uuid, out status integer, out body json)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  body := logic.project_document(p_project_id);
  status := 200;
  if body is null then
    status := 404;
    body := logic.not_found('Project', 'project_id', p_project_id::text);
  end if;
end
$$;
comment on function api.project_get is 'GET /api/v1/projects/{project_id}: one project, an inactive one too';

create or replace function api.project_update(p_project_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old imi.projects := logic.project_lock(p_project_id);
  v_new imi.projects;
begin
  v_new := jsonb_populate_record(
    v_old, logic.pick(p_body::jsonb, 'name', 'description', 'default_branch', 'trunk_path', 'metadata'));
  if p_body ->> 'remote_origin' is not null then
    v_new.remote_origin := logic.project_move(p_project_id, p_body ->> 'remote_origin');
  end if;
  if v_new is distinct from v_old then
    update imi.projects
    set name = v_new.name, description = v_new.description, default_branch = v_new.default_branch,
      trunk_path = v_new.trunk_path, metadata = v_new.metadata, remote_origin = v_new.remote_origin, updated_at = logic.now()
    where projects.id = p_project_id;
    perform logic.event_append('imi.project.updated', logic.project_document(p_project_id), p_context);
  end if;
  return logic.project_document(p_project_id);
end
$$;
comment on function api.project_update is 'PATCH /api/v1/projects/{project_id}: what is given replaces, null clears; remote_origin moves the project';

create or replace function api.project_deactivate(p_project_id uuid, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := logic.now();
begin
  perform logic.project_lock(p_project_id);
  update imi.projects set active = false, updated_at = v_now where projects.id = p_project_id and projects.active;
  if found then
    perform logic.work_deactivate(work_items.id, p_context)
    from imi.work_items
    where work_items.project_id = p_project_id and work_items.active
    order by work_items.id;
    perform logic.event_append('imi.project.deactivated', logic.project_document(p_project_id), p_context);
  end if;
  status := 204;
end
$$;
comment on function api.project_deactivate is 'DELETE /api/v1/projects/{project_id}: soft; its active work items end with it';
