-- Dead letters: what could not be stored, handled or sent, with the reason, until somebody replays it.
--
-- The table is the desk: an event that failed is named by its id, what never became one is kept as the bytes that came.

create or replace function logic.dead_letter(
  p_source text, p_event_id uuid, p_raw bytea, p_reason text, p_sqlstate text, p_attempts integer, p_subscription text default null
) returns uuid
language sql
as $$
  with failed as materialized (select logic.now() as at)
  insert into bloodbank.dead_letters (
    source, event_id, raw, reason, sqlstate, attempts, first_failed_at, last_failed_at, subscription)
  select p_source, p_event_id, p_raw, p_reason, p_sqlstate, p_attempts, failed.at, failed.at, p_subscription
  from failed
  returning id
$$;
comment on function logic.dead_letter is 'Lays a message or an event aside; source is intake, subscription (and which) or relay';
