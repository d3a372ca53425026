-- migrate:up
create table imi.ticket_links (
  id uuid default uuidv7() constraint ticket_links_pkey primary key,
  work_item_id uuid not null constraint ticket_link_is_on_a_work_item references imi.work_items,
  plane_ticket_id text collate "C" not null constraint ticket_id_is_not_empty check (plane_ticket_id <> ''),
  ticket_title text,
  ticket_url text,
  ticket_state text,
  evidence jsonb not null default '{}' constraint ticket_evidence_is_an_object check (jsonb_typeof(evidence) = 'object'),
  metadata jsonb not null default '{}' constraint ticket_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint one_link_per_ticket unique (work_item_id, plane_ticket_id)
);
comment on table imi.ticket_links is 'Which ticket a work item serves';
comment on column imi.ticket_links.evidence is 'How the link came to be: the rule, and the event that carried it';

create index ticket_links_by_ticket on imi.ticket_links (plane_ticket_id);

create table imi.pr_links (
  id uuid default uuidv7() constraint pr_links_pkey primary key,
  work_item_id uuid not null constraint pr_link_is_on_a_work_item references imi.work_items,
  pr_number integer not null constraint pr_number_is_positive check (pr_number > 0),
  pr_url text collate "C" not null constraint pr_url_is_not_empty check (pr_url <> ''),
  pr_state text not null default 'open' constraint pr_state_is_known check (pr_state in ('open', 'merged', 'closed')),
  pr_title text,
  evidence jsonb not null default '{}' constraint pr_evidence_is_an_object check (jsonb_typeof(evidence) = 'object'),
  metadata jsonb not null default '{}' constraint pr_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint one_link_per_pr unique (work_item_id, pr_url)
);
comment on table imi.pr_links is 'Which pull request a work item became; a number is not unique over projects, its URL is';
comment on column imi.pr_links.evidence is 'How the link came to be: the rule, and the event that carried it';

create index pr_links_by_number on imi.pr_links (pr_number);
create index pr_links_by_url on imi.pr_links (pr_url);

create table imi.deploy_links (
  id uuid default uuidv7() constraint deploy_links_pkey primary key,
  work_item_id uuid not null constraint deploy_link_is_on_a_work_item references imi.work_items,
  deploy_id text collate "C" not null constraint deploy_id_is_not_empty check (deploy_id <> ''),
  environment text collate "C" not null constraint environment_is_not_empty check (environment <> ''),
  commit_hash text collate "C" not null constraint commit_hash_is_not_empty check (commit_hash <> ''),
  deployed_at timestamptz not null default now(),
  evidence jsonb not null default '{}' constraint deploy_evidence_is_an_object check (jsonb_typeof(evidence) = 'object'),
  metadata jsonb not null default '{}' constraint deploy_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
  created_at timestamptz not null default now(),
  constraint one_link_per_deploy unique (work_item_id, deploy_id, environment)
);
comment on table imi.deploy_links is 'Where and when a work item was deployed';
comment on column imi.deploy_links.evidence is 'How the link came to be: the rule, and the event that carried it';

create index deploy_links_by_deploy on imi.deploy_links (deploy_id);
create index deploy_links_by_commit on imi.deploy_links (commit_hash);
create index deploy_links_by_time on imi.deploy_links (deployed_at);

-- migrate:down
drop table imi.deploy_links;
drop table imi.pr_links;
drop table imi.ticket_links;
