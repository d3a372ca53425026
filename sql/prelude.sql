-- What every other file leans on: schemas, the clock, errors, pages of lists, partial updates, UUIDs and the topic matcher.
--
-- Behaviour lives in four schemas. logic holds the rules; api one function an HTTP operation; analytics views for
-- people who write SQL; ops what an operator calls in psql. The tables are in imi and bloodbank, made by migrations.
-- An error is raised by logic.fail and nowhere else: SQLSTATE IM + the HTTP status, a message for people, a code and
-- its parameters as JSON in DETAIL, and a hint that says what to do.
-- Rows are locked in this order, so that no two transactions wait for each other: idempotency key, dead letter,
-- subscription, project, work item (by id), claim, worktree, link, component, workflow (by id), session (by id). An
-- agent's row, once it is there, is waited for by nobody (agents.sql). Handlers of the bus take work items in the order
-- of their events, one batch at a time.

create schema if not exists logic;
create schema if not exists api;
create schema if not exists analytics;
create schema if not exists ops;
comment on schema logic is 'Internal functions: the rules of iMi';
comment on schema api is 'One function an HTTP operation; imi/openapi.yaml names each';
comment on schema analytics is 'Views for people who write SQL';
comment on schema ops is 'Functions and views for an operator in psql';

-- Stable in name only: within a transaction it moves on, so that a lease is judged at the moment its row is held.
create or replace function logic.now() returns timestamptz
language sql
stable
as $$
  select coalesce(nullif(current_setting('imi.now', true), '')::timestamptz, clock_timestamp())
$$;
comment on function logic.now() is 'The current time; the setting imi.now moves it in tests';

create or replace function logic.fail(
  p_status integer,
  p_code text,
  p_message text,
  p_params jsonb default '{}',
  p_hint text default ''
) returns void
language plpgsql
as $$
begin
  raise exception using
    errcode = 'IM' || p_status,
    message = p_message,
    detail = jsonb_build_object('code', p_code, 'params', p_params)::text,
    hint = p_hint;
end
$$;
comment on function logic.fail is 'Raises SQLSTATE IM<status>; DETAIL is {"code", "params"}';

create or replace function logic.is_transient(p_sqlstate text) returns boolean
language sql
immutable
as $$
  select p_sqlstate ~ '^(40|53|55P03)'
$$;
comment on function logic.is_transient is 'Whether an error says nothing of what was asked: a conflict of transactions, a lack of resources, a lock''s timeout';

-- For reads that travel in batches: there a missing row is an answer, an exception would spoil its neighbours.
create or replace function logic.not_found(p_what text, p_param text, p_id text, p_hint text default null) returns json
language sql
immutable
as $$
  select json_build_object('detail', json_strip_nulls(json_build_object(
    'code', 'NOT_FOUND', 'message', p_what || ' not found', 'params', json_build_object(p_param, p_id), 'hint', p_hint)))
$$;
comment on function logic.not_found is 'The error document of a 404, as data';

-- The usual page is sized in one look and passed on; only one over the limit is measured document by document.
create or replace function logic.page(p_documents json[], p_total bigint, p_offset integer, p_limit integer) returns json
language sql
stable
as $$
  select json_build_object(
    'items', case when pg_column_size(p_documents) <= 32 << 20 then array_to_json(p_documents) else (
      select json_agg(sized.document order by sized.n) filter (where sized.size <= 32 << 20 or sized.n = 1)
      from (
        select given.document, given.n, sum(octet_length(given.document::text)) over (order by given.n) as size
        from unnest(p_documents) with ordinality as given (document, n)
      ) as sized
    ) end,
    'total', p_total,
    'offset', coalesce(p_offset, 0),
    'limit', coalesce(p_limit, 100))
$$;
comment on function logic.page is 'A page of a list as the API shows it; it ends early at 32 MiB';

create or replace function logic.pick(p_object jsonb, variadic p_keys text[]) returns jsonb
language sql
immutable
as $$
  select coalesce(jsonb_object_agg(each.key, each.value), '{}')
  from jsonb_each(p_object) as each
  where each.key = any (p_keys)
$$;
comment on function logic.pick is 'The object with these keys only: what a PATCH may touch';

create or replace function logic.contains_pattern(p_text text) returns text
language sql
immutable
as $$
  select '%' || regexp_replace(p_text, '([\\%_])', '\\\1', 'g') || '%'
$$;
comment on function logic.contains_pattern is 'The pattern of LIKE for what holds this text; its wildcards are literal';

create or replace function logic.commits_agree(p_one text, p_other text) returns boolean
language sql
immutable
as $$
  select starts_with(p_one, p_other) or starts_with(p_other, p_one)
$$;
comment on function logic.commits_agree is 'Whether two commit hashes, either of which may be abbreviated, are of one commit';

create or replace function logic.correlation_ids(p_context json) returns uuid[]
language sql
immutable
as $$
  select array(select id::uuid from json_array_elements_text(coalesce(p_context -> 'correlation_ids', '[]')) as id)
$$;
comment on function logic.correlation_ids is 'The events that caused the request';

create or replace function logic.is_uuid(p_text text) returns boolean
language sql
stable
as $$
  select p_text like '________-____-____-____-____________' and pg_input_is_valid(p_text, 'uuid')
$$;
comment on function logic.is_uuid is 'Whether a text is a UUID in its usual form, of 36 characters';

create or replace function logic.uuid_of(p_text text) returns uuid
language sql
stable
as $$
  select case when logic.is_uuid(p_text) then p_text::uuid end
$$;
comment on function logic.uuid_of is 'The UUID that a text is; null if it is none';

-- Every word gets its dot in front, so that "#", zero or more words, needs no special case at either end. The regular
-- expression has no back references and nothing captured: PostgreSQL runs it as a DFA, in linear time.
create or replace function logic.topic_regex(p_pattern text) returns text
language plpgsql
immutable
strict
as $$
begin
  if p_pattern !~ '^([A-Za-z0-9_-]+|[*#])(\.([A-Za-z0-9_-]+|[*#]))*$' or octet_length(p_pattern) > 255 then
    perform logic.fail(400, 'INVALID_PATTERN', 'Not a pattern of event types', jsonb_build_object('pattern', p_pattern),
      'Join words of letters, digits, _ and - by dots; * is one word, # is zero or more');
  end if;
  return '^' || (
    select string_agg(
      case word when '*' then '\.[^.]+' when '#' then '(?:\.[^.]+)*' else '\.' || word end, '' order by n)
    from string_to_table(p_pattern, '.') with ordinality as words (word, n)
    -- "#.#" is "#": without this, a pattern of a hundred of them would cost states for nothing
    where word <> '#' or n = 1 or split_part(p_pattern, '.', n::integer - 1) <> '#') || '$';
end
$$;
comment on function logic.topic_regex is 'The regular expression that an AMQP topic pattern means, over "." || topic';

create or replace function logic.topic_matches(p_pattern text, p_topic text) returns boolean
language sql
immutable
strict
as $$
  select ('.' || p_topic) ~ logic.topic_regex(p_pattern)
$$;
comment on function logic.topic_matches is 'AMQP topic matching: * is one word, # zero or more';
