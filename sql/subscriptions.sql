-- Subscriptions: SQL functions that follow the log.
--
-- A subscription is a row, made with psql while everything runs: a name, patterns of event types, and the handler, a
-- function (bloodbank.events) returns void. It gets the events from its position on in log order, causes before effects,
-- up to the floor (log.sql). A batch is one transaction with its effects and the new position, so each event takes effect
-- once. A batch looks at a bounded stretch of the log and passes over what no pattern matches, so that a subscription far
-- behind never looks twice; and it ends soon, because a handler that has appended holds the floor down until the commit.
-- A handler with nothing to do for an event may say so (handler_pass in handlers.sql): such events are counted.
-- A handler that raises is tried three times at once; then the event is a dead letter, and the next one's turn has come.
-- What says nothing about the event (a deadlock, no memory, a handler that has just been dropped) ends the batch instead.
-- A batch that was ended from outside (statement timeout, a lost connection) has left nothing. Then its follower goes on
-- one event at a time: subscription_try counts the try in a transaction of its own, subscription_run(…, 1) makes it, and
-- makes a dead letter instead of a fourth. Whoever follows needs no other rule: run; after an error, try and run 1 for
-- as many events as a batch may hold or until one is dead; what subscriptions_waiting shows with attempts was left in the
-- middle of that. Any number of followers may run side by side: a subscription in somebody's hands is passed over. Two
-- of them in the middle of that count each other's tries, so a hanging event may get fewer than three, never more.

create or replace function logic.subscription_handler(p_handler text) returns regprocedure
language plpgsql
stable
as $$
declare
  v_handler regprocedure;
begin
  v_handler := to_regprocedure(p_handler || '(bloodbank.events)');
  return case when has_function_privilege(v_handler, 'execute') then v_handler end;
exception
  when others then  -- no name of a function here, or one in a schema that the owner may not enter
    return null;
end
$$;
comment on function logic.subscription_handler is 'The function that a subscription names, or null: then the subscription waits';

create or replace function logic.subscription_give_up(
  p_subscription bloodbank.subscriptions, p_event bloodbank.events, p_reason text, p_sqlstate text
) returns void
language plpgsql
as $$
begin
  perform logic.dead_letter('subscription', p_event.event_id, null, p_reason, p_sqlstate, 3, p_subscription.name);
  if p_subscription.handler = 'logic.handle_commands' and p_event.event_type not in ('imi.cmd.done', 'imi.cmd.failed') then
    begin
      perform logic.command_failed(p_event, 'INTERNAL_ERROR', p_reason);
    exception
      when others then  -- what keeps the command from its answer must not keep the next one waiting
        raise warning 'command % gets no answer: %', p_event.event_id, sqlerrm;
    end;
  end if;
end
$$;
comment on function logic.subscription_give_up is 'Makes a dead letter of an event after three tries; whoever sent it as a command is told';

create or replace function logic.subscription_run(p_name text, p_limit integer default 500) returns json
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_subscription bloodbank.subscriptions;
  v_handler regprocedure;
  v_call text;
  v_regex text;
  v_floor bigint;
  v_end bigint;
  v_position bigint;
  v_event bloodbank.events;
  v_limit integer := least(greatest(p_limit, 1), 500);
  v_until timestamptz := clock_timestamp() + interval '250 milliseconds';
  v_handled integer := 0;
  v_dead integer := 0;
  v_skipped bigint := 0;
  v_is_cut boolean := false;
