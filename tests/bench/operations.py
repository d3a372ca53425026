"""What is measured: operations of the API, how pgbench calls the same function, and the goals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """`name` is the request in load.lua, `script` pgbench's; `stories` says whether the stories' stack has it."""

    name: str
    title: str
    script: str
    stories: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """How much there is (seed.sql): ten work items a project, 50 in flight in each busy project."""

    projects: int = 10_000
    busy: int = 60


PROJECT = "\\set n random(1, :projects)\n"
BUSY = "\\set n random(1, :busy)\n"
ITEM = "\\set n random(1, 10 * :projects)\n"
FLYING = "\\set n random(10 * :projects - 50 * :busy + 1, 10 * :projects)\n"
ANY = "\\set v random(1, 2000000000)\n"
OWNER = "\\set n random(0, 199)\n"
CONTEXT = """'{"actor": "bench", "scope": "admin", "host": "bench", "correlation_ids": []}'"""
REPORT = (
    "json_build_object('ahead_of_trunk', :v::int, 'last_commit_hash', md5(:v::int::text), "
    "'last_commit_message', 'Change number ' || :v::int)"
)

OPERATIONS = (
    Operation("project", "project by id", f"{PROJECT}select * from api.project_get(bench.id(8000, :n));", True),
    Operation(
        "origin", "project by remote",
        PROJECT + "select * from api.project_by_origin('https://github.com/acme/service-' || :n::int);", True,
    ),
    Operation("work", "work item by id", f"{ITEM}select * from api.work_get(bench.id(9000, :n));", True),
    Operation("owner", "work of an owner (50 of 500 rows)", f"{OWNER}select api.work_list(p_owner_id => 'agent-' || :n::int, p_limit => 50);"),
    Operation(
        "inflight", "in flight in a project (50 rows)",
        f"{BUSY}select api.work_inflight(p_project_id => bench.id(8000, :n), p_limit => 50);", True,
    ),
    Operation("everything", "in flight everywhere (50 of 3,000 rows)", "select api.work_inflight(p_limit => 50);", True),
    Operation("ticket", "trace of a ticket", f"{ITEM}select * from api.trace_get('ticket', 'RKT-' || (:n::int + 1) / 2);", True),
    Operation("commit", "trace of a commit", f"{ITEM}select * from api.trace_get('commit', bench.commit(:n));"),
    Operation("events", "events of a type (50 rows)", "select * from api.event_list(p_event_type => 'git.commit.pushed', p_limit => 50);"),
    Operation("stats", "stats", "select api.stats_get();"),
    Operation(
        "register", "register a known project",
        PROJECT + "select * from api.project_register(json_build_object('remote_origin', "
        f"'https://github.com/acme/service-' || :n::int), {CONTEXT});",
    ),
    Operation(
        "git_state", "git state and its event, changed each time",
        f"{FLYING}{ANY}select api.work_git_state_update(bench.id(9000, :n), {REPORT}, {CONTEXT});", True,
    ),
)  # fmt: skip

# How many times the requests/s of the stories' stack; and of the empty answer.
TIMES_STORIES = {"project": 12.0, "inflight": 8.0, "git_state": 3.0}
TIMES_EMPTY = {"project": 0.5}
# With 50 clients: p95 in milliseconds.
CLIENTS = 50
P95 = {"project": 10.0, "inflight": 25.0, "everything": 25.0, "ticket": 50.0, "commit": 50.0}
