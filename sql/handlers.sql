-- Handlers: what the events of git hosts, Plane, tools and CI change here.
--
-- Each follows the log as a subscription (subscriptions.sql; db/migrations/0008 makes the rows) and calls the functions
-- that requests call, told when the event was: late news of a PR, a push or a ticket undoes nothing. What a handler makes
-- is caused by the event. It names its work by remote and branch; where no active work item is there, the event is passed
-- over and counted, because most branches are nobody's here. A key that is missing altogether is an error that names it,
-- so the event becomes a dead letter; a key that is null says that there is none.

create or replace function logic.handler_context(p_event bloodbank.events) returns json
language sql
stable
as $$
  select json_build_object(
    'actor', left(coalesce(agent_id, p_event.source #>> '{meta,actor}', p_event.source ->> 'app', p_event.source ->> 'host'), 255),
    'agent_id', agent_id,
    'scope', 'write',
    'correlation_ids', array[p_event.event_id])
  from nullif(left(p_event.agent_context ->> 'name', 255), '') as agent_id
$$;
comment on function logic.handler_context is 'The context in which an event is handled, as a request''s: its agent, and itself as the cause';

create or replace function logic.handler_time(p_event bloodbank.events) returns timestamptz
language sql
immutable
as $$
  select least(p_event."timestamp", p_event.ingested_at)
$$;
comment on function logic.handler_time is 'When an event was; a clock that is ahead counts as the moment at which it came in';

create or replace function logic.handler_evidence(p_event bloodbank.events) returns jsonb
language sql
stable
as $$
  select jsonb_build_object('rule', p_event.event_type, 'event_id', p_event.event_id)
$$;
comment on function logic.handler_evidence is 'The evidence of what an event says';

create or replace function logic.handler_key(p_payload jsonb, variadic p_path text[]) returns text
language plpgsql
immutable
as $$
begin
  if p_payload #> p_path is null then
    perform logic.fail(400, 'VALIDATION_ERROR', format('The payload has no %s', array_to_string(p_path, '.')), '{}',
      'imi events types shows what a payload must hold');
  elsif jsonb_typeof(p_payload #> p_path) = 'object' then
    perform logic.fail(400, 'VALIDATION_ERROR', format('In the payload %s is an object', array_to_string(p_path, '.')), '{}',
      'imi events types shows what a payload must hold');
  end if;
  return p_payload #>> p_path;
end
$$;
comment on function logic.handler_key is 'What a payload says at a path, null for a JSON null; an error that names the path where nothing is';

create or replace function logic.handler_project(p_payload jsonb) returns uuid
language plpgsql
stable
as $$
declare
  v_key text := case when p_payload ? 'repo' and not p_payload ? 'repository' then 'repo' else 'repository' end;
  v_remote text;
begin
  v_remote := case jsonb_typeof(p_payload -> v_key)
    when 'object' then logic.handler_key(p_payload, v_key, 'remote_url')
    else logic.handler_key(p_payload, v_key)
  end;
  return case when v_remote is not null then logic.project_of((logic.remote_parse(v_remote)).remote_key) end;
end
$$;
comment on function logic.handler_project is 'The project of an event''s repository, an object with remote_url or the remote itself; null if it is nobody''s here';

-- A branch may be used again, and news may be late: what is older than the work that holds the branch now was said of the
-- work before. A minute is left to clocks that differ.
create or replace function logic.work_of_branch(p_project_id uuid, p_branch_name text, p_at timestamptz) returns uuid
language sql
stable
as $$
  select item.id from imi.work_items as item
  where item.project_id = p_project_id and item.branch_name = p_branch_name and item.active
    and (p_at > item.created_at - interval '1 minute' or not exists (
      select from imi.work_items as earlier
      where earlier.project_id = p_project_id and earlier.branch_name = p_branch_name and not earlier.active))
$$;
comment on function logic.work_of_branch is 'The active work item that held a branch at a time; null if none did';

create or replace function logic.handler_pass(p_event bloodbank.events) returns void
language plpgsql
as $$
begin
  perform set_config('imi.passed', (coalesce(nullif(current_setting('imi.passed', true), ''), '0')::integer + 1)::text, true);
end
$$;
comment on function logic.handler_pass is 'Counts an event that no work item is there for; subscription_run says how many';

create or replace function logic.handle_plane(p_event bloodbank.events) returns void
language plpgsql
as $$
declare
  v_ticket_id text;
  v_link jsonb;
  v_ids uuid[];
begin
  if p_event.event_type not in ('plane.ticket.created', 'plane.ticket.updated') then
    return;
  end if;
  v_ticket_id := logic.handler_key(p_event.payload, 'ticket_id');
  v_link := jsonb_strip_nulls(jsonb_build_object(
    'plane_ticket_id', v_ticket_id,
    'ticket_title', p_event.payload -> 'title',
    'ticket_url', p_event.payload -> 'url',
    'ticket_state', p_event.payload -> 'state'));
  v_ids := case p_event.event_type
    when 'plane.ticket.created' then array(
      select item.id from imi.work_items as item
      where item.source_type = 'plane_ticket' and item.source_ref = v_ticket_id and item.active
      order by item.id)
    else array(
      select link.work_item_id from imi.ticket_links as link
      where link.plane_ticket_id = v_ticket_id
      order by link.work_item_id)
  end;
  perform logic.link_ticket(v_link || jsonb_build_object('work_item_id', id), logic.handler_evidence(p_event),
    logic.handler_time(p_event), logic.handler_context(p_event))
  from unnest(v_ids) as id;
  if cardinality(v_ids) = 0 then
    perform logic.handler_pass(p_event);
  end if;
end
$$;
comment on function logic.handle_plane is
  'plane.ticket.created links the active work whose source the ticket is, .updated renews what its links say of it';

create or replace function logic.handle_git(p_event bloodbank.events) returns void
language plpgsql
as $$
begin
  case p_event.event_type
    when 'git.push' then perform logic.handle_push(p_event);
    when 'git.pr.opened', 'git.pr.reopened' then perform logic.handle_pr(p_event, 'open');
    when 'git.pr.merged' then perform logic.handle_pr(p_event, 'merged');
    when 'git.pr.closed' then perform logic.handle_pr(p_event, 'closed');
    else null;
  end case;
end
$$;
comment on function logic.handle_git is
  'git.push moves the last commit of its branch''s work; git.pr.opened, .reopened, .merged and .closed link and move its pull request';

create or replace function logic.handle_push(p_event bloodbank.events) returns void
language plpgsql
as $$
declare
  v_ref text := logic.handler_key(p_event.payload, case when p_event.payload ? 'ref' and not p_event.payload ? 'branch' then 'ref' else 'branch' end);
  v_work_item_id uuid;
  v_after text := lower(p_event.payload ->> 'after');
  v_commit jsonb;
begin
  if v_after ~ '^0+$' or v_ref ~ '^refs/(?!heads/)' then
    return;
  end if;
  v_work_item_id := logic.work_of_branch(logic.handler_project(p_event.payload), regexp_replace(v_ref, '^refs/heads/', ''),
    logic.handler_time(p_event));
  if v_work_item_id is null then
    perform logic.handler_pass(p_event);
    return;
  end if;
  if v_after is null then
    perform logic.handler_key(p_event.payload, 'commits');
  end if;
  select commit into v_commit
  from jsonb_array_elements(nullif(p_event.payload -> 'commits', 'null')) with ordinality as commits (commit, n)
  where v_after is null or lower(commit ->> 'id') = v_after
  order by n desc
  limit 1;
  v_after := coalesce(v_after, lower(v_commit ->> 'id'));
  if v_after !~ '^[0-9a-f]{7,64}$' then
    perform logic.fail(400, 'VALIDATION_ERROR', 'The payload names no commit hash', '{}', 'It has 7 to 64 hexadecimal digits');
  end if;
  perform logic.work_git_state_update(
    v_work_item_id,
    jsonb_build_object('observed_at', logic.handler_time(p_event), 'is_push', true) || case
      -- a push that brings no commit says nothing of the one that is known
      when v_commit is null and (v_after is null or exists (
        select from imi.work_items as item where item.id = v_work_item_id and item.last_commit_hash = v_after)) then '{}'
      else jsonb_build_object('last_commit_hash', v_after, 'last_commit_message', v_commit ->> 'message')
    end,
    logic.handler_context(p_event));
end
$$;
comment on function logic.handle_push is 'Takes a branch''s last commit from a push; a push of a tag or one that deletes the branch is none';

-- A PR that is linked is known by its URL, wherever its branch has gone since; only a new one is looked for by its branch.
create or replace function logic.handle_pr(p_event bloodbank.events, p_state text) returns void
language plpgsql
as $$
declare
  v_url text := logic.handler_key(p_event.payload, 'url');
  v_link jsonb := jsonb_strip_nulls(jsonb_build_object(
    'pr_number', logic.handler_key(p_event.payload, 'number'),
    'pr_url', v_url,
    'pr_state', p_state,
    'pr_title', p_event.payload -> 'title',
    'merge_commit_hash', p_event.payload -> 'merge_commit_sha',
    'merged_by', p_event.payload -> 'merged_by'));
  v_project_id uuid := logic.handler_project(p_event.payload);
  v_ids uuid[];
begin
  v_ids := array(
    select link.work_item_id from imi.pr_links as link
    join imi.work_items as item on item.id = link.work_item_id
    where link.pr_url = v_url and item.project_id = v_project_id
    order by link.work_item_id);
  if cardinality(v_ids) = 0 then
    v_ids := array_remove(array[logic.work_of_branch(v_project_id, logic.handler_key(p_event.payload, 'head_branch'),
      logic.handler_time(p_event))], null);
  end if;
  perform logic.link_pr(v_link || jsonb_build_object('work_item_id', id), logic.handler_evidence(p_event),
    logic.handler_time(p_event), logic.handler_context(p_event))
  from unnest(v_ids) as id;
  if cardinality(v_ids) = 0 then
    perform logic.handler_pass(p_event);
  end if;
end
$$;
comment on function logic.handle_pr is 'Links a pull request to the work of its branch, or moves the links that it has';

create or replace function logic.handle_mutation(p_event bloodbank.events) returns void
language plpgsql
as $$
declare
  v_repo jsonb := nullif(p_event.payload -> 'repo', 'null');
  v_work_item_id uuid;
  v_context json := logic.handler_context(p_event);
  v_agent_id text := coalesce(p_event.payload ->> 'agent_id', v_context ->> 'agent_id');
begin
  if not p_event.payload ? 'repo' then
    perform logic.handler_key(p_event.payload, 'repo');
  elsif v_repo is not null then
    v_work_item_id := logic.work_of_branch(logic.handler_project(p_event.payload), logic.handler_key(p_event.payload, 'repo', 'branch'),
      logic.handler_time(p_event));
  end if;
  perform logic.agent_seen(v_agent_id);
  if v_work_item_id is null then
    perform logic.handler_pass(p_event);
    return;
  end if;
  perform logic.work_git_state_update(v_work_item_id, jsonb_build_object('observed_at', logic.handler_time(p_event)), v_context);
  perform logic.activity_report(
    jsonb_build_array(jsonb_build_object(
      'id', p_event.event_id,
      'work_item_id', v_work_item_id,
      'agent_id', v_agent_id,
      'activity_type', 'file_change',
      'path', case when starts_with(p_event.payload ->> 'file_path', (v_repo ->> 'git_root') || '/')
        then substr(p_event.payload ->> 'file_path', char_length(v_repo ->> 'git_root') + 2)
        else p_event.payload ->> 'file_path' end,
      'details', jsonb_strip_nulls(jsonb_build_object(
        'tool_name', p_event.payload -> 'tool_name', 'lines_changed', p_event.payload -> 'lines_changed', 'head_sha', v_repo -> 'head_sha')),
      'occurred_at', logic.handler_time(p_event))),
    v_context);
end
$$;
comment on function logic.handle_mutation is
  'tool.mutation.* is a sign of life of its branch''s work and of its agent, and a change of one file';

-- A commit counts when the deploy carries it as a work item's last or merge commit, in its own project; nothing is guessed
-- from ancestry, because iMi has no clone.
create or replace function logic.handle_deploy(p_event bloodbank.events) returns void
language plpgsql
as $$
declare
  v_link jsonb;
  v_project_id uuid;
  v_commits text[];
  v_work record;
  v_is_known boolean := false;
begin
  if p_event.event_type <> 'ci.deploy.completed' then
    return;
  end if;
  v_link := jsonb_build_object(
    'deploy_id', logic.handler_key(p_event.payload, 'deploy_id'),
    'environment', logic.handler_key(p_event.payload, 'environment'),
    'commit_hash', logic.handler_key(p_event.payload, 'commit_hash'),
    'deployed_at', coalesce(p_event.payload ->> 'deployed_at', logic.handler_time(p_event)::text));
  v_project_id := logic.handler_project(p_event.payload);
  v_commits := array(
    select lower(hash) from (
      select v_link ->> 'commit_hash' as hash
      union
      select coalesce(commit ->> 'id', commit #>> '{}') from jsonb_array_elements(nullif(p_event.payload -> 'commits', 'null')) as commit
    ) as carried
    where char_length(hash) >= 7);
  for v_work in
    select item.id, case
      when exists (select from unnest(v_commits) as hash where logic.commits_agree(item.merge_commit_hash, hash)) then 'merge_commit'
      when exists (select from unnest(v_commits) as hash where logic.commits_agree(item.last_commit_hash, hash)) then 'last_commit'
      when exists (
        select from imi.pr_links as link
        where link.work_item_id = item.id
          and coalesce(nullif(p_event.payload -> 'pr_numbers', 'null'), '[]') @> to_jsonb(link.pr_number)) then 'pr'
    end as matched
    from imi.work_items as item
    where item.project_id = v_project_id
    order by item.id
  loop
    if v_work.matched is not null then
      v_is_known := true;
      perform logic.link_deploy(v_link || jsonb_build_object('work_item_id', v_work.id),
        logic.handler_evidence(p_event) || jsonb_build_object('matched', v_work.matched), logic.handler_context(p_event));
    end if;
  end loop;
  if not v_is_known then
    perform logic.handler_pass(p_event);
  end if;
end
$$;
comment on function logic.handle_deploy is
  'ci.deploy.completed links the work whose last or merge commit the deploy carries, or whose pull request it names';
