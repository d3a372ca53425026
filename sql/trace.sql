-- Trace: where something came from, and where it went.
--
-- Any node names work items: a ticket or a deploy by its links, a PR by its number or URL, a branch by its name, a commit
-- because it is the last one or the merge of a work item or was deployed. The chain is those work items with all their
-- links, newest first, each row once; a ticket that two of them serve is two links. Transitively the walk goes on to
-- work items that share a ticket or a PR with one already found, breadth first, each visited once, so cycles end. It
-- never goes on through deploys or commits: those bundle what has nothing else in common. A project narrows every step.
-- A commit may be abbreviated to 7 digits or more; hashes of which one begins the other are one commit, and a prefix
-- of two commits is refused. What nobody has linked has an empty chain. A chain ends at 1,000 work items and at 8 MiB
-- a list; only then the answer says "truncated".

create or replace function logic.trace_refuse(p_entity_type text, p_entity_id text, p_message text, p_hint text) returns void
language plpgsql
as $$
begin
  perform logic.fail(400, 'INVALID_ENTITY_ID', p_message,
    jsonb_build_object('entity_type', p_entity_type, 'entity_id', p_entity_id), p_hint);
end
$$;
comment on function logic.trace_refuse is 'Raises 400: this is no name of that kind of thing';

-- Hex digits end with f, so whatever begins with the prefix is below the prefix and a g; collation "C" sorts by bytes.
create or replace function logic.trace_commit(p_prefix text, p_project_id uuid) returns uuid[]
language plpgsql
stable
as $$
declare
  v_from text := lower(p_prefix);
  v_to text := lower(p_prefix) || 'g';
  v_items uuid[];
  v_hashes text[];
begin
  select array_agg(distinct named.id), array_agg(distinct named.hash order by named.hash)
  into v_items, v_hashes
  from (
    select item.id, item.project_id, item.last_commit_hash as hash
    from imi.work_items as item
    where item.last_commit_hash >= v_from and item.last_commit_hash < v_to
    union all
    select item.id, item.project_id, item.merge_commit_hash
    from imi.work_items as item
    where item.merge_commit_hash >= v_from and item.merge_commit_hash < v_to
    union all
    select
      link.work_item_id, (select item.project_id from imi.work_items as item where item.id = link.work_item_id), link.commit_hash
    from imi.deploy_links as link
    where link.commit_hash >= v_from and link.commit_hash < v_to
  ) as named
  where p_project_id is null or named.project_id = p_project_id;
  -- in this order each begins the next, if they are all one commit
  if exists (
    select from generate_subscripts(v_hashes, 1) as n
    where n > 1 and not starts_with(v_hashes[n], v_hashes[n - 1]))
  then
    perform logic.trace_refuse('commit', p_prefix, 'More than one commit begins like this',
      'Give more of its digits; for instance ' || v_hashes[1] || ' or ' || v_hashes[cardinality(v_hashes)]);
  end if;
  return v_items;
end
$$;
comment on function logic.trace_commit is 'Work items that a commit belongs to, by its hash or a unique prefix';

create or replace function logic.trace_named(p_entity_type text, p_entity_id text, p_project_id uuid) returns uuid[]
language plpgsql
stable
as $$
begin
  case p_entity_type
    when 'ticket' then
      return array(select link.work_item_id from imi.ticket_links as link where link.plane_ticket_id = p_entity_id);
    when 'branch' then
      return array(select item.id from imi.work_items as item where item.branch_name = p_entity_id);
    when 'deploy' then
      return array(select link.work_item_id from imi.deploy_links as link where link.deploy_id = p_entity_id);
    when 'work_item' then
      if not pg_input_is_valid(p_entity_id, 'uuid') then
        perform logic.trace_refuse(p_entity_type, p_entity_id, 'A work item is named by its UUID', 'Look it up with GET /api/v1/work');
      end if;
      return array[p_entity_id::uuid];
    when 'pr' then
      if p_entity_id ~ '^https?://' then
        return array(select link.work_item_id from imi.pr_links as link where link.pr_url = p_entity_id);
      elsif p_entity_id !~ '^[1-9][0-9]{0,9}$' or not pg_input_is_valid(p_entity_id, 'integer') then
        perform logic.trace_refuse(p_entity_type, p_entity_id, 'A pull request is named by its number or its URL', 'For instance 42');
      end if;
      return array(select link.work_item_id from imi.pr_links as link where link.pr_number = p_entity_id::integer);
    when 'commit' then
      if p_entity_id !~ '^[0-9A-Fa-f]{7,64}$' then
        perform logic.trace_refuse(p_entity_type, p_entity_id, 'A commit is named by 7 hex digits or more', 'See git log');
      end if;
      return logic.trace_commit(p_entity_id, p_project_id);
    else
      perform logic.fail(400, 'INVALID_ENTITY_TYPE', 'Nothing of this type can be traced', jsonb_build_object('entity_type', p_entity_type),
        'Use ticket, work_item, branch, pr, deploy or commit');
  end case;
