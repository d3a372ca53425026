-- Claims: which agent may write on a work item, until when.
--
-- A claim is a lease with a fencing token. Taking it is a compare-and-swap in one statement, so of many that race one
-- wins and the others learn who did. The token only ever grows, because the row outlives its release: a writer that was
-- asleep shows its old token and is refused as stale. Leases are judged by logic.now() once the row is held. Every
-- writer locks the work item first; that is what makes completing and claiming take turns.

create or replace function logic.claim_check(p_work_item_id uuid, p_fencing_token bigint) returns void
language plpgsql
as $$
declare
  v_claim imi.claims;
begin
  if p_fencing_token is null then
    return;
  end if;
  select * into v_claim from imi.claims where claims.work_item_id = p_work_item_id;
  if v_claim.agent_id is null or v_claim.fencing_token <> p_fencing_token then
    perform logic.fail(409, 'STALE_CLAIM', 'The fencing token is not the current one',
      jsonb_build_object('fencing_token', p_fencing_token, 'agent_id', v_claim.agent_id, 'lease_until', v_claim.lease_until),
      'The claim has passed on; claim the work item again before writing');
  end if;
end
$$;
comment on function logic.claim_check is 'Raises STALE_CLAIM unless the token (or none) is that of the present claim';

create or replace function logic.claim_refuse(p_claim imi.claims) returns void
language plpgsql
as $$
begin
  if p_claim.agent_id is null or p_claim.lease_until <= logic.now() then
    perform logic.fail(409, 'CONFLICT', 'The agent holds no living claim on this work item',
      jsonb_build_object('work_item_id', p_claim.work_item_id), 'Claim it first');
  end if;
  perform logic.fail(409, 'CONFLICT', 'Another agent holds this work item',
    jsonb_build_object('work_item_id', p_claim.work_item_id, 'agent_id', p_claim.agent_id, 'lease_until', p_claim.lease_until),
    'Wait until it is released or its lease runs out');
end
$$;
comment on function logic.claim_refuse is 'Raises 409 and names the holder, if there is one';

create or replace function logic.claim_end(p_work_item_id uuid) returns void
language sql
as $$
  update imi.claims as claim set agent_id = null, claimed_at = null, lease_until = null where claim.work_item_id = p_work_item_id
$$;
comment on function logic.claim_end is 'Ends whatever claim there is; the token stays';

-- A holder who claims again has its claim, as it is; a lease that has run out is anybody's.
create or replace function logic.work_claim(p_work_item_id uuid, p_body jsonb, p_context json) returns void
language plpgsql
as $$
declare
  v_agent_id text := p_body ->> 'agent_id';
  v_ttl interval := make_interval(secs => coalesce((p_body ->> 'ttl_seconds')::integer, 1800));
  v_item imi.work_items := logic.work_lock(p_work_item_id);
  v_claim imi.claims;
begin
  if not v_item.active then
    perform logic.fail(409, 'CONFLICT', 'The work item is not active', jsonb_build_object(
      'work_item_id', p_work_item_id, 'status', logic.work_status(v_item)), 'Only active work can be claimed');
  end if;
  perform logic.agent_seen(v_agent_id);
  insert into imi.claims as claim (work_item_id, agent_id, claimed_at, lease_until, fencing_token)
  values (p_work_item_id, v_agent_id, logic.now(), logic.now() + v_ttl, 1)
  on conflict (work_item_id) do update
  set agent_id = excluded.agent_id, claimed_at = logic.now(), lease_until = logic.now() + v_ttl, fencing_token = claim.fencing_token + 1
  where claim.agent_id is null or claim.lease_until <= logic.now();
  if found then
    perform logic.event_append('imi.work.claimed', logic.work_document(p_work_item_id), p_context);
    return;
  end if;
  select * into v_claim from imi.claims as claim where claim.work_item_id = p_work_item_id;
  if v_claim.agent_id is distinct from v_agent_id then
    perform logic.claim_refuse(v_claim);
  end if;
end
$$;
comment on function logic.work_claim is 'Gives an agent the lease on a work item, or says who has it';

create or replace function logic.work_renew(p_work_item_id uuid, p_body jsonb) returns void
language plpgsql
as $$
declare
  v_claim imi.claims;
begin
  perform logic.work_lock(p_work_item_id);
  select * into v_claim from imi.claims as claim where claim.work_item_id = p_work_item_id;
  perform logic.claim_check(p_work_item_id, (p_body ->> 'fencing_token')::bigint);
  perform logic.agent_seen(p_body ->> 'agent_id');
  if v_claim.agent_id is distinct from p_body ->> 'agent_id' or v_claim.lease_until <= logic.now() then
    v_claim.work_item_id := p_work_item_id;
    perform logic.claim_refuse(v_claim);
  end if;
  update imi.claims as claim
  set lease_until = logic.now() + make_interval(secs => coalesce((p_body ->> 'ttl_seconds')::integer, 1800))
  where claim.work_item_id = p_work_item_id;
end
$$;
comment on function logic.work_renew is 'Prolongs the holder''s lease; no event, it is a heartbeat';

create or replace function logic.work_release(p_work_item_id uuid, p_body jsonb, p_context json) returns void
language plpgsql
as $$
declare
  v_claim imi.claims;
begin
  perform logic.work_lock(p_work_item_id);
  select * into v_claim from imi.claims as claim where claim.work_item_id = p_work_item_id;
  perform logic.claim_check(p_work_item_id, (p_body ->> 'fencing_token')::bigint);
  if v_claim.agent_id = p_body ->> 'agent_id' then
    perform logic.claim_end(p_work_item_id);
    perform logic.event_append('imi.work.released', logic.work_document(p_work_item_id), p_context);
  elsif v_claim.lease_until > logic.now() then
    perform logic.claim_refuse(v_claim);
  end if;
end
$$;
comment on function logic.work_release is 'Ends the agent''s claim; without one there is nothing to do';

create or replace function api.work_claim(p_work_item_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform logic.work_claim(p_work_item_id, p_body::jsonb, p_context);
  return logic.work_document(p_work_item_id);
end
$$;
comment on function api.work_claim is 'POST /api/v1/work/{work_item_id}/claim: an agent takes the lease, or 409 names the holder';

create or replace function api.work_renew(p_work_item_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform logic.work_renew(p_work_item_id, p_body::jsonb);
  return logic.work_document(p_work_item_id);
end
$$;
comment on function api.work_renew is 'POST /api/v1/work/{work_item_id}/renew: the holder prolongs its lease';

create or replace function api.work_release(p_work_item_id uuid, p_body json, p_context json) returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform logic.work_release(p_work_item_id, p_body::jsonb, p_context);
  return logic.work_document(p_work_item_id);
end
$$;
comment on function api.work_release is 'POST /api/v1/work/{work_item_id}/release: the holder gives the work item back';
