-- Causation: what followed from an event, and what led to it.
--
-- The causes form a graph, not a tree: an event may have several, bad data has loops, and an effect may be there before
-- its cause. So the walk goes breadth first, every event once, at its least depth. Only events of the log count: a cause
-- that has not arrived is left out. (bloodbank.causes may name a cause that is not here; the effect always is.) What is
-- shown is numbered by depth, then time, then id. An answer that must end early, at 100,000 events, 32 MiB or the depth
-- that was asked for, keeps the nearest: so whatever is shown, something that leads to it is shown too.

-- UNION drops a row that equals an earlier one: with the ids alone that is a breadth-first walk. The depth must not make a
-- row differ, so it travels as the scale of a zero: 0.0 equals 0.00.
create or replace function logic.event_walk(p_event_id uuid, p_forward boolean, p_depth integer, p_limit integer)
returns table (event_id uuid, depth integer)
language sql
stable
rows 1000
as $$
  with recursive walk (event_id, depth) as (
    select p_event_id, round(0.0, 0)
    union
    select next.event_id, round(0.0, scale(walk.depth) + 1)
    from walk
    cross join lateral (
      select causes.effect from bloodbank.causes where p_forward and causes.cause = walk.event_id
      union all
      select causes.cause from bloodbank.causes where not p_forward and causes.effect = walk.event_id
        and exists (select from bloodbank.events where events.event_id = causes.cause)
    ) as next (event_id)
    where scale(walk.depth) < p_depth
  )
  select walk.event_id, scale(walk.depth) from walk limit p_limit
$$;
comment on function logic.event_walk is 'Every id within reach, once, with its least depth, nearest first: forward to effects, else to causes';

-- Ids in their own order are found in the index in two thirds of the time.
create or replace function logic.event_nodes(p_event_id uuid, p_forward boolean, p_max_depth integer)
returns table (n integer, event_id uuid, place tid, depth integer, event_type text, "timestamp" timestamptz, causes uuid[], truncated boolean)
language sql
stable
rows 1000
as $$
  with met as materialized (
    select * from logic.event_walk(p_event_id, p_forward, p_max_depth + 1, 100001) order by event_id
  )
  select row_number() over (order by met.depth, events."timestamp", events.event_id), events.event_id, events.ctid,
    met.depth, events.event_type, events."timestamp", events.correlation_ids,
    (select count(*) > 100000 or max(depth) > p_max_depth from met)
  from met
  join bloodbank.events on events.event_id = met.event_id
  where met.depth <= p_max_depth
  order by 1
  limit 100000
$$;
comment on function logic.event_nodes is 'The events within reach, numbered as they are shown; truncated says that the depth or their number cut it';

-- A hundred at a time: what will not be shown, however large it is, is not read. By their places, which one snapshot does
-- not move: to look the ids up once more costs a sixth of the whole.
create or replace function logic.event_envelopes(p_places tid[]) returns text[]
language plpgsql
stable
as $$
declare
  v_envelopes text[] := '{}';
  v_envelope text;
  v_size bigint := 0;
begin
  for v_from in 1 .. cardinality(p_places) by 100 loop
    for v_envelope in
      select logic.event_envelope(events)
      from unnest(p_places[v_from : v_from + 99]) with ordinality as wanted (place, n)
      join bloodbank.events on events.ctid = wanted.place
      order by wanted.n
    loop
      v_size := v_size + octet_length(v_envelope) + 40;
      if v_size > 32 << 20 then
        return v_envelopes;
      end if;
      v_envelopes := v_envelopes || v_envelope;
    end loop;
  end loop;
  return v_envelopes;
end
$$;
comment on function logic.event_envelopes is 'The first of the events at these places as the API shows them, up to 32 MiB with 40 bytes around each';

create or replace function logic.causation_flat(p_event_id uuid, p_forward boolean, p_max_depth integer) returns text
language plpgsql
stable
as $$
declare
  v_places tid[];
  v_depths integer[];
  v_truncated boolean;
  v_envelopes text[];
begin
  select array_agg(node.place order by node.n), array_agg(node.depth order by node.n), bool_or(node.truncated)
  into v_places, v_depths, v_truncated
  from logic.event_nodes(p_event_id, p_forward, p_max_depth) as node;
  v_envelopes := logic.event_envelopes(v_places);
  return (
    select format('{"items":[%s],"truncated":%s}',
      string_agg(format('{"event":%s,"depth":%s}', item.envelope, item.depth), ',' order by item.n),
      (v_truncated or cardinality(v_envelopes) < cardinality(v_places))::text)
    from unnest(v_envelopes, v_depths) with ordinality as item (envelope, depth, n)
    where item.envelope is not null);
end
$$;
comment on function logic.causation_flat is 'The events within reach as {items: [{event, depth}], truncated}';

-- An event's path is its parent's and its own number, so that paths sort as the tree is written: each event closes as many
-- brackets as the next one lies higher.
create or replace function logic.causation_tree(p_event_id uuid, p_forward boolean, p_max_depth integer) returns text
language plpgsql
stable
as $$
declare
  v_places tid[];
  v_depths integer[];
  v_parents integer[];
  v_truncated boolean;
  v_envelopes text[];
  v_paths bytea[] := array[''::bytea];
