-- Links: which tickets, pull requests and deploys belong to a work item. What a pull request goes through is told in
-- pull_requests.sql.
--
-- A link is known by its work item and the other side's own name: the ticket's id, the PR's URL, the deploy's id and
-- environment. Said again, what is given wins and null clears; what is absent stays. A deploy has one commit: with
-- another it is another deploy. Evidence says how a link came to be: the rule ("api", or the type of an event), the
-- actor or the event, and when; so no edge is a guess that nobody can check. Requests and events come through the same
-- functions and differ in their evidence, and in that an event may be late: of a ticket of which something is known, what
-- is older than that is passed over. For that the evidence also says how the present state came to be. Reading comes
-- first, so a repeat writes nothing; a writer then locks the work item, so that of many who say the same at once one writes.

create or replace view logic.ticket_link_documents as
select
  link.id, link.work_item_id, link.plane_ticket_id, link.ticket_title, link.ticket_url, link.ticket_state,
  link.evidence, link.metadata, link.created_at, link.updated_at
from imi.ticket_links as link;
comment on view logic.ticket_link_documents is 'Links to tickets as the API shows them';

create or replace view logic.pr_link_documents as
select
  link.id, link.work_item_id, link.pr_number, link.pr_url, link.pr_state, link.pr_title,
  link.evidence, link.metadata, link.created_at, link.updated_at
from imi.pr_links as link;
comment on view logic.pr_link_documents is 'Links to pull requests as the API shows them';

create or replace view logic.deploy_link_documents as
select
  link.id, link.work_item_id, link.deploy_id, link.environment, link.commit_hash, link.deployed_at,
  link.evidence, link.metadata, link.created_at
from imi.deploy_links as link;
comment on view logic.deploy_link_documents is 'Links to deploys as the API shows them';

create or replace function logic.ticket_link_document(p_link_id uuid) returns json
language sql
stable
as $$
  select row_to_json(document) from logic.ticket_link_documents as document where document.id = p_link_id
$$;
comment on function logic.ticket_link_document is 'One link to a ticket as the API shows it';

create or replace function logic.pr_link_document(p_link_id uuid) returns json
language sql
stable
as $$
  select row_to_json(document) from logic.pr_link_documents as document where document.id = p_link_id
$$;
comment on function logic.pr_link_document is 'One link to a pull request as the API shows it';

create or replace function logic.deploy_link_document(p_link_id uuid) returns json
language sql
stable
as $$
  select row_to_json(document) from logic.deploy_link_documents as document where document.id = p_link_id
$$;
comment on function logic.deploy_link_document is 'One link to a deploy as the API shows it';

create or replace function logic.links_document(p_work_item_id uuid) returns json
language sql
stable
as $$
  select json_build_object(
    'tickets', (
      select coalesce(json_agg(document order by document.created_at desc, document.id desc), '[]')
      from logic.ticket_link_documents as document where document.work_item_id = p_work_item_id),
    'prs', (
      select coalesce(json_agg(document order by document.created_at desc, document.id desc), '[]')
      from logic.pr_link_documents as document where document.work_item_id = p_work_item_id),
    'deploys', (
      select coalesce(json_agg(document order by document.created_at desc, document.id desc), '[]')
      from logic.deploy_link_documents as document where document.work_item_id = p_work_item_id))
$$;
comment on function logic.links_document is 'All links of a work item: {tickets, prs, deploys}, newest first';

create or replace function logic.link_evidence(p_context json) returns jsonb
language sql
immutable
as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'rule', 'api', 'actor', p_context ->> 'actor', 'request_id', p_context ->> 'request_id'))
$$;
comment on function logic.link_evidence is 'The evidence of a link that a request makes';

create or replace function logic.link_lock(p_work_item_id uuid) returns void
language plpgsql
as $$
begin
  perform from imi.work_items where work_items.id = p_work_item_id for no key update;
  if not found then
    perform logic.fail(400, 'INVALID_REFERENCE', 'The work item does not exist',
      jsonb_build_object('work_item_id', p_work_item_id), 'Start it with POST /api/v1/work');
  end if;
