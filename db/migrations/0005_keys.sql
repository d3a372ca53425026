-- migrate:up
create table imi.api_keys (
  id uuid default uuidv7() constraint api_keys_pkey primary key,
  name text not null constraint key_name_is_not_empty check (name <> ''),
  key_hash bytea not null constraint one_row_per_key unique constraint key_hash_is_sha256 check (octet_length(key_hash) = 32),
  scope text not null constraint scope_is_known check (scope in ('read', 'write', 'admin')),
  created_at timestamptz not null default now(),
  last_used_at timestamptz,
  expires_at timestamptz,
  revoked_at timestamptz
);
comment on table imi.api_keys is 'Keys of the HTTP API; only their SHA-256 is kept';

create table imi.idempotency_keys (
  principal text collate "C" not null,
  operation text collate "C" not null,
  key text collate "C" not null,
  body_hash text collate "C" not null,
  status integer,
  reply json,
  created_at timestamptz not null default now(),
  constraint idempotency_keys_pkey primary key (principal, operation, key)
);
comment on table imi.idempotency_keys is 'Replies to requests that carried an Idempotency-Key, kept for 7 days';

create index idempotency_keys_by_age on imi.idempotency_keys (created_at);

-- migrate:down
drop table imi.idempotency_keys;
drop table imi.api_keys;
