-- A sample of everything: four weeks of a small team, up to now. `imi db sample` runs it as the owner; again it does
-- nothing. It goes through the API's functions with the clock moved back, so every event is a real one.
--
-- A step is (how long ago, who, which function of api, on what, with which body, the name its result gets). "@name" in a
-- body is the id of an earlier result, "@uuid" a new one; "caused_by" names the event that caused the step.
do $$
declare
  v_now constant timestamptz := date_trunc('second', clock_timestamp());
  v_ids jsonb := '{}';
  v_known record;
  v_step record;
  v_body text;
  v_cause text;
  v_reply jsonb;
begin
  perform pg_advisory_xact_lock(4247::bigint << 48);
  if logic.project_of('github.com/acme/atlas') is not null then
    return;
  end if;

  for v_step in
    select ago::interval, actor, function, subject, body, name
    from (
      values
        ('28 days', 'ada', 'project_register', null,
          '{"remote_origin": "git@github.com:acme/atlas.git", "description": "Maps and routes",
            "metadata": {"team": "maps"}}', 'atlas'),
        ('28 days', 'ada', 'project_register', null,
          '{"remote_origin": "https://github.com/acme/beacon", "description": "Notifications",
            "metadata": {"team": "messages"}}', 'beacon'),
        ('28 days', 'grace', 'project_register', null,
          '{"remote_origin": "git@github.com:acme/meta.git", "description": "All parts in one place"}', 'meta'),
        ('28 days', 'grace', 'project_register', null,
          '{"remote_origin": "git@github.com:acme/relic.git", "description": "The old map server"}', 'relic'),
        ('28 days', 'grace', 'component_register', null,
          '{"parent_project_id": "@meta", "name": "atlas", "path": "atlas", "kind": "submodule",
            "linked_project_id": "@atlas"}', 'c_atlas'),
        ('28 days', 'grace', 'component_register', null,
          '{"parent_project_id": "@meta", "name": "beacon", "path": "beacon", "kind": "submodule",
            "linked_project_id": "@beacon"}', 'c_beacon'),
        ('28 days', 'grace', 'component_register', null,
          '{"parent_project_id": "@meta", "name": "gateway", "path": "gateway", "kind": "local"}', 'c_gateway'),
        ('28 days', 'grace', 'component_register', null,
          '{"parent_project_id": "@meta", "name": "dashboard", "path": "dashboard", "kind": "local"}', 'c_dashboard'),
        ('28 days', 'grace', 'component_register', null,
          '{"parent_project_id": "@meta", "name": "manual", "path": "manual", "kind": "external", "enabled": false}',
            'c_manual'),

        ('27 days', 'grace', 'component_relate', 'c_dashboard',
          '{"target_component_id": "@c_gateway", "relationship_type": "depends_on"}', null),
        ('27 days', 'grace', 'component_relate', 'c_gateway',
          '{"target_component_id": "@c_atlas", "relationship_type": "depends_on"}', null),
        ('27 days', 'grace', 'component_relate', 'c_atlas',
          '{"target_component_id": "@c_beacon", "relationship_type": "produces_events_for"}', null),
        ('27 days', 'grace', 'component_relate', 'c_beacon',
          '{"target_component_id": "@c_atlas", "relationship_type": "consumes_events_from"}', null),
        ('27 days', 'ada', 'api_key_create', null, '{"name": "sample", "scope": "read"}', 'key'),
        ('26 days', 'ada', 'api_key_revoke', 'key', null, null),
        ('24 days', 'ada', 'work_start', null,
          '{"project_id": "@atlas", "branch_name": "feat/map-tiles", "source": {"type": "plane_ticket", "ref": "ATLAS-12"},
            "worktree_path": "/home/ada/code/atlas/map-tiles", "host": "workbench"}', 'tiles'),
        ('24 days', 'ada', 'link_ticket', null,
          '{"work_item_id": "@tiles", "plane_ticket_id": "ATLAS-12", "ticket_title": "Tiles load as the map moves",
            "ticket_url": "https://plane.example/acme/ATLAS-12", "ticket_state": "In Progress"}', null),
        ('24 days', 'ada', 'worktree_register', null,
          '{"project_id": "@atlas", "work_item_id": "@tiles", "name": "map-tiles",
            "path": "/home/ada/code/atlas/map-tiles", "host": "workbench", "branch_name": "feat/map-tiles"}',
            'tree_tiles'),
        ('23 days', 'grace', 'work_start', null,
          '{"project_id": "@relic", "branch_name": "fix/old-cache", "work_type": "fix"}', null),
        ('22 days', 'ada', 'work_git_state_update', 'tiles',
          '{"ahead_of_trunk": 4, "last_commit_hash": "3f9d2c61a07be4d58c1f6a90b2e37d4c8156fa0e",
            "last_commit_message": "Load tiles as the map moves"}', null),
        ('21 days', 'ada', 'link_pr', null,
          '{"work_item_id": "@tiles", "pr_number": 41, "pr_url": "https://github.com/acme/atlas/pull/41",
            "pr_title": "Load tiles as the map moves"}', 'pr_tiles'),
        ('21 days', 'codex-2', 'work_start', null,
          '{"project_id": "@atlas", "branch_name": "experiment/vector-tiles", "work_type": "experiment"}', 'vector'),

        ('20 days', 'grace', 'link_pr_update', 'pr_tiles',
          '{"pr_state": "merged", "merge_commit_hash": "a84e07c3915df26b0c7e8d13f4a95b6207dc3e18", "merged_by": "grace"}',
            null),
        ('20 days', 'ada', 'link_ticket', null,
          '{"work_item_id": "@tiles", "plane_ticket_id": "ATLAS-12", "ticket_state": "Done"}', null),
        ('20 days', 'ada', 'worktree_remove', 'tree_tiles', null, null),
        ('20 days', 'pipeline', 'link_deploy', null,
          '{"work_item_id": "@tiles", "deploy_id": "atlas-101", "environment": "staging",
            "commit_hash": "a84e07c3915df26b0c7e8d13f4a95b6207dc3e18"}', null),
        ('19 days', 'pipeline', 'link_deploy', null,
          '{"work_item_id": "@tiles", "deploy_id": "atlas-102", "environment": "production",
            "commit_hash": "a84e07c3915df26b0c7e8d13f4a95b6207dc3e18"}', null),
        ('18 days', 'grace', 'project_deactivate', 'relic', null, null),
        ('17 days', 'bmad', 'event_publish', null,
          '{"event_type": "bmad.workflow.started", "payload": {"workflow_id": "6f1de2a4-8c3b-4b7e-9a51-2d0c7f3e8b96",
            "project_name": "atlas", "phase": "planning"}}', 'started'),
        ('16 days 4 hours', 'bmad', 'event_publish', null,
          '{"event_type": "bmad.workflow.phase.completed", "correlation_ids": ["@started"],
            "payload": {"workflow_id": "6f1de2a4-8c3b-4b7e-9a51-2d0c7f3e8b96", "phase": "planning",
            "next_phase": "implementation"}}', 'planned'),
        ('16 days 3 hours', 'bmad', 'event_publish', null,
          '{"event_type": "bmad.workflow.handoff.requested", "correlation_ids": ["@planned"],
            "payload": {"workflow_id": "6f1de2a4-8c3b-4b7e-9a51-2d0c7f3e8b96", "from_agent": "planner",
            "to_agent": "coder", "task": "Plan routes", "context": {"ticket": "ATLAS-15"}}}', 'handoff'),
        ('16 days 2 hours 48 minutes', 'letta', 'event_publish', null,
          '{"event_type": "agent.handoff.accepted", "correlation_ids": ["@handoff"],
            "agent_context": {"type": "claude_code", "name": "claude-7"},
            "payload": {"workflow_id": "6f1de2a4-8c3b-4b7e-9a51-2d0c7f3e8b96", "agent_type": "letta",
            "session_id": "agent-0c9a4f57-3e2d-4d18-b6aa-91f5e7c20d34", "accepted_from": "planner"}}', 'accepted'),
        ('16 days', 'claude-7', 'work_start', null,
          '{"caused_by": "@accepted", "project_id": "@atlas", "branch_name": "feat/routes",
            "source": {"type": "agent_assignment", "ref": "6f1de2a4-8c3b-4b7e-9a51-2d0c7f3e8b96"}, "host": "builder-1"}',
            'routes'),
        ('16 days', 'claude-7', 'link_ticket', null,
          '{"work_item_id": "@routes", "plane_ticket_id": "ATLAS-15", "ticket_title": "Routes around closed roads",
            "ticket_url": "https://plane.example/acme/ATLAS-15", "ticket_state": "In Progress"}', null),
        ('15 days', 'grace', 'work_start', null,
          '{"project_id": "@beacon", "branch_name": "feat/push", "source": {"type": "plane_ticket", "ref": "BEACON-3"}}',
            'push'),
        ('15 days', 'codex-2', 'work_start', null,
          '{"project_id": "@beacon", "branch_name": "feat/digest", "host": "builder-2", "source": {"type": "plane_ticket",
            "ref": "BEACON-3"}}', 'digest'),
        ('15 days', 'codex-2', 'link_ticket', null,
          '{"work_item_id": "@digest", "plane_ticket_id": "BEACON-3", "ticket_title": "One message a day, not fifty",
            "ticket_state": "In Progress"}', null),
        ('14 days', 'codex-2', 'work_complete', 'vector', '{"completion_type": "abandoned"}', null),

        ('13 days 12 hours', 'claude-7', 'link_pr', null,
          '{"work_item_id": "@routes", "pr_number": 44, "pr_url": "https://github.com/acme/atlas/pull/44",
            "pr_title": "Route around closed roads"}', 'pr_routes'),
        ('13 days 12 hours', 'letta', 'event_publish', null,
          '{"event_type": "agent.letta.task.completed", "correlation_ids": ["@accepted"],
            "payload": {"workflow_id": "6f1de2a4-8c3b-4b7e-9a51-2d0c7f3e8b96",
            "session_id": "agent-0c9a4f57-3e2d-4d18-b6aa-91f5e7c20d34"}}', 'task_done'),
        ('13 days', 'ada', 'link_pr_update', 'pr_routes',
          '{"pr_state": "merged", "merge_commit_hash": "5be1d09f7a3c8462e0d7194fb8a6c35d12e907f4", "merged_by": "ada"}',
            null),
        ('12 days', 'pipeline', 'link_deploy', null,
          '{"work_item_id": "@routes", "deploy_id": "atlas-103", "environment": "production",
            "commit_hash": "5be1d09f7a3c8462e0d7194fb8a6c35d12e907f4"}', null),
        ('12 days', 'bmad', 'event_publish', null,
          '{"event_type": "bmad.workflow.completed", "correlation_ids": ["@task_done"],
            "payload": {"workflow_id": "6f1de2a4-8c3b-4b7e-9a51-2d0c7f3e8b96"}}', 'finished'),
        ('11 days', 'grace', 'work_complete', 'push',
          '{"completion_type": "superseded"}', null),
        ('10 days', 'codex-2', 'link_pr', null,
          '{"work_item_id": "@digest", "pr_number": 17, "pr_url": "https://github.com/acme/beacon/pull/17",
            "pr_title": "Send one digest a day"}', 'pr_digest'),
        ('9 days', 'grace', 'link_pr_update', 'pr_digest',
          '{"pr_state": "merged", "merge_commit_hash": "c02f8be651d97a3e4408fd2b9c7165ae83f0d91b", "merged_by": "grace"}',
            null),
        ('9 days', 'ada', 'work_start', null,
          '{"project_id": "@meta", "branch_name": "devops/release-train", "work_type": "devops"}', null),
        ('8 days', 'pipeline', 'link_deploy', null,
          '{"work_item_id": "@digest", "deploy_id": "beacon-31", "environment": "production",
            "commit_hash": "c02f8be651d97a3e4408fd2b9c7165ae83f0d91b"}', null),
        ('8 days', 'grace', 'work_start', null,
          '{"project_id": "@beacon", "branch_name": "aiops/alert-summaries", "work_type": "aiops", "host": "workbench"}',
            'alerts'),
        ('7 days', 'claude-7', 'work_start', null,
          '{"project_id": "@atlas", "branch_name": "feat/offline-maps", "host": "builder-1",
            "source": {"type": "plane_ticket", "ref": "ATLAS-21"}}', 'offline'),
        ('7 days', 'claude-7', 'link_ticket', null,
          '{"work_item_id": "@offline", "plane_ticket_id": "ATLAS-21", "ticket_title": "The map works in a tunnel",
            "ticket_state": "In Review"}', null),

        ('6 days', 'grace', 'work_git_state_update', 'alerts',
          '{"behind_trunk": 12, "last_commit_hash": "d71c50e2fb9843a6e5d0c81f3479b6a2905ce7f8",
            "last_commit_message": "Summarise alerts by cause"}', null),
        ('6 days', 'ada', 'work_start', null,
          '{"project_id": "@atlas", "branch_name": "fix/zoom", "work_type": "fix"}', 'zoom'),
        ('5 days 2 hours', 'claude-7', 'work_git_state_update', 'offline',
          '{"ahead_of_trunk": 5, "last_commit_hash": "91b7e3d4c05f2a68be1d90c4f7a3562e8d0cb41a",
            "last_commit_message": "Keep the tiles of a region"}', null),
        ('5 days', 'claude-7', 'link_pr', null,
          '{"work_item_id": "@offline", "pr_number": 47, "pr_url": "https://github.com/acme/atlas/pull/47",
            "pr_title": "Keep the tiles of a region"}', null),
        ('5 days', 'ada', 'link_pr', null,
          '{"work_item_id": "@zoom", "pr_number": 48, "pr_url": "https://github.com/acme/atlas/pull/48",
            "pr_title": "Zoom to where the pointer is", "pr_state": "merged",
            "merge_commit_hash": "20d6fa81c94e7b350f8e1a2dc63b5970e4f81ca6", "merged_by": "grace"}', null),
        ('5 days', 'pipeline', 'link_deploy', null,
          '{"work_item_id": "@zoom", "deploy_id": "atlas-104", "environment": "staging",
            "commit_hash": "20d6fa81c94e7b350f8e1a2dc63b5970e4f81ca6"}', null),
        ('4 days', 'bmad', 'event_publish', null,
          '{"event_type": "bmad.workflow.started", "payload": {"workflow_id": "b35a9e07-1f64-4c2d-8e70-c4d9a81f5b23",
            "project_name": "atlas", "phase": "implementation"}}', 'started_2'),
        ('4 days', 'bmad', 'event_publish', null,
          '{"event_type": "bmad.workflow.handoff.requested", "correlation_ids": ["@started_2"],
            "payload": {"workflow_id": "b35a9e07-1f64-4c2d-8e70-c4d9a81f5b23", "from_agent": "planner",
            "to_agent": "coder", "task": "Show the terrain", "context": {}}}', 'handoff_2'),
        ('3 days 22 hours', 'letta', 'event_publish', null,
          '{"event_type": "agent.handoff.accepted", "correlation_ids": ["@handoff_2"],
            "payload": {"workflow_id": "b35a9e07-1f64-4c2d-8e70-c4d9a81f5b23", "agent_type": "letta",
            "session_id": "agent-e7d20b4c-95a1-4f3e-a8c6-0b7f1d62934e", "accepted_from": "planner"}}', 'accepted_2'),
        ('3 days 21 hours', 'codex-2', 'work_start', null,
          '{"caused_by": "@accepted_2", "project_id": "@atlas", "branch_name": "feat/terrain", "host": "builder-2",
            "worktree_path": "/srv/agents/atlas/terrain"}', 'terrain'),
        ('3 days 21 hours', 'codex-2', 'worktree_register', null,
          '{"project_id": "@atlas", "work_item_id": "@terrain", "name": "terrain", "path": "/srv/agents/atlas/terrain",
            "host": "builder-2", "branch_name": "feat/terrain"}', null),
        ('3 days', 'ada', 'work_start', null,
          '{"project_id": "@beacon", "branch_name": "fix/retry-storm", "work_type": "fix",
            "source": {"type": "plane_ticket", "ref": "BEACON-7"}}', 'retry'),
        ('3 days', 'ada', 'link_ticket', null,
          '{"work_item_id": "@retry", "plane_ticket_id": "BEACON-7", "ticket_title": "Retries come all at once",
            "ticket_state": "Done"}', null),
        ('2 days 1 hour', 'codex-2', 'work_claim', 'terrain', '{"agent_id": "codex-2", "ttl_seconds": 3600}', null),
        ('2 days 1 hour', 'codex-2', 'work_git_state_update', 'terrain',
          '{"ahead_of_trunk": 3, "behind_trunk": 2, "last_commit_hash": "6e0c94b1d8f2735ae4017c5d9b83f6a21d5e07bc",
            "last_commit_message": "Shade the hills"}', null),
        ('2 days', 'ada', 'link_pr', null,
          '{"work_item_id": "@retry", "pr_number": 19, "pr_url": "https://github.com/acme/beacon/pull/19",
            "pr_title": "Spread retries over a minute", "pr_state": "merged",
            "merge_commit_hash": "f49a1c7e63d08b52a9e4d7013c86fb25e0197da3", "merged_by": "codex-2"}', null),
        ('1 day 12 hours', 'pipeline', 'link_deploy', null,
          '{"work_item_id": "@retry", "deploy_id": "beacon-32", "environment": "production",
            "commit_hash": "f49a1c7e63d08b52a9e4d7013c86fb25e0197da3"}', null),
        ('20 hours', 'ada', 'work_start', null,
          '{"project_id": "@beacon", "branch_name": "feat/quiet-hours", "host": "workbench",
            "worktree_path": "/home/ada/code/beacon/quiet-hours"}', 'quiet'),
        ('20 hours', 'ada', 'worktree_register', null,
          '{"project_id": "@beacon", "work_item_id": "@quiet", "name": "quiet-hours",
            "path": "/home/ada/code/beacon/quiet-hours", "host": "workbench", "branch_name": "feat/quiet-hours"}', null),
        ('6 hours', 'claude-7', 'work_claim', 'quiet', '{"agent_id": "claude-7", "ttl_seconds": 86400}', null),
        ('5 hours', 'claude-7', 'work_git_state_update', 'quiet',
          '{"has_uncommitted_changes": true, "uncommitted_files_count": 2, "ahead_of_trunk": 1,
            "last_commit_hash": "48c3d90ae7b1f652c0e9d4738a15fb62d07e9c35", "last_commit_message": "Keep still at night"}',
            null),
        ('5 hours', 'claude-7', 'activity_report', null,
          '[{"id": "@uuid", "work_item_id": "@quiet", "activity_type": "file_change", "path": "beacon/schedule.py",
            "details": {"lines_changed": 31}}]', null),
        ('4 hours', 'reviewer-1', 'work_start', null,
          '{"project_id": "@atlas", "branch_name": "review/offline-maps", "work_type": "review"}', 'review'),
        ('4 hours', 'reviewer-1', 'work_claim', 'review', '{"agent_id": "reviewer-1"}', null),
        ('3 hours', 'reviewer-1', 'work_release', 'review', '{"agent_id": "reviewer-1"}', null),
        ('2 hours', 'bmad', 'event_publish', null,
          '{"event_type": "bmad.workflow.handoff.requested", "correlation_ids": ["@accepted_2"],
            "payload": {"workflow_id": "b35a9e07-1f64-4c2d-8e70-c4d9a81f5b23", "from_agent": "coder", "to_agent": "tester",
            "task": "Walk the hills", "context": {}}}', null)
    ) as story (ago, actor, function, subject, body, name)
  loop
    perform set_config('imi.now', (v_now - v_step.ago)::text, true);
    v_body := v_step.body;
    for v_known in select key, value from jsonb_each_text(v_ids || jsonb_build_object('uuid', gen_random_uuid())) loop
      v_body := replace(v_body, '"@' || v_known.key || '"', to_json(v_known.value)::text);
    end loop;
    v_cause := v_body::jsonb ->> 'caused_by';
    execute format('select to_jsonb(reply) from api.%I(%s) as reply', v_step.function,
      case when v_step.subject is null then '$2, $3' when v_body is null then '$1, $3' else '$1, $2, $3' end)
    into v_reply
    using (v_ids ->> v_step.subject)::uuid, (v_body::jsonb - 'caused_by')::json, json_build_object(
      'actor', v_step.actor, 'agent_id', v_step.actor, 'scope', 'write', 'host', 'sample',
      'correlation_ids', array_remove(array[v_cause], null));
    if v_step.name is not null then
      v_reply := coalesce(v_reply -> 'body', v_reply);
      v_ids := v_ids || jsonb_build_object(v_step.name, coalesce(v_reply ->> 'id', v_reply ->> 'event_id'));
    end if;
  end loop;
  perform set_config('imi.now', '', true);

  update imi.agents as agent
  set name = given.name, type = given.type
  from (
    values
      ('ada', 'Ada', 'human'), ('grace', 'Grace', 'human'), ('claude-7', 'Claude 7', 'ai_code_writer'),
      ('codex-2', 'Codex 2', 'ai_code_writer'), ('reviewer-1', 'Reviewer 1', 'ai_reviewer'),
      ('pipeline', 'Pipeline', 'service')
  ) as given (id, name, type)
  where agent.id = given.id and agent.type is null;

  insert into bloodbank.dead_letters (source, raw, reason, attempts, first_failed_at, last_failed_at, replayed_at)
  values (
    'intake', convert_to('{"event_type": "git.push", "payload": {"branch": "main"}', 'UTF8'), 'is not JSON', 1,
    v_now - interval '10 days', v_now - interval '10 days', v_now - interval '9 days');
end
$$;
