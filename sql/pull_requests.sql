-- Pull requests: which of them a work item became, and how each stands.
--
-- A link is known by its work item and the PR's URL; a number is not unique over projects. open becomes merged or closed,
-- closed becomes open again, merged is final. People and events come through the same functions. A person who asks for
-- another step gets 409. An event, told by p_observed_at, is news: it may skip a step that we never saw, but what is
-- older than the state we have, or would undo a merge, is passed over; a merge, which is final, never is. For that the evidence holds, beside how the link
-- came to be, how and when its present state did. A PR first seen merged or closed was also created, so it makes two
-- events. A merge completes the work item; one that was abandoned or superseded before stays so, and the merge stands
-- on the link alone. The work item is locked before the link (prelude.sql).

create or replace function logic.link_pr(
  p_body jsonb, p_evidence jsonb, p_observed_at timestamptz, p_context json, out link_id uuid, out is_new boolean
)
language plpgsql
as $$
declare
  v_work_item_id uuid := p_body ->> 'work_item_id';
  v_url text := p_body ->> 'pr_url';
  v_state text := coalesce(p_body ->> 'pr_state', 'open');
  v_now timestamptz := logic.now();
begin
  perform logic.link_url_check(v_url);
  if not exists (select from imi.pr_links as link where link.work_item_id = v_work_item_id and link.pr_url = v_url) then
    perform logic.link_lock(v_work_item_id);
    insert into imi.pr_links as link (
      work_item_id, pr_number, pr_url, pr_state, pr_title, evidence, metadata, created_at, updated_at)
    values (
      v_work_item_id, (p_body ->> 'pr_number')::integer, v_url, v_state, p_body ->> 'pr_title',
      p_evidence || jsonb_build_object('at', coalesce(p_observed_at, v_now)), coalesce(p_body -> 'metadata', '{}'), v_now, v_now)
    on conflict (work_item_id, pr_url) do nothing
    returning link.id into link_id;
  end if;
  is_new := link_id is not null;
  if is_new then
    perform logic.event_append('imi.pr.created', logic.pr_link_document(link_id), p_context);
    if v_state <> 'open' then
      perform logic.event_append('imi.pr.' || v_state, logic.pr_link_document(link_id), p_context);
    end if;
    if v_state = 'merged' then
      perform logic.pr_complete_work(link_id, p_body, p_evidence, p_context);
    end if;
  else
    select link.id into link_id from imi.pr_links as link where link.work_item_id = v_work_item_id and link.pr_url = v_url;
    perform logic.pr_change(link_id, p_body, p_evidence, p_observed_at, p_context);
  end if;
end
$$;
comment on function logic.link_pr is 'Links a work item to a pull request, or changes what is given about it; p_observed_at: the time of the event that says so, null for a person';

create or replace function logic.pr_change(
  p_link_id uuid, p_changes jsonb, p_evidence jsonb, p_observed_at timestamptz, p_context json
) returns void
language plpgsql
as $$
declare
  v_given jsonb := logic.pick(p_changes, 'pr_number', 'pr_state', 'pr_title', 'metadata');
  v_old imi.pr_links;
  v_new imi.pr_links;
  v_now timestamptz;