begin
  select * into v_subscription from bloodbank.subscriptions where subscriptions.name = p_name for update skip locked;
  if not found then
    if not exists (select from bloodbank.subscriptions where subscriptions.name = p_name) then
      perform logic.fail(404, 'NOT_FOUND', 'Subscription not found', jsonb_build_object('name', p_name));
    end if;
    return json_build_object('state', 'busy', 'handled', 0, 'passed', 0, 'skipped', 0, 'dead', 0, 'position', null, 'behind', false);
  end if;
  v_handler := logic.subscription_handler(v_subscription.handler);
  if v_subscription.paused or v_handler is null then
    return json_build_object(
      'state', case when v_subscription.paused then 'paused' else 'no_handler' end,
      'handled', 0, 'passed', 0, 'skipped', 0, 'dead', 0, 'position', v_subscription.position, 'behind', false);
  end if;
  v_call := format('select %s($1)', v_handler::oid::regproc);
  v_regex := (select string_agg(logic.topic_regex(pattern), '|') from unnest(v_subscription.patterns) as pattern);
  if v_subscription.attempts > 0 then
    v_limit := 1;
  end if;
  -- Our own handlers lock work items in the order of their events; two batches of them at once could wait in a circle.
  if v_handler::text like 'logic.%' and not pg_try_advisory_xact_lock(4246::bigint << 48) then
    return json_build_object(
      'state', 'busy', 'handled', 0, 'passed', 0, 'skipped', 0, 'dead', 0, 'position', v_subscription.position, 'behind', false);
  end if;
  perform set_config('imi.passed', '0', true);
  v_floor := logic.log_floor();
  -- the end of the stretch first: if retention removes events meanwhile, the stretch must not grow
  v_end := coalesce((
    select events.position from bloodbank.events
    where events.position > v_subscription.position and events.position <= v_floor
    order by events.position
    offset 4999 limit 1), v_floor);
  v_position := v_subscription.position;
  for v_event in
    select events.* from bloodbank.events
    where events.position > v_subscription.position and events.position <= v_end and ('.' || events.event_type) ~ v_regex
      -- that one of its letters was replayed is no news to a subscription, and would make new letters
      and (events.event_type <> 'imi.dead_letter.replayed' or events.payload ->> 'subscription' is distinct from p_name)
    order by events.position
    limit v_limit
  loop
    if v_subscription.attempts > 3 then
      perform logic.subscription_give_up(v_subscription, v_event, 'The handler did not come back from three tries', '57014');
      v_dead := v_dead + 1;
    else
      for v_try in 1 .. 3 loop
        begin
          execute v_call using v_event;
          v_handled := v_handled + 1;
          exit;
        exception
          when others or assert_failure then
            if v_try = 3 then
              if logic.is_transient(sqlstate) or logic.subscription_handler(v_subscription.handler) is null then
                raise;
              end if;
              perform logic.subscription_give_up(v_subscription, v_event, sqlerrm, sqlstate);
              v_dead := v_dead + 1;
            end if;
        end;
      end loop;
    end if;
    v_position := v_event.position;
    v_is_cut := v_handled + v_dead = v_limit or clock_timestamp() > v_until;
    exit when v_is_cut;
  end loop;
  if not v_is_cut then
    v_position := greatest(v_position, v_end);
  end if;
  if v_position > v_subscription.position then
    update bloodbank.subscriptions set position = v_position, attempts = 0 where subscriptions.name = p_name;
    v_skipped := (
      select count(*) from bloodbank.events
      where events.position > v_subscription.position and events.position <= v_position) - v_handled - v_dead;
  end if;
  return json_build_object(
    'state', 'ran', 'handled', v_handled, 'passed', current_setting('imi.passed')::integer,
    'skipped', v_skipped, 'dead', v_dead, 'position', v_position, 'behind', v_position < v_floor);
end
$$;
comment on function logic.subscription_run is
  'Handles the next events of a subscription: {state: ran|busy|paused|no_handler, handled, passed, skipped, dead, position, behind}';

create or replace function logic.subscription_try(p_name text) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_subscription bloodbank.subscriptions;
begin
  select * into v_subscription from bloodbank.subscriptions where subscriptions.name = p_name for update skip locked;
  if not found or v_subscription.paused or v_subscription.position >= logic.log_floor()
    or logic.subscription_handler(v_subscription.handler) is null then
    return null;
  end if;
  update bloodbank.subscriptions set attempts = v_subscription.attempts + 1 where subscriptions.name = p_name;
  return v_subscription.attempts + 1;
end
$$;
comment on function logic.subscription_try is
  'Counts the try that subscription_run(name, 1) is about to make, to be committed before it; null: it is not to be run now';

-- It may show one that somebody else is just running, or one with nothing but other events ahead: running it is cheap.
create or replace function logic.subscriptions_waiting() returns json
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  v_floor bigint := logic.log_floor();
begin
  return (
    select coalesce(json_agg(json_build_object('name', name, 'attempts', attempts) order by position, name), '[]')
    from bloodbank.subscriptions
    where not paused and position < v_floor and logic.subscription_handler(handler) is not null);
end
$$;
comment on function logic.subscriptions_waiting is
  'The subscriptions that have something to do, [{name, attempts}], the one farthest behind first';
