-- migrate:up
create schema bloodbank;
comment on schema bloodbank is 'The event log of the bus: one append-only table, and everything that follows it';

-- The cache stays 1: the floor (logic.log_floor) reads the sequence's last value as "the highest position given out".
create table bloodbank.events (
  position bigint generated always as identity (cache 1) constraint one_event_per_position unique,
  event_id uuid constraint events_pkey primary key,
  event_type text collate "C" not null constraint event_type_is_a_topic
    check (octet_length(event_type) <= 255 and event_type ~ '^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$'),
  "timestamp" timestamptz not null,
  version text not null constraint version_is_short check (char_length(version) <= 20),
  source jsonb not null,
  correlation_ids uuid[] not null default '{}',
  agent_context jsonb,
  payload jsonb not null,
  extra jsonb,
  ingested_at timestamptz not null default now(),
  arrived text not null constraint arrived_is_known check (arrived in ('local', 'bus'))
);
comment on table bloodbank.events is 'Every event of the bus, once, in the order of position; history and outbox at once';
comment on column bloodbank.events.extra is 'Unknown keys of the envelope, merged back when it is served';
comment on column bloodbank.events.arrived is 'local: made here or posted to the API, the relay sends it; bus: came from the bus';

create index events_by_type on bloodbank.events (event_type, "timestamp" desc, position desc);
create index events_by_time on bloodbank.events ("timestamp" desc, position desc);
create index events_by_checkpoint on bloodbank.events ((agent_context ->> 'checkpoint_id'))
  where agent_context ->> 'checkpoint_id' is not null;
create index events_by_workflow on bloodbank.events ((payload ->> 'workflow_id')) where payload ->> 'workflow_id' is not null;

create function bloodbank.refuse_update() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'The event log is append-only' using errcode = '42501', hint = 'Publish another event that says what changed';
end
$$;
comment on function bloodbank.refuse_update() is 'The log is history: it takes no update';
revoke execute on function bloodbank.refuse_update() from public;

create trigger events_are_append_only
before update on bloodbank.events
for each statement execute function bloodbank.refuse_update();

create table bloodbank.causes (
  cause uuid not null,
  effect uuid not null,
  constraint causes_pkey primary key (cause, effect)
);
comment on table bloodbank.causes is 'The edges of correlation_ids; no foreign keys, because an effect may arrive before its cause';

create index causes_by_effect on bloodbank.causes (effect);

create table bloodbank.cursors (
  name text collate "C" constraint cursors_pkey primary key,
  position bigint not null default 0,
  leader text,
  moved_at timestamptz not null default now()
);
comment on table bloodbank.cursors is 'How far each follower of the log has come';

create table bloodbank.subscriptions (
  name text collate "C" constraint subscriptions_pkey primary key,
  patterns text[] not null,
  handler text not null,
  position bigint not null default 0,
  attempts integer not null default 0 constraint attempts_is_not_negative check (attempts >= 0),
  paused boolean not null default false
);
comment on table bloodbank.subscriptions is 'Handlers that follow the log: which events, which SQL function, how far';

create table bloodbank.bindings (
  queue text collate "C" not null,
  pattern text collate "C" not null,
  constraint bindings_pkey primary key (queue, pattern)
);
comment on table bloodbank.bindings is 'Which events go to which queue of the embedded bus';

create table bloodbank.dead_letters (
  id uuid default uuidv7() constraint dead_letters_pkey primary key,
  source text not null constraint dead_letter_source_is_known check (source in ('subscription', 'intake', 'relay')),
  event_id uuid,
  raw bytea,
  reason text not null,
  sqlstate text,
  attempts integer not null default 1,
  first_failed_at timestamptz not null default now(),
  last_failed_at timestamptz not null default now(),
  replayed_at timestamptz
);
comment on table bloodbank.dead_letters is 'What could not be stored or handled, with the reason, until somebody replays it';

create index dead_letters_by_event on bloodbank.dead_letters (event_id) where event_id is not null;
create index dead_letters_waiting on bloodbank.dead_letters (last_failed_at desc, id desc) where replayed_at is null;

-- Its last value is the number of the last 50 ms window in which a NOTIFY went out.
create sequence bloodbank.wake;

-- migrate:down
drop sequence bloodbank.wake;
drop table bloodbank.dead_letters;
drop table bloodbank.bindings;
drop table bloodbank.subscriptions;
drop table bloodbank.cursors;
drop table bloodbank.causes;
drop table bloodbank.events;
drop function bloodbank.refuse_update();
drop schema bloodbank;