begin
  with nodes as materialized (
    select * from logic.event_nodes(p_event_id, p_forward, p_max_depth)
  ), edges as (
    select cause.n as cause, effect.n as effect
    from (select n, unnest(causes) as cause from nodes) as effect
    join nodes as cause on cause.event_id = effect.cause
  ), hung as (
    select case when p_forward then effect else cause end as n, min(case when p_forward then cause else effect end) as parent
    from edges
    group by 1
  )
  select array_agg(nodes.place order by n), array_agg(nodes.depth order by n), array_agg(hung.parent order by n),
    bool_or(nodes.truncated)
  into v_places, v_depths, v_parents, v_truncated
  from nodes
  left join hung using (n);
  v_envelopes := logic.event_envelopes(v_places);
  for v_n in 2 .. cardinality(v_envelopes) loop
    v_paths[v_n] := v_paths[v_parents[v_n]] || int4send(v_n);
  end loop;
  return (
    select string_agg(
      '{"event":' || v_envelopes[line.n] || (
        format(',"depth":%s,%s"children":[', line.depth,
          case when line.n = 1 then format('"truncated":%s,', (v_truncated or cardinality(v_envelopes) < cardinality(v_places))::text) end)
        || repeat(']}', line.depth + 1 - coalesce(line.next, 0)) || case when line.next <= line.depth then ',' else '' end),
      '' order by line.path)
    from (
      select paths.n, paths.path, v_depths[paths.n] as depth, lead(v_depths[paths.n]) over (order by paths.path) as next
      from unnest(v_paths) with ordinality as paths (path, n)
    ) as line);
end
$$;
comment on function logic.causation_tree is 'The events within reach as {event, depth, children}, each under the first of those that lead to it; truncated at the root';

-- What stands in the picture's labels is the event's type, time and id, and no character of them means anything to Mermaid.
-- It goes from left to right, for an event has more effects than a page is wide.
create or replace function logic.causation_graph(
  p_event_id uuid, p_forward boolean, p_max_depth integer, p_mermaid boolean
) returns text
language sql
stable
as $$
  with nodes as materialized (
    select * from logic.event_nodes(p_event_id, p_forward, p_max_depth)
  ), edges as (
    select cause.n as cause_n, cause.event_id as cause, effect.n as effect_n, effect.event_id as effect
    from nodes as effect
    cross join lateral (select distinct unnest(effect.causes)) as named (event_id)
    join nodes as cause on cause.event_id = named.event_id
  ), lines as (
    select false as is_edge, n, 0 as other, case
      when p_mermaid then format(
        '  n%s["%s<br/>%s<br/>%s"]', n, event_type, to_char("timestamp" at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SSZ'), event_id)
      else json_build_object('event_id', event_id, 'event_type', event_type, 'timestamp', "timestamp", 'depth', depth)::text end as line
    from nodes
    union all
    select true, effect_n, cause_n, case
      when p_mermaid then format('  n%s --> n%s', cause_n, effect_n)
      else json_build_object('source', cause, 'target', effect)::text end
    from edges
  ), sized as (
    select is_edge, n, other, line, sum(octet_length(line) + 1) over (order by is_edge, n, other) <= (32 << 20) - 100 as fits
    from lines -- what stands around them has less than 100 bytes
  ), written as (
    select
      string_agg(line, case when p_mermaid then E'\n' else ',' end order by n) filter (where fits and not is_edge) as nodes,
      string_agg(line, case when p_mermaid then E'\n' else ',' end order by n, other) filter (where fits and is_edge) as edges,
      not bool_and(fits) or (select bool_or(nodes.truncated) from nodes) as truncated
    from sized
  )
  select case
    when p_mermaid then concat_ws(E'\n',
      'flowchart LR', nodes, edges, case when truncated then E'  more["… more"]\n  %% truncated' end) || E'\n'
    else format('{"nodes":[%s],"edges":[%s],"truncated":%s}', nodes, edges, truncated::text) end
  from written
$$;
comment on function logic.causation_graph is 'The events within reach and all edges between them, as {nodes, edges, truncated} or as a Mermaid flowchart';

-- One query, to be inlined: on its way through PL/pgSQL an answer of megabytes would be copied three times more.
create or replace function logic.causation_answer(p_event_id uuid, p_forward boolean, p_format text, p_max_depth integer)
returns table (status integer, body text, headers json)
language sql
stable
as $$
  select
    case when event.known then 200 else 404 end,
    case
      when not event.known then logic.event_not_found(p_event_id)::text
      when p_format = 'flat' then logic.causation_flat(p_event_id, p_forward, event.max_depth)
      when p_format = 'graph' then logic.causation_graph(p_event_id, p_forward, event.max_depth, false)
      when p_format = 'mermaid' then logic.causation_graph(p_event_id, p_forward, event.max_depth, true)
      else logic.causation_tree(p_event_id, p_forward, event.max_depth)
    end,
    case when event.known and p_format = 'mermaid' then json '{"Content-Type": "text/plain; charset=utf-8"}' end
  from (
    select exists (select from bloodbank.events where events.event_id = p_event_id), coalesce(p_max_depth, 100)
  ) as event (known, max_depth)
$$;
comment on function logic.causation_answer is 'What is within reach of an event, in one of four formats';

-- The walk takes an index lookup for each event, whatever the statistics say: where most events have one cause in common,
-- the planner takes a lookup for a read of all edges, and would read them all each time. One plan serves every event.
create or replace function api.event_descendants(
  p_event_id uuid,
  p_format text default null,
  p_max_depth integer default null,
  out status integer,
  out body text,
  out headers json
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
  select * from logic.causation_answer(p_event_id, true, p_format, p_max_depth)
$$;
comment on function api.event_descendants is 'GET /api/v1/events/{event_id}/descendants: what followed from it';

create or replace function api.event_ancestors(
  p_event_id uuid,
  p_format text default null,
  p_max_depth integer default null,
  out status integer,
  out body text,
  out headers json
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
  select * from logic.causation_answer(p_event_id, false, p_format, p_max_depth)
$$;
comment on function api.event_ancestors is 'GET /api/v1/events/{event_id}/ancestors: what led to it';
