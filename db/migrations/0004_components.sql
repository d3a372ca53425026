-- migrate:up
create table imi.components (
  id uuid default uuidv7() constraint components_pkey primary key,
  parent_project_id uuid not null constraint component_belongs_to_a_project references imi.projects,
  name text collate "C" not null constraint component_name_is_not_empty check (name <> ''),
  path text not null,
  kind text not null constraint component_kind_is_known check (kind in ('submodule', 'local', 'external')),
  enabled boolean not null default true,
  linked_project_id uuid constraint component_is_a_project references imi.projects,
  metadata jsonb not null default '{}' constraint component_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint one_component_per_name unique (parent_project_id, name)
);
comment on table imi.components is 'The parts a meta-repository is made of';

create index components_by_linked_project on imi.components (linked_project_id) where linked_project_id is not null;
create index components_by_age on imi.components (created_at desc, id desc);
create index components_by_metadata on imi.components using gin (metadata jsonb_path_ops);

create table imi.component_relationships (
  id uuid default uuidv7() constraint component_relationships_pkey primary key,
  source_component_id uuid not null constraint relationship_has_a_source references imi.components,
  target_component_id uuid not null constraint relationship_has_a_target references imi.components,
  relationship_type text not null constraint relationship_type_is_known
    check (relationship_type in ('depends_on', 'produces_events_for', 'consumes_events_from')),
  metadata jsonb not null default '{}' constraint relationship_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
  created_at timestamptz not null default now(),
  constraint one_relationship_per_type unique (source_component_id, target_component_id, relationship_type),
  constraint component_is_not_related_to_itself check (source_component_id <> target_component_id)
);
comment on table imi.component_relationships is 'Directed edges between components; cycles are legal data';

create index component_relationships_by_target on imi.component_relationships (target_component_id);

-- migrate:down
drop table imi.component_relationships;
drop table imi.components;
