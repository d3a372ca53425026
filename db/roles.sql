-- Roles belong to the cluster and are shared by its databases: made where they are missing and never dropped, so they
-- are no migration. Run by the migrate step as the login of IMI_DATABASE_URL, which needs CREATEROLE, and CREATE on the
-- database. The logins of this one database, with their passwords, are made by imi/database/roles.py.
do $$
declare
  v_role text;
begin
  foreach v_role in array array[
    'imi_owner', 'imi_api', 'imi_reader', 'imi_worker', 'imi_analyst', 'imi_operator', 'imi_subscriber'
  ] loop
    if to_regrole(v_role) is null then
      execute format('create role %I nologin', v_role);
    end if;
  end loop;
  if not pg_has_role(current_user, 'imi_owner', 'set') then
    execute format('grant imi_owner to %I with inherit true, set true', current_user);
  end if;
  if not (has_database_privilege('imi_owner', current_database(), 'create')
      and has_database_privilege('imi_owner', current_database(), 'temporary')) then
    execute format('grant create, temporary on database %I to imi_owner', current_database());
  end if;
end
$$;

set local role imi_owner;

create schema if not exists imi_meta;
comment on schema imi_meta is 'The migrate step''s own tables; only the owner enters';

create table if not exists imi_meta.ledger (
  id bigint generated always as identity constraint ledger_pkey primary key,
  part text not null constraint part_is_known check (part in ('sql', 'pgmq')),
  version text not null,
  sha256 text not null,
  loaded_at timestamptz not null default now()
);
comment on table imi_meta.ledger is 'What was loaded when: each load of sql/, and pgmq';

create table if not exists imi_meta.secrets (
  name text constraint secrets_pkey primary key,
  value text not null
);
comment on table imi_meta.secrets is 'Passwords of this database''s logins, and keys that the server signs with';

-- What the owner makes from now on is closed to everybody until grants.sql opens it.
alter default privileges revoke execute on functions from public;
