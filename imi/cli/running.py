"""`imi run`: a command that holds the lease on its worktree's work while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli import claiming, claims
from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.outcome import CONFLICT, UNREACHABLE, Failure
from imi.cli.render import moment, note
from imi.worktrees import spool
from imi.worktrees.layout import Project

app = group("Commands that hold the lease on their worktree.")

SHARE = 3
"""A lease is renewed when a third of it is over, so that one failure or two do no harm."""
PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
LEFT_TO_IT = (signal.SIGINT, signal.SIGQUIT)
"""The terminal sends these to the command as well."""
NOT_RUN, NOT_THERE = 126, 127


class Lease:
    """The claim of the agent on a work item, kept up by a thread. One that the agent held before is kept
    afterwards too."""

    def __init__(self, api: Api, item_id: str, ttl: int) -> None:
        self.api, self.ttl = api, ttl
        before = api.get(f"/work/{item_id}")["claim"]
        self.was_held = bool(before) and before["agent_id"] == api.actor
        self.item = claims.claim(api, item_id, ttl)
        if self.was_held:
            self.item = self._renewed()
        self.is_lost = False
        self.is_said = False
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._keep, daemon=True)
        self.thread.start()

    def end(self) -> list[str]:
        """Give it back; sentences about what went wrong."""
        self.ended.set()
        self.thread.join()
        if self.is_lost or self.was_held:
            return []
        try:
            claims.release(self.api, self.item["id"], self.item["claim"]["fencing_token"])
        except Failure as failure:
            until = moment(self.item["claim"]["lease_until"])
            return [f"the lease was not given back and ends by itself, {until}: {failure.message}"]
        return []

    def _keep(self) -> None:
        while not self.is_lost and not self.ended.wait(self.ttl / SHARE):
            try:
                self.item = self._renewed()
                self.is_said = False
            except Failure as failure:
                if failure.exit_code == CONFLICT:
                    self._again()
                elif not self.is_said:
                    self.is_said = True
                    until = moment(self.item["claim"]["lease_until"])
                    note(f"imi run: the lease holds until {until}: {failure.message}", style="bold red")

    def _again(self) -> None:
        """It has run out, as over a night's sleep, or was given away: take it again if nobody else has."""
        try:
            self.item = claims.claim(self.api, self.item["id"], self.ttl)
            note("imi run: the lease had run out, and is taken again", style="bold red")
        except Failure as failure:
            self.is_lost = failure.exit_code == CONFLICT
            if self.is_lost:
                note(f"imi run: THE LEASE IS LOST: {failure.message}; the command goes on", style="bold red")

    def _renewed(self) -> dict[str, Any]:
        return claims.prolong(self.api, self.item, self.ttl)


@command(
    app,
    "run",
    example="imi run --agent claude-7 -- make test",
    show=lambda data: None,
    failed=lambda data: data["exit_code"],
)
def run(
    api: Api,
    context: typer.Context,
    arguments: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND [ARGUMENT…]", help="What to run.", show_default=False)
    ],
    ttl: claims.Ttl = 1800,
) -> Any:
    """Run a command that holds the lease on the work of the worktree here, and exit as it does.

    The command gets IMI_AGENT and IMI_WORK_ITEM, this terminal and its signals. The lease is renewed as long
    as it runs and given back when it ends; its end is reported as an activity: the program's name, the exit
    code and the seconds. Refused (exit 4) while another holds the lease; without the server it runs
    unclaimed. A lease that was lost is said on stderr, and the command goes on. If imi run itself is killed
    (-9), the lease ends by itself. Exit codes 126 and 127: it cannot be run, or is not there.

    With --json the command's output goes to stderr: {exit_code, seconds, work_item_id, claim, notes}.
    """
    api.prepare()
    as_json = bool(context.params["as_json"])
    project, worktree = claiming.named(None)
    notes: list[str] = []
    lease: Lease | None = None
    try:
        if project.remote is None:
            notes.append("it is not claimed: the server does not know a project without a remote")
        else:
            item_id, notes = claiming.work_item(api, project, worktree)
            lease = Lease(api, item_id, ttl)
    except Failure as failure:
        if failure.exit_code != UNREACHABLE:
            raise
        notes.append(f"it is not claimed, and its end is reported later: {failure.message}")
    if not as_json:
        _say(notes)
    environment = _environment(api, lease)
    api.bar.end()
    began = time.monotonic()
    with _signals() as received:
        try:
            code = _run(arguments, environment, sys.stderr if as_json else None, received)
            seconds = round(time.monotonic() - began, 3)
        finally:
            ended = lease.end() if lease else []
        branch = lease.item["branch_name"] if lease else worktree.branch
        details = {"program": Path(arguments[0]).name, "exit_code": code, "seconds": seconds}
        told = _report(api, project, branch, details)
    ended += told if lease or not spool.waiting() else []  # that the server is away was said
    if not as_json:
        _say(ended)
    return {
        "exit_code": code,
        "seconds": seconds,
        "work_item_id": lease and lease.item["id"],
        "claim": lease and lease.item["claim"],
        "notes": notes + ended,
    }


def _say(notes: list[str]) -> None:
    for sentence in notes:
        note(f"imi run: {sentence}")


def _report(api: Api, project: Project, branch: str | None, details: dict[str, Any]) -> list[str]:
    from imi.worktrees import delivery, report

    if project.remote is None or branch is None:
        return []
    now = datetime.now(UTC).isoformat()
    done = {"id": str(uuid.uuid4()), "activity_type": "command", "occurred_at": now, "details": details}
    return delivery.tell(api, "activities", report.activities_body(project, branch, [done]))[1]


def _environment(api: Api, lease: Lease | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "IMI_WORK_ITEM"}
    return inherited | {"IMI_AGENT": api.actor} | ({"IMI_WORK_ITEM": lease.item["id"]} if lease else {})


def _run(arguments: Sequence[str], environment: dict[str, str], output: Any, received: _Received) -> int:
    """The command's exit code, as a shell tells it."""
    try:
        child = subprocess.Popen(arguments, env=environment, stdout=output)
    except OSError as error:
        note(f"imi run: {arguments[0]}: {error.strerror}", style="bold red")
        return NOT_THERE if isinstance(error, FileNotFoundError) else NOT_RUN
    received.to(child)
    code = child.wait()
    return code if code >= 0 else 128 - code


class _Received:
    """Signals for the command, kept until there is one."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.numbers: list[int] = []

    def __call__(self, number: int, frame: object) -> None:
        if self.child:
            self.child.send_signal(number)
        else:
            self.numbers.append(number)

    def to(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        for number in self.numbers:
            child.send_signal(number)


@contextmanager
def _signals() -> Iterator[_Received]:
    received = _Received()
    before = {number: signal.signal(number, received) for number in PASSED_ON}
    before |= {number: signal.signal(number, lambda *_: None) for number in LEFT_TO_IT}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
