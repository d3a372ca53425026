-- Components: what a meta-repository is made of, and which of its parts depend on which.
--
-- A component is known by its project and name. Registered again, what is given wins and null clears; what is absent
-- stays, and a repeat that changes nothing writes nothing. Relationships are directed and of three types; cycles are
-- legal data. The graph is walked breadth first, a level a step, so that each component is met once, at its least
-- depth, whatever cycles and diamonds there are; following every path would not end on real data. What depends on a
-- component is the same walk, inwards. An answer ends at 10,000 components and 100,000 edges and then says so.

create or replace view logic.component_documents as
select
  component.id, component.parent_project_id, component.name, component.path, component.kind, component.enabled,
  component.linked_project_id, component.metadata, component.created_at, component.updated_at
from imi.components as component;
comment on view logic.component_documents is 'Components as the API shows them';

create or replace view logic.relationship_documents as
select
  relationship.id, relationship.source_component_id, relationship.target_component_id, relationship.relationship_type,
  relationship.metadata, relationship.created_at
from imi.component_relationships as relationship;
comment on view logic.relationship_documents is 'Relationships of components as the API shows them';

create or replace function logic.component_document(p_component_id uuid) returns json
language sql
stable
as $$
  select row_to_json(document) from logic.component_documents as document where document.id = p_component_id
$$;
comment on function logic.component_document is 'One component as the API shows it';

create or replace function logic.relationship_document(p_relationship_id uuid) returns json
language sql
stable
as $$
  select row_to_json(document) from logic.relationship_documents as document where document.id = p_relationship_id
$$;
comment on function logic.relationship_document is 'One relationship as the API shows it';

create or replace function logic.components_matching(
  p_parent_project_id uuid, p_kind text, p_enabled boolean, p_metadata jsonb
) returns setof imi.components
language sql
stable
as $$
  select component.* from imi.components as component
  where (p_parent_project_id is null or component.parent_project_id = p_parent_project_id)
    and (p_kind is null or component.kind = p_kind)
    and (p_enabled is null or component.enabled = p_enabled)
    and (p_metadata is null or component.metadata @> p_metadata)
$$;
comment on function logic.components_matching is 'Components by project, kind, whether they are enabled, and metadata';

create or replace function logic.component_require(p_component_id uuid) returns void
language plpgsql
stable
as $$
begin
  if not exists (select from imi.components as component where component.id = p_component_id) then
    perform logic.fail(404, 'NOT_FOUND', 'Component not found', jsonb_build_object('component_id', p_component_id));
  end if;
end
$$;
comment on function logic.component_require is 'Raises 404 when there is no such component';

create or replace function logic.component_projects_require(p_body jsonb) returns void
language plpgsql
stable
as $$
declare
  v_missing jsonb := (
    select jsonb_object_agg(given.key, given.value)
    from jsonb_each_text(logic.pick(p_body, 'parent_project_id', 'linked_project_id')) as given
    where given.value is not null and not exists (select from imi.projects where projects.id = given.value::uuid));
begin
  if v_missing is not null then
    perform logic.fail(400, 'INVALID_REFERENCE', 'The project does not exist', v_missing, 'Register it with POST /api/v1/projects');
  end if;
end
$$;
comment on function logic.component_projects_require is 'Raises 400 and names the projects of a component that do not exist';

create or replace function logic.component_register(p_body jsonb, p_context json, out component_id uuid, out is_new boolean)
language plpgsql
as $$
declare
  v_project_id uuid := p_body ->> 'parent_project_id';
  v_name text := p_body ->> 'name';
  v_given jsonb := logic.pick(p_body, 'path', 'kind', 'enabled', 'linked_project_id', 'metadata');
  v_now timestamptz := logic.now();
begin
  if not exists (
    select from imi.components as component
    where component.parent_project_id = v_project_id and component.name = v_name
      and component is not distinct from jsonb_populate_record(component, v_given))
  then
    perform logic.component_projects_require(p_body);
    insert into imi.components as component (
      parent_project_id, name, path, kind, enabled, linked_project_id, metadata, created_at, updated_at)
    values (
      v_project_id, v_name, p_body ->> 'path', p_body ->> 'kind', coalesce((p_body ->> 'enabled')::boolean, true),
      (p_body ->> 'linked_project_id')::uuid, coalesce(p_body -> 'metadata', '{}'), v_now, v_now)
    on conflict (parent_project_id, name) do update
    set (path, kind, enabled, linked_project_id, metadata, updated_at) = (
      select given.path, given.kind, given.enabled, given.linked_project_id, given.metadata, v_now
      from jsonb_populate_record(component, v_given) as given)
    where component is distinct from jsonb_populate_record(component, v_given)
    returning component.id, old.id is null into component_id, is_new;
    if found then
      perform logic.event_append(case when is_new then 'imi.component.registered' else 'imi.component.updated' end,
        logic.component_document(component_id), p_context);
      return;
    end if;
  end if;
  select component.id, false into component_id, is_new from imi.components as component
  where component.parent_project_id = v_project_id and component.name = v_name;
