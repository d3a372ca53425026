"""Events as a team's machines publish them, about 600 bytes each, the same every time.

Half of them are for one of the five subscriptions, half of them name a cause. Their repositories are the ones of
SEED, where a fifth of their branches has a work item.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from typing import Any

import orjson

PROJECTS, BRANCHES, WORKED_ON = 50, 20, 4
SEED = f"""
do $$
declare
  v_project json;
begin
  for n in 0 .. {PROJECTS - 1} loop
    select body into v_project
    from api.project_register(json_build_object('remote_origin', 'https://github.com/acme/service-' || n), '{{}}');
    perform api.work_start(json_build_object(
      'project_id', v_project ->> 'id', 'branch_name', 'feat/change-' || branch, 'owner_id', 'ada'), '{{}}')
    from generate_series(0, {WORKED_ON - 1}) as branch;
  end loop;
end
$$
"""
TYPES = (
    *("tool.mutation.edit", "tool.mutation.edit", "tool.mutation.write", "tool.mutation.bash"),
    *("git.push", "git.push", "git.pr.opened", "plane.ticket.updated", "ci.deploy.completed", "imi.cmd.register_project"),
    *("llm.prompt.sent", "llm.response.received", "llm.tool.called", "session.thread.message", "agent.state.changed"),
    *("artifact.created", "transcript.ready", "build.step.finished", "review.comment.added", "host.load.measured"),
)  # fmt: skip
TEXT = (
    "Keep the lease until the branch is merged; the runner asks for it again when the work item moves, and says so in "
    "the log. A retry sends the same id, so nothing is done twice."
)


@dataclass(frozen=True, slots=True)
class Event:
    """`body` is the envelope as it travels."""

    id: str
    type: str
    body: bytes


def events(count: int, seed: int = 1) -> list[Event]:
    """So many, with a mix of types."""
    chance = random.Random(seed)
    made: list[Event] = []
    for _ in range(count):
        event_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        event_type = chance.choice(TYPES)
        causes = [made[-1].id] if made and chance.random() < 0.5 else []
        made.append(Event(event_id, event_type, orjson.dumps(envelope(event_id, event_type, causes, chance))))
    return made


def envelope(event_id: str, event_type: str, causes: list[str], chance: random.Random) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "event_type": event_type,
        "timestamp": f"2026-03-{chance.randint(1, 28):02}T{chance.randint(0, 23):02}:{chance.randint(0, 59):02}:07.123456Z",
        "version": "1.0.0",
        "source": {"host": f"builder-{chance.randint(0, 7)}", "type": "agent", "app": "hooks"},
        "correlation_ids": causes,
        "agent_context": {
            "type": "claude-code",
            "name": "ada",
            "instance_id": f"{chance.getrandbits(64):016x}",
        },
        "payload": payload(event_type, chance),
    }


def payload(event_type: str, chance: random.Random) -> dict[str, Any]:
    remote = f"https://github.com/acme/service-{chance.randrange(PROJECTS)}"
    branch = f"feat/change-{chance.randrange(BRANCHES)}"
    commit = f"{chance.getrandbits(160):040x}"
    number = chance.randint(1, 999)
    match event_type.split("."):
        case ["tool", "mutation", tool]:
            return {
                "tool_name": tool, "agent_id": "ada", "lines_changed": number, "file_path": f"src/module_{number}.py", "summary": TEXT[:90],
                "repo": {"git_root": "/srv/work/service", "branch": branch, "head_sha": commit, "remote_url": remote},
            }  # fmt: skip
        case ["git", "push"]:
            change = {
                "id": commit,
                "message": TEXT[:90],
                "author": "ada",
                "timestamp": "2026-03-01T10:00:00Z",
            }
            return {
                "repository": {"remote_url": remote},
                "branch": branch,
                "after": commit,
                "commits": [change],
            }
        case ["git", "pr", _]:
            return {
                "repository": {"remote_url": remote}, "number": number, "url": f"{remote}/pull/{number}",
                "title": TEXT[:90], "head_branch": branch, "base_branch": "main",
            }  # fmt: skip
        case ["plane", *_]:
            ticket = f"RKT-{number}"
            return {
                "ticket_id": ticket,
                "title": TEXT[:120],
                "url": f"https://plane.example/acme/{ticket}",
                "state": "In Progress",
                "project": "RKT",
            }
        case ["ci", *_]:
            return {
                "deploy_id": f"deploy-{commit[:12]}", "environment": "production", "commit_hash": commit, "repository": remote,
                "deployed_at": "2026-03-01T10:00:00Z", "log": TEXT[:90],
            }  # fmt: skip
        case ["imi", *_]:
            return {"remote_origin": remote, "name": remote.rpartition("/")[2], "description": TEXT[:120]}
    return {
        "thread": commit,
        "number": number,
        "text": TEXT,
        "tokens": {"input": number, "output": number * 3},
    }
