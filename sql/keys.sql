-- Who may call, and calls that may come twice.
--
-- A key is 32 random bytes; the table holds its SHA-256 only, and the key itself is shown once, in the answer that
-- made it. The server asks logic.key_check at most every five seconds a key. An Idempotency-Key makes a POST
-- repeatable: logic.once writes the key's row, runs the operation and stores its reply, all in one transaction, so a
-- reply is stored exactly if its effects are. Errors roll the row back with everything else; one that an operation
-- answers as data, because it has effects, is not stored either.

create or replace function logic.key_check(p_key_hash text, out key_id uuid, out name text, out scope text) returns setof record
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := logic.now();
begin
  return query
  select api_keys.id, api_keys.name, api_keys.scope
  from imi.api_keys
  where api_keys.key_hash = decode(p_key_hash, 'hex')
    and api_keys.revoked_at is null
    and coalesce(api_keys.expires_at > v_now, true);
  if found and current_setting('transaction_read_only') = 'off' then
    update imi.api_keys set last_used_at = v_now
    where api_keys.key_hash = decode(p_key_hash, 'hex') and coalesce(api_keys.last_used_at < v_now - interval '1 minute', true);
  end if;
end
$$;
comment on function logic.key_check is 'The living key with this SHA-256 (hex), or no row; notes its use once a minute';

create or replace function logic.key_document(p_key imi.api_keys) returns jsonb
language sql
stable
as $$
  select jsonb_build_object(
    'id', p_key.id, 'name', p_key.name, 'scope', p_key.scope, 'created_at', p_key.created_at,
    'last_used_at', p_key.last_used_at, 'expires_at', p_key.expires_at, 'revoked_at', p_key.revoked_at)
$$;
comment on function logic.key_document is 'A key as the API shows it: everything but the key';

-- Three random UUIDs carry 366 random bits, their SHA-256 is 32 random bytes: pgcrypto is not needed.
create or replace function api.api_key_create(p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_secret text := 'imi_' || encode(
    sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex');
  v_key imi.api_keys;
begin
  insert into imi.api_keys (name, key_hash, scope, created_at, expires_at)
  values (
    p_body ->> 'name', sha256(convert_to(v_secret, 'UTF8')), coalesce(p_body ->> 'scope', 'read'),
    logic.now(), (p_body ->> 'expires_at')::timestamptz)
  returning * into v_key;
  return logic.key_document(v_key) || jsonb_build_object('key', v_secret);
end
$$;
comment on function api.api_key_create is 'POST /api/v1/api-keys: a new key, shown this once';

create or replace function api.api_key_list(p_offset integer default null, p_limit integer default null) returns json
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
  select logic.page(
    array(
      select logic.key_document(api_keys)::json from imi.api_keys
      order by api_keys.created_at desc, api_keys.id desc
      offset coalesce(p_offset, 0) limit coalesce(p_limit, 100)),
    (select count(*) from imi.api_keys), p_offset, p_limit)
$$;
comment on function api.api_key_list is 'GET /api/v1/api-keys: every key, revoked ones too';

create or replace function api.api_key_revoke(p_api_key_id uuid, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update imi.api_keys set revoked_at = coalesce(api_keys.revoked_at, logic.now()) where api_keys.id = p_api_key_id;
  if not found then
    perform logic.fail(404, 'NOT_FOUND', 'API key not found', jsonb_build_object('api_key_id', p_api_key_id));
  end if;
  status := 204;
end
$$;
comment on function api.api_key_revoke is 'DELETE /api/v1/api-keys/{api_key_id}: the key opens nothing any more, in five seconds at most';

-- A plan of when the table was small would scan all of it at every request.
create or replace function logic.once_forget(p_now timestamptz) returns void
language plpgsql
set enable_seqscan to off
as $$
begin
  delete from imi.idempotency_keys as kept
  where kept.ctid = any (array(
    select old.ctid from imi.idempotency_keys as old
    where old.created_at < p_now - interval '7 days'
    order by old.created_at limit 10 for update skip locked));
end
$$;
comment on function logic.once_forget is 'Removes a few of the keys whose replies need not be kept any longer';

create or replace function logic.once(p_function text, p_arguments json, p_context json, out status integer, out body json)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_body_hash text := encode(sha256(convert_to(p_arguments::text, 'UTF8')), 'hex');
  v_principal text := p_context ->> 'principal';
  v_key text := p_context ->> 'idempotency_key';
  v_now timestamptz := logic.now();
  v_kept imi.idempotency_keys;
  v_call text;
begin
  -- A second caller with the same key waits here until the first has ended.
  insert into imi.idempotency_keys as kept (principal, operation, key, body_hash, created_at)
  values (v_principal, p_function, v_key, v_body_hash, v_now)
  on conflict (principal, operation, key) do update
  set body_hash = excluded.body_hash, status = null, reply = null, created_at = excluded.created_at
  where kept.created_at < v_now - interval '7 days';
  if not found then
    select * into v_kept from imi.idempotency_keys as kept
    where kept.principal = v_principal and kept.operation = p_function and kept.key = v_key;
    if v_kept.body_hash <> v_body_hash then
      perform logic.fail(409, 'CONFLICT', 'This Idempotency-Key came with another request before',
        jsonb_build_object('idempotency_key', v_key), 'Use a new key for a new request');
    end if;
    status := v_kept.status;
    body := v_kept.reply;
    return;
  end if;

  -- Only operations can be called, so this door opens nothing that its callers cannot reach themselves.
  select format('select %s from api.%I(%s) as reply',
    case when proc.proretset or proc.prorettype = 'record'::regtype then 'reply.status, reply.body' else 'null, reply' end,
    proc.proname,
    string_agg(
      format(case when argument.name = 'p_context' then '%I => $2' else '%I => ($1 ->> %L)::%s' end,
        argument.name, argument.name, argument.type::regtype), ', '))
  into v_call
  from pg_proc as proc
  cross join unnest(proc.proargtypes::oid[], proc.proargnames[1:proc.pronargs]) as argument (type, name)
  where proc.oid = to_regproc(p_function)
    and proc.pronamespace = 'api'::regnamespace
    and proc.provolatile = 'v'
  group by proc.oid;
  execute v_call into status, body using p_arguments, p_context;

  if status >= 400 then
    delete from imi.idempotency_keys as kept
    where kept.principal = v_principal and kept.operation = p_function and kept.key = v_key;
  else
    update imi.idempotency_keys as kept set status = once.status, reply = once.body
    where kept.principal = v_principal and kept.operation = p_function and kept.key = v_key;
  end if;
  perform logic.once_forget(v_now);
end
$$;
comment on function logic.once is 'Runs an operation once for its Idempotency-Key and answers the stored reply from then on';