end
$$;
comment on function logic.component_register is 'Finds or makes the component of a project and name; what is given wins';

create or replace function logic.component_relate(
  p_component_id uuid, p_body jsonb, p_context json, out relationship_id uuid, out is_new boolean
)
language plpgsql
as $$
declare
  v_target_id uuid := p_body ->> 'target_component_id';
  v_type text := p_body ->> 'relationship_type';
begin
  perform logic.component_require(p_component_id);
  if not exists (select from imi.components as component where component.id = v_target_id) then
    perform logic.fail(400, 'INVALID_REFERENCE', 'The target component does not exist',
      jsonb_build_object('target_component_id', v_target_id), 'Register it with POST /api/v1/components');
  end if;
  if not exists (
    select from imi.component_relationships as relationship
    where (relationship.source_component_id, relationship.target_component_id, relationship.relationship_type)
        = (p_component_id, v_target_id, v_type)
      and relationship.metadata = coalesce(p_body -> 'metadata', relationship.metadata))
  then
    insert into imi.component_relationships as relationship (
      source_component_id, target_component_id, relationship_type, metadata, created_at)
    values (p_component_id, v_target_id, v_type, coalesce(p_body -> 'metadata', '{}'), logic.now())
    on conflict (source_component_id, target_component_id, relationship_type) do update
    set metadata = p_body -> 'metadata'
    where relationship.metadata <> p_body -> 'metadata'
    returning relationship.id, old.id is null into relationship_id, is_new;
    if found then
      perform logic.event_append('imi.component.related', logic.relationship_document(relationship_id), p_context);
      return;
    end if;
  end if;
  select relationship.id, false into relationship_id, is_new from imi.component_relationships as relationship
  where (relationship.source_component_id, relationship.target_component_id, relationship.relationship_type)
      = (p_component_id, v_target_id, v_type);
end
$$;
comment on function logic.component_relate is 'Finds or makes the relationship of a type between two components';

create or replace function logic.component_neighbours(p_ids uuid[], p_direction text, p_type text) returns setof uuid
language sql
stable
as $$
  select relationship.target_component_id from imi.component_relationships as relationship
  where p_direction in ('out', 'both') and relationship.source_component_id = any (p_ids)
    and relationship.relationship_type = coalesce(p_type, relationship.relationship_type)
  union
  select relationship.source_component_id from imi.component_relationships as relationship
  where p_direction in ('in', 'both') and relationship.target_component_id = any (p_ids)
    and relationship.relationship_type = coalesce(p_type, relationship.relationship_type)
$$;
comment on function logic.component_neighbours is 'The components one step away: out, in or both';

-- EXCEPT hashes what was met before; comparing it as an array made a walk over 10,000 components quadratic.
create or replace function logic.component_walk(
  p_component_id uuid, p_direction text, p_depth integer, p_type text, out ids uuid[], out depths integer[], out truncated boolean
)
language plpgsql
stable
as $$
declare
  c_limit constant integer := 10000;
  v_level uuid[] := array[p_component_id];
  v_depth integer := 0;
begin
  ids := '{}';
  while cardinality(v_level) > 0 and v_depth <= p_depth and cardinality(ids) <= c_limit loop
    ids := ids || v_level;
    depths := depths || array_fill(v_depth, array[cardinality(v_level)]);
    v_level := array(
      select neighbour from logic.component_neighbours(v_level, p_direction, p_type) as neighbour
      except
      select unnest(ids)
      order by neighbour
      limit c_limit + 1 - cardinality(ids));
    v_depth := v_depth + 1;
  end loop;
  truncated := cardinality(v_level) > 0 or cardinality(ids) > c_limit;
  ids := ids[:c_limit];
  depths := depths[:c_limit];
end
$$;
comment on function logic.component_walk is 'Every component within reach, once, with its least depth; truncated when the depth or 10,000 components cut it';

