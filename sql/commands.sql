-- Commands: what others on the bus ask iMi to do, and what it answers.
--
-- imi.cmd.<name> carries the body of the request of the same meaning and goes through the same function. Every command
-- gets one answer, an event that it caused (and another if its dead letter is replayed): imi.cmd.done with the resource as it now is, changed or not, or imi.cmd.failed
-- with the error. What the function refuses, or a constraint, fails at once (formats and
-- lengths are the publisher's to check: imi/schemas/events); other faults are tried again by the subscription, and
-- end as imi.cmd.failed and a dead letter. The answers come back through the same pattern and are passed over: no failure
-- makes another.

create or replace function logic.command_project(p_payload jsonb) returns uuid
language plpgsql
stable
as $$
declare
  v_project_id uuid := p_payload ->> 'project_id';
begin
  if v_project_id is null then
    v_project_id := logic.project_of((logic.remote_parse(logic.handler_key(p_payload, 'remote_origin'))).remote_key);
    if v_project_id is null then
      perform logic.fail(404, 'NOT_FOUND', 'No project has this remote', '{}', 'Register it with imi.cmd.register_project');
    end if;
  end if;
  return v_project_id;
end
$$;
comment on function logic.command_project is 'The project that a command names by project_id or remote_origin';

create or replace function logic.command_work(p_payload jsonb) returns uuid
language plpgsql
stable
as $$
declare
  v_work_item_id uuid := p_payload ->> 'work_item_id';
  v_project_id uuid;
  v_branch_name text;
begin
  if v_work_item_id is null then
    v_project_id := logic.command_project(p_payload);
    v_branch_name := logic.handler_key(p_payload, 'branch_name');
    v_work_item_id := (
      select item.id from imi.work_items as item
      where item.project_id = v_project_id and item.branch_name = v_branch_name
      order by item.active desc, item.created_at desc, item.id desc
      limit 1);
    if v_work_item_id is null then
      perform logic.fail(404, 'NOT_FOUND', 'No work item has this branch',
        jsonb_build_object('project_id', v_project_id, 'branch_name', v_branch_name), 'Start it with imi.cmd.start_work');
    end if;
  end if;
  return v_work_item_id;
end
$$;
comment on function logic.command_work is
  'The work item that a command names by work_item_id, or by project and branch: the active one, else the latest';

create or replace function logic.command_run(p_event bloodbank.events, p_context json) returns json
language plpgsql
as $$
declare
  v_payload jsonb := p_event.payload;
  v_id uuid;
  v_wrong text := (
    select key from jsonb_each(p_event.payload)
    join (
      select unnest(array[
        'remote_origin', 'name', 'default_branch', 'trunk_path', 'description', 'project_id', 'branch_name', 'work_type',
        'owner_id', 'worktree_path', 'host', 'work_item_id', 'completion_type', 'merge_commit_hash', 'merged_by',
        'plane_ticket_id', 'ticket_title', 'ticket_url', 'ticket_state']) as key, 'string' as type
      union all
      values ('metadata', 'object'), ('source', 'object'), ('fencing_token', 'number')
    ) as known using (key)
    where jsonb_typeof(value) not in ('null', known.type)
    order by key
    limit 1);
begin
  if p_event.event_type not in ('imi.cmd.register_project', 'imi.cmd.start_work', 'imi.cmd.complete_work', 'imi.cmd.link_ticket') then
    perform logic.fail(400, 'UNKNOWN_COMMAND', 'There is no command ' || p_event.event_type, '{}',
      'There are register_project, start_work, complete_work and link_ticket');
  elsif v_payload ->> 'merge_commit_hash' !~ '^[0-9A-Fa-f]{7,64}$' then
    perform logic.fail(400, 'VALIDATION_ERROR', 'merge_commit_hash is no commit hash', '{}', 'It has 7 to 64 hexadecimal digits');
  elsif v_wrong is not null then
    perform logic.fail(400, 'VALIDATION_ERROR', v_wrong || ' is of another type than it must be', '{}',
      'imi events types ' || p_event.event_type);
  end if;
  -- the document in a statement of its own, so that it shows what the one before has done
  case p_event.event_type
    when 'imi.cmd.register_project' then
      perform logic.handler_key(v_payload, 'remote_origin');
      v_id := (logic.project_register(v_payload, p_context)).project_id;
      return logic.project_document(v_id);
    when 'imi.cmd.start_work' then
      perform logic.handler_key(v_payload, 'branch_name');
      v_id := logic.work_start(
        jsonb_build_object('source', jsonb_build_object('type', 'bloodbank_command', 'ref', p_event.event_id))
        || v_payload || jsonb_build_object('project_id', logic.command_project(v_payload)), p_context);
      return logic.work_document(v_id);
    when 'imi.cmd.complete_work' then
      perform logic.handler_key(v_payload, 'completion_type');
      v_id := logic.command_work(v_payload);
      perform logic.work_complete(v_id, v_payload || jsonb_build_object('evidence', logic.handler_evidence(p_event)), p_context);
      return logic.work_document(v_id);
    when 'imi.cmd.link_ticket' then
      perform logic.handler_key(v_payload, 'plane_ticket_id');
      v_id := (logic.link_ticket(
        v_payload || jsonb_build_object('work_item_id', logic.command_work(v_payload)),
        logic.handler_evidence(p_event), null, p_context)).link_id;
      return logic.ticket_link_document(v_id);
  end case;
end
$$;
comment on function logic.command_run is 'Does what a command asks for; answers the resource as it now is';

create or replace function logic.command_failed(p_event bloodbank.events, p_code text, p_message text) returns void
language sql
as $$
  select logic.event_append(
    'imi.cmd.failed',
    json_build_object(
      'command', p_event.event_type,
      'error', json_build_object('code', p_code, 'message', left(p_message, 1 << 10)),
      'event_id', p_event.event_id),
    logic.handler_context(p_event))
$$;
comment on function logic.command_failed is 'Answers a command with its error';

create or replace function logic.handle_commands(p_event bloodbank.events) returns void
language plpgsql
as $$
declare
  v_context json := logic.handler_context(p_event);
  v_message text;
  v_detail text;
  v_constraint text;
begin
  if p_event.event_type in ('imi.cmd.done', 'imi.cmd.failed') then
    return;
  end if;
  begin
    perform logic.event_append(
      'imi.cmd.done',
      json_build_object('command', p_event.event_type, 'result', logic.command_run(p_event, v_context), 'event_id', p_event.event_id),
      v_context);
  exception
    when others then
      if sqlstate !~ '^(IM4|22|23)' then
        raise;
      end if;
      get stacked diagnostics v_message = message_text, v_detail = pg_exception_detail, v_constraint = constraint_name;
      if starts_with(sqlstate, 'IM') then
        perform logic.command_failed(p_event, v_detail::jsonb ->> 'code', v_message);
      else
        perform logic.command_failed(p_event, 'VALIDATION_ERROR',
          'A value is missing or malformed: ' || coalesce(nullif(v_constraint, ''), split_part(v_message, ' of relation', 1)));
      end if;
  end;
end
$$;
comment on function logic.handle_commands is 'imi.cmd.*: does what is asked, and answers with imi.cmd.done or imi.cmd.failed';