end
$$;
comment on function logic.trace_named is 'Ids of the work items that an entity names, of whatever project but for a commit; 400 for what cannot be its name';

-- The tickets and PRs are collected first, so that a ticket of many work items is read once a level, not once for each.
create or replace function logic.trace_walk(p_items uuid[], p_project_id uuid, p_limit integer) returns uuid[]
language plpgsql
stable
as $$
declare
  v_items uuid[] := p_items;
  v_next uuid[] := p_items;
begin
  while cardinality(v_next) > 0 and cardinality(v_items) < p_limit loop
    v_next := array(
      select item.id
      from (
        select link.work_item_id from imi.ticket_links as link
        where link.plane_ticket_id in (
          select mine.plane_ticket_id from imi.ticket_links as mine where mine.work_item_id = any (v_next))
        union
        select link.work_item_id from imi.pr_links as link
        where link.pr_url in (select mine.pr_url from imi.pr_links as mine where mine.work_item_id = any (v_next))
        except
        select unnest(v_items)
      ) as reached (id)
      join imi.work_items as item using (id)
      where p_project_id is null or item.project_id = p_project_id
      limit p_limit - cardinality(v_items));
    v_items := v_items || v_next;
  end loop;
  return v_items;
end
$$;
comment on function logic.trace_walk is 'These work items and all that are joined to them by tickets and PRs, through any number of steps';

create or replace function logic.trace_list(p_documents json[], out items json, out is_cut boolean)
language sql
immutable
as $$
  select
    coalesce(json_agg(sized.document order by sized.n) filter (where sized.size <= 8 << 20), '[]'),
    coalesce(bool_or(sized.size > 8 << 20), false)
  from (
    select given.document, given.n, sum(octet_length(given.document::text)) over (order by given.n) as size
    from unnest(p_documents) with ordinality as given (document, n)
  ) as sized
$$;
comment on function logic.trace_list is 'The documents as a list of at most 8 MiB';

-- Planning costs more than the reading, and no plan is better for one name than for another.
create or replace function api.trace_get(
  p_entity_type text,
  p_entity_id text default null,
  p_id text default null,
  p_project_id uuid default null,
  p_transitive boolean default null
) returns json
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
  c_limit constant integer := 1000;
  v_name text := coalesce(p_entity_id, p_id);
  v_items uuid[];
  v_is_cut boolean;
begin
  if num_nonnulls(p_entity_id, p_id) <> 1 then
    perform logic.fail(400, 'VALIDATION_ERROR', 'One name is needed, in the path or as ?id=',
      '{"errors": [{"path": "id", "message": "stands for the entity''s id in the path"}]}', 'Give one of the two');
  end if;
  v_items := logic.trace_named(p_entity_type, v_name, p_project_id);
  v_items := array(
    select item.id from imi.work_items as item
    where item.id = any (v_items) and (p_project_id is null or item.project_id = p_project_id)
    order by item.created_at desc, item.id desc
    limit c_limit + 1);
  if p_transitive then
    v_items := logic.trace_walk(v_items, p_project_id, c_limit + 1);
  end if;
  v_is_cut := cardinality(v_items) > c_limit;
  v_items := v_items[:c_limit];
  return (
    select json_object(
      'entity': json_build_object('type', p_entity_type, 'id', v_name),
      'chain': json_build_object('tickets', tickets.items, 'work_items', items.items, 'prs', prs.items, 'deploys', deploys.items),
      'truncated': nullif(v_is_cut or tickets.is_cut or items.is_cut or prs.is_cut or deploys.is_cut, false)
      absent on null)
    from
      logic.trace_list(array(
        select row_to_json(document) from logic.ticket_link_documents as document
        where document.work_item_id = any (v_items) order by document.created_at desc, document.id desc)) as tickets,
      logic.trace_list(array(
        select row_to_json(document) from logic.work_documents as document
        where document.id = any (v_items) order by document.created_at desc, document.id desc)) as items,
      logic.trace_list(array(
        select row_to_json(document) from logic.pr_link_documents as document
        where document.work_item_id = any (v_items) order by document.created_at desc, document.id desc)) as prs,
      logic.trace_list(array(
        select row_to_json(document) from logic.deploy_link_documents as document
        where document.work_item_id = any (v_items) order by document.created_at desc, document.id desc)) as deploys);
end
$$;
comment on function api.trace_get is 'GET /api/v1/trace/{entity_type}/{entity_id}, or ?id=: the work items that an entity names, with all their tickets, PRs and deploys';