end
$$;
comment on function logic.link_lock is 'Locks the work item that a link names; 400 without one';

-- It is shown as a link to click, and it goes out in events. The contract says the same of it (Url).
create or replace function logic.link_url_check(p_url text) returns void
language plpgsql
as $$
begin
  if p_url !~ '^https?://[^/?#@[:space:]]+([/?#].*)?$' or char_length(p_url) > 2048 then
    perform logic.fail(400, 'VALIDATION_ERROR', 'The URL of the ticket or pull request is not one for a browser', '{}',
      'Give an http or https URL without user or password, of at most 2048 characters');
  end if;
end
$$;
comment on function logic.link_url_check is 'Refuses a link''s URL that is not http or https, or holds a user or password';

create or replace function logic.link_ticket(
  p_body jsonb, p_evidence jsonb, p_observed_at timestamptz, p_context json, out link_id uuid, out is_new boolean
)
language plpgsql
as $$
declare
  v_work_item_id uuid := p_body ->> 'work_item_id';
  v_ticket_id text := p_body ->> 'plane_ticket_id';
  v_given jsonb := logic.pick(p_body, 'ticket_title', 'ticket_url', 'ticket_state', 'metadata');
  v_now timestamptz := logic.now();
  v_evidence jsonb := p_evidence || jsonb_build_object('at', coalesce(p_observed_at, v_now));
