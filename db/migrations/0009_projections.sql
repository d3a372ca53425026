-- migrate:up
alter table bloodbank.workflow_state add column marks jsonb not null default '{}';
comment on column bloodbank.workflow_state.marks is
  'By what each field was last set, {field: [rank…, position, value]}; the other columns are read from it';
alter table bloodbank.agent_sessions add column marks jsonb not null default '{}';
comment on column bloodbank.agent_sessions.marks is
  'By what each field was last set, {field: [rank…, position, value]}; the other columns are read from it';
-- a checkpoint may come before the acceptance that says what kind of agent it is
alter table bloodbank.agent_sessions alter column agent_type drop not null;

alter table bloodbank.dead_letters drop constraint dead_letter_source_is_known;
alter table bloodbank.dead_letters add constraint dead_letter_source_is_known
  check (source in ('subscription', 'intake', 'relay', 'projection'));

-- a UUID may be written in upper case; a page of a workflow's events is read from a position on
drop index bloodbank.events_by_workflow;
create index events_by_workflow on bloodbank.events (lower(payload ->> 'workflow_id'), position)
  where payload ->> 'workflow_id' is not null;

-- migrate:down
drop index bloodbank.events_by_workflow;
create index events_by_workflow on bloodbank.events ((payload ->> 'workflow_id')) where payload ->> 'workflow_id' is not null;

delete from bloodbank.dead_letters where source = 'projection';
alter table bloodbank.dead_letters drop constraint dead_letter_source_is_known;
alter table bloodbank.dead_letters add constraint dead_letter_source_is_known
  check (source in ('subscription', 'intake', 'relay'));

delete from bloodbank.agent_sessions where agent_type is null;
alter table bloodbank.agent_sessions alter column agent_type set not null;
alter table bloodbank.agent_sessions drop column marks;
alter table bloodbank.workflow_state drop column marks;
