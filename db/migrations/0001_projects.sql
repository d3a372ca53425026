-- migrate:up
create schema imi;
comment on schema imi is 'Tables of the registry: projects, work, links, components, agents and keys';

-- Trigram search over project names. A trusted extension: the database's owner may create it.
create extension if not exists pg_trgm with schema imi;

create table imi.projects (
  id uuid default uuidv7() constraint projects_pkey primary key,
  name text collate "C" not null constraint project_name_is_not_empty check (name <> ''),
  remote_origin text not null,
  default_branch text not null default 'main' constraint default_branch_is_not_empty check (default_branch <> ''),
  trunk_path text,
  description text,
  metadata jsonb not null default '{}' constraint project_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
  active boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table imi.projects is 'One row a repository; its identity is in project_remotes';
comment on column imi.projects.remote_origin is 'As the first registration (or the last move) spelled it, credentials removed';

create index projects_by_age on imi.projects (created_at desc, id desc);
create index projects_by_name_trigram on imi.projects using gin (name imi.gin_trgm_ops);
create index projects_by_metadata on imi.projects using gin (metadata jsonb_path_ops);

create table imi.project_remotes (
  remote_key text collate "C" constraint project_remotes_pkey primary key,
  project_id uuid not null constraint remote_belongs_to_a_project references imi.projects,
  is_current boolean not null default true
);
comment on table imi.project_remotes is 'Every remote a project has or had, in canonical form; the primary key is the identity of projects';

create index project_remotes_by_project on imi.project_remotes (project_id);
create unique index project_has_one_current_remote on imi.project_remotes (project_id) where is_current;

-- migrate:down
drop table imi.project_remotes;
drop table imi.projects;
drop extension pg_trgm;
drop schema imi;