begin
  select * into v_old from imi.pr_links as link where link.id = p_link_id;
  if v_old is distinct from jsonb_populate_record(v_old, v_given) then
    perform logic.link_lock(v_old.work_item_id);
    select * into v_old from imi.pr_links as link where link.id = p_link_id for no key update;
  end if;
  v_new := jsonb_populate_record(v_old, v_given);
  v_now := logic.now();

  if p_observed_at < coalesce(v_old.evidence #>> '{state,at}', v_old.evidence ->> 'at')::timestamptz
    or p_observed_at is not null and v_old.pr_state = 'merged' and v_new.pr_state <> 'merged'
  then
    v_new := v_old;
    if v_given ->> 'pr_state' = 'merged' then
      v_new.pr_state := 'merged';
    end if;
  elsif p_observed_at is null and v_new.pr_state <> v_old.pr_state
    and (v_old.pr_state, v_new.pr_state) not in (('open', 'merged'), ('open', 'closed'), ('closed', 'open'))
  then
    perform logic.fail(409, 'CONFLICT', format('A pull request that is %s cannot become %s', v_old.pr_state, v_new.pr_state),
      jsonb_build_object('pr_link_id', p_link_id, 'pr_state', v_old.pr_state),
      case v_old.pr_state when 'merged' then 'A merge is final; link the next pull request by its own URL' else 'Reopen it first' end);
  end if;

  if v_new is distinct from v_old then
    if v_new.pr_state <> v_old.pr_state then
      v_new.evidence := v_old.evidence || jsonb_build_object(
        'state', p_evidence || jsonb_build_object('at', coalesce(p_observed_at, v_now)));
    end if;
    update imi.pr_links as link
    set pr_number = v_new.pr_number, pr_state = v_new.pr_state, pr_title = v_new.pr_title, metadata = v_new.metadata,
      evidence = v_new.evidence, updated_at = v_now
    where link.id = p_link_id;
    perform logic.event_append(
      'imi.pr.' || case v_new.pr_state when v_old.pr_state then 'updated' when 'open' then 'reopened' else v_new.pr_state end,
      logic.pr_link_document(p_link_id), p_context);
  end if;
  if v_new.pr_state = 'merged' and (v_old.pr_state <> 'merged' or v_given ->> 'pr_state' = 'merged') then
    perform logic.pr_complete_work(p_link_id, p_changes, p_evidence, p_context);
  end if;
end
$$;
comment on function logic.pr_change is 'Changes what is given about a pull request; it takes legal steps only, and late news not at all';

-- A merge that is said again fills in what the completion did not know; what it knows stands.
create or replace function logic.pr_complete_work(p_link_id uuid, p_changes jsonb, p_evidence jsonb, p_context json) returns void
language plpgsql
as $$
declare
  v_link imi.pr_links;
  v_item imi.work_items;
begin
  select * into v_link from imi.pr_links as link where link.id = p_link_id;
  v_item := logic.work_lock(v_link.work_item_id);
  if coalesce(v_item.completion_type, 'merged') = 'merged' then
    perform logic.work_complete(
      v_item.id,
      jsonb_build_object(
        'completion_type', 'merged',
        'merge_commit_hash', coalesce(v_item.merge_commit_hash, p_changes ->> 'merge_commit_hash'),
        'merged_by', coalesce(v_item.merged_by, p_changes ->> 'merged_by'),
        'evidence', p_evidence || jsonb_build_object('rule', 'pr_merged', 'pr_link_id', v_link.id, 'pr_url', v_link.pr_url)),
      p_context);
  end if;
end
$$;
comment on function logic.pr_complete_work is 'Completes the work item of a merged pull request, unless it ended otherwise before';

create or replace function api.link_pr(p_body json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_linked record := logic.link_pr(p_body::jsonb, logic.link_evidence(p_context), null, p_context);
begin
  status := case when v_linked.is_new then 201 else 200 end;
  body := logic.pr_link_document(v_linked.link_id);
end
$$;
comment on function api.link_pr is 'POST /api/v1/links/pr: a work item became a pull request; a merged one completes it';

create or replace function api.link_pr_update(p_pr_link_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from imi.pr_links as link where link.id = p_pr_link_id) then
    perform logic.fail(404, 'NOT_FOUND', 'Link to a pull request not found', jsonb_build_object('pr_link_id', p_pr_link_id));
  end if;
  perform logic.pr_change(p_pr_link_id, p_body::jsonb, logic.link_evidence(p_context), null, p_context);
  return logic.pr_link_document(p_pr_link_id);
end
$$;
comment on function api.link_pr_update is 'PATCH /api/v1/links/pr/{pr_link_id}: its state, title and metadata; what is given replaces, null clears';