create or replace function api.component_register(p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_registered record := logic.component_register(p_body::jsonb, p_context);
begin
  status := case when v_registered.is_new then 201 else 200 end;
  body := logic.component_document(v_registered.component_id);
end
$$;
comment on function api.component_register is 'POST /api/v1/components: a part of a project, known by its name there';

create or replace function api.component_list(
  p_parent_project_id uuid default null,
  p_kind text default null,
  p_enabled boolean default null,
  p_metadata jsonb default null,
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
      select row_to_json(document)
      from logic.components_matching(p_parent_project_id, p_kind, p_enabled, p_metadata) as matching
      join logic.component_documents as document using (id)
      order by document.created_at desc, document.id desc
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (select count(*) from logic.components_matching(p_parent_project_id, p_kind, p_enabled, p_metadata)), p_offset, p_limit)
$$;
comment on function api.component_list is 'GET /api/v1/components: newest first';

create or replace function api.component_get(p_component_id uuid, out status integer, out body json)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  body := logic.component_document(p_component_id);
  status := 200;
  if body is null then
    status := 404;
    body := logic.not_found('Component', 'component_id', p_component_id::text);
  end if;
end
$$;
comment on function api.component_get is 'GET /api/v1/components/{component_id}: one component';

create or replace function api.component_update(p_component_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_old imi.components;
  v_new imi.components;
begin
  select * into v_old from imi.components as component where component.id = p_component_id for no key update;
  perform logic.component_require(p_component_id);
  v_new := jsonb_populate_record(v_old, logic.pick(p_body::jsonb, 'path', 'kind', 'enabled', 'linked_project_id', 'metadata'));
  if v_new is distinct from v_old then
    perform logic.component_projects_require(p_body::jsonb);
    update imi.components as component
    set path = v_new.path, kind = v_new.kind, enabled = v_new.enabled, linked_project_id = v_new.linked_project_id,
      metadata = v_new.metadata, updated_at = logic.now()
    where component.id = p_component_id;
    perform logic.event_append('imi.component.updated', logic.component_document(p_component_id), p_context);
  end if;
  return logic.component_document(p_component_id);
end
$$;
comment on function api.component_update is 'PATCH /api/v1/components/{component_id}: what is given replaces, null clears';

create or replace function api.component_relate(p_component_id uuid, p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_related record := logic.component_relate(p_component_id, p_body::jsonb, p_context);
begin
  status := case when v_related.is_new then 201 else 200 end;
  body := logic.relationship_document(v_related.relationship_id);
end
$$;
comment on function api.component_relate is 'POST /api/v1/components/{component_id}/relationships: what the component is to another';

create or replace function api.component_relationships(p_component_id uuid) returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform logic.component_require(p_component_id);
  return json_build_object(
    'outgoing', (
      select coalesce(json_agg(document order by document.created_at desc, document.id desc), '[]')
      from logic.relationship_documents as document where document.source_component_id = p_component_id),
    'incoming', (
      select coalesce(json_agg(document order by document.created_at desc, document.id desc), '[]')
      from logic.relationship_documents as document where document.target_component_id = p_component_id));
end
$$;
comment on function api.component_relationships is 'GET /api/v1/components/{component_id}/relationships: what it points to and what points to it';

create or replace function api.component_graph(
  p_component_id uuid, p_direction text default null, p_depth integer default null, p_type text default null
) returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  c_limit constant integer := 100000;
  v_walk record := logic.component_walk(p_component_id, coalesce(p_direction, 'out'), coalesce(p_depth, 100), p_type);
  v_edges json[];
begin
  perform logic.component_require(p_component_id);
  v_edges := array(
    select json_build_object(
      'source', edge.source_component_id, 'target', edge.target_component_id, 'type', edge.relationship_type)
    from unnest(v_walk.ids, v_walk.depths) as source (id, depth)
    join imi.component_relationships as edge on edge.source_component_id = source.id
    where edge.target_component_id in (select unnest(v_walk.ids))
      and edge.relationship_type = coalesce(p_type, edge.relationship_type)
    order by source.depth, edge.id
    limit c_limit + 1);
  return json_build_object(
    'nodes', (
      select json_agg(json_build_object('id', component.id, 'name', component.name, 'kind', component.kind, 'depth', met.depth)
        order by met.depth, component.name, component.id)
      from unnest(v_walk.ids, v_walk.depths) as met (id, depth)
      join imi.components as component using (id)),
    'edges', v_edges[:c_limit],
    'truncated', v_walk.truncated or cardinality(v_edges) > c_limit);
end
$$;
comment on function api.component_graph is 'GET /api/v1/components/{component_id}/graph: what it reaches, breadth first, each once';