begin
  perform logic.link_url_check(p_body ->> 'ticket_url');
  if not exists (
    select from imi.ticket_links as link
    where link.work_item_id = v_work_item_id and link.plane_ticket_id = v_ticket_id
      and link is not distinct from jsonb_populate_record(link, v_given))
  then
    perform logic.link_lock(v_work_item_id);
    insert into imi.ticket_links as link (
      work_item_id, plane_ticket_id, ticket_title, ticket_url, ticket_state, evidence, metadata, created_at, updated_at)
    values (
      v_work_item_id, v_ticket_id, p_body ->> 'ticket_title', p_body ->> 'ticket_url', p_body ->> 'ticket_state',
      v_evidence, coalesce(p_body -> 'metadata', '{}'), v_now, v_now)
    on conflict (work_item_id, plane_ticket_id) do update
    set (ticket_title, ticket_url, ticket_state, evidence, metadata, updated_at) = (
      select given.ticket_title, given.ticket_url, given.ticket_state,
        link.evidence || jsonb_build_object('state', v_evidence), given.metadata, v_now
      from jsonb_populate_record(link, v_given) as given)
    where link is distinct from jsonb_populate_record(link, v_given)
      and (
        p_observed_at is null
        or coalesce(link.ticket_title, link.ticket_url, link.ticket_state) is null
        or p_observed_at >= coalesce(link.evidence #>> '{state,at}', link.evidence ->> 'at')::timestamptz)
    returning link.id, old.id is null into link_id, is_new;
    if found then
      perform logic.event_append(case when is_new then 'imi.link.ticket_linked' else 'imi.link.ticket_updated' end,
        logic.ticket_link_document(link_id), p_context);
      return;
    end if;
  end if;
  select link.id, false into link_id, is_new from imi.ticket_links as link
  where link.work_item_id = v_work_item_id and link.plane_ticket_id = v_ticket_id;
end
$$;
comment on function logic.link_ticket is 'Links a work item to a ticket, or changes what is given about it; p_observed_at: the time of the event that says so, null for a person';

create or replace function logic.link_deploy(
  p_body jsonb, p_evidence jsonb, p_context json, out link_id uuid, out is_new boolean
)
language plpgsql
as $$
declare
  v_new imi.deploy_links := jsonb_populate_record(
    null::imi.deploy_links, logic.pick(p_body, 'work_item_id', 'deploy_id', 'environment', 'deployed_at', 'metadata'));
  v_given jsonb := logic.pick(p_body, 'deployed_at', 'metadata');
  v_now timestamptz := logic.now();
  v_commit_hash text;
begin
  v_new.commit_hash := lower(p_body ->> 'commit_hash');
  if not exists (
    select from imi.deploy_links as link
    where (link.work_item_id, link.deploy_id, link.environment) = (v_new.work_item_id, v_new.deploy_id, v_new.environment)
      and link is not distinct from jsonb_populate_record(link, v_given))
  then
    perform logic.link_lock(v_new.work_item_id);
    insert into imi.deploy_links as link (
      work_item_id, deploy_id, environment, commit_hash, deployed_at, evidence, metadata, created_at)
    values (
      v_new.work_item_id, v_new.deploy_id, v_new.environment, v_new.commit_hash, coalesce(v_new.deployed_at, v_now),
      p_evidence || jsonb_build_object('at', v_now), coalesce(v_new.metadata, '{}'), v_now)
    on conflict (work_item_id, deploy_id, environment) do update
    set (deployed_at, metadata) = (select given.deployed_at, given.metadata from jsonb_populate_record(link, v_given) as given)
    where logic.commits_agree(link.commit_hash, excluded.commit_hash) and link is distinct from jsonb_populate_record(link, v_given)
    returning link.id, old.id is null into link_id, is_new;
    if found then
      perform logic.event_append(case when is_new then 'imi.deploy.completed' else 'imi.deploy.updated' end,
        logic.deploy_link_document(link_id), p_context);
      return;
    end if;
  end if;

  select link.id, false, link.commit_hash into link_id, is_new, v_commit_hash from imi.deploy_links as link
  where (link.work_item_id, link.deploy_id, link.environment) = (v_new.work_item_id, v_new.deploy_id, v_new.environment);
  if not logic.commits_agree(v_commit_hash, v_new.commit_hash) then
    perform logic.fail(409, 'CONFLICT', 'This deploy is known with another commit',
      jsonb_build_object('deploy_link_id', link_id, 'commit_hash', v_commit_hash), 'A deploy of another commit has an id of its own');
  end if;
end
$$;
comment on function logic.link_deploy is 'Links a work item to a deploy, or changes what is given about it; its commit never changes';

create or replace function api.link_ticket(p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_linked record := logic.link_ticket(p_body::jsonb, logic.link_evidence(p_context), null, p_context);
begin
  status := case when v_linked.is_new then 201 else 200 end;
  body := logic.ticket_link_document(v_linked.link_id);
end
$$;
comment on function api.link_ticket is 'POST /api/v1/links/ticket: a work item serves a ticket';

create or replace function api.link_deploy(p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_linked record := logic.link_deploy(p_body::jsonb, logic.link_evidence(p_context), p_context);
begin
  status := case when v_linked.is_new then 201 else 200 end;
  body := logic.deploy_link_document(v_linked.link_id);
end
$$;
comment on function api.link_deploy is 'POST /api/v1/links/deploy: a work item was deployed';

create or replace function api.link_list(p_work_item_id uuid) returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from imi.work_items where work_items.id = p_work_item_id) then
    perform logic.fail(404, 'NOT_FOUND', 'Work item not found', jsonb_build_object('work_item_id', p_work_item_id));
  end if;
  return logic.links_document(p_work_item_id);
end
$$;
comment on function api.link_list is 'GET /api/v1/links: the tickets, pull requests and deploys of a work item';

create or replace function api.link_ticket_work_items(
  p_plane_ticket_id text, p_offset integer default null, p_limit integer default null
) returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select logic.page(
    array(
      select row_to_json(document)
      from imi.ticket_links as link
      join logic.work_documents as document on document.id = link.work_item_id
      where link.plane_ticket_id = p_plane_ticket_id
      order by document.created_at desc, document.id desc
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (select count(*) from imi.ticket_links as link where link.plane_ticket_id = p_plane_ticket_id), p_offset, p_limit)
$$;
comment on function api.link_ticket_work_items is 'GET /api/v1/links/ticket/{plane_ticket_id}: the work items that serve a ticket';
