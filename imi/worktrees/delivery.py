"""Delivery: reports reach the server at once when it answers, else with the next command, each once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from imi.cli.client import Api
from imi.cli.outcome import CONFLICT, NOT_FOUND, USAGE, Failure
from imi.worktrees import parallel, spool
from imi.worktrees.report import KINDS, Send, branch
from imi.worktrees.spool import Report

AT_ONCE = 16
LATER = ("USAGE", "UNAUTHENTICATED", "FORBIDDEN", "TOO_MANY_REQUESTS")
"""Refusals that say nothing against the report: of this command's options, or of who sent it when."""


def tell(api: Api, kind: str, body: dict[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """Report something, after all that waits. Answers what the server said to it (None: not yet, or another
    process delivered it), and sentences for people."""
    answers, notes = tell_all(api, [(kind, body)])
    return (answers[0] if answers else None), notes


def tell_all(
    api: Api, told: list[tuple[str, dict[str, Any]]]
) -> tuple[list[dict[str, Any] | None], list[str]]:
    """The same for several reports, each (kind, body); the answers in their order."""
    reports = [spool.made(api.actor, kind, body) for kind, body in told]
    try:
        for batch in _batches(reports):  # a file each: what was told alone is not told again after a kill
            spool.put(batch)
    except OSError as error:
        return [], [f"the server was not told: cannot write to {spool.folder()}: {error.strerror}"]
    answers, notes = deliver(api)
    return [answers.get(report.id) for report in reports], notes


def deliver(api: Api) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Deliver what waits, oldest first. Answers the server's answers by report id, and sentences."""
    delivery = _Delivery(api)
    try:
        if spool.waiting():
            with spool.delivering() as held:
                if held:
                    delivery.deliver()
                else:
                    delivery.notes.append(
                        "another process has been delivering for half a minute; the report is kept"
                    )
    except OSError as error:  # the server's are Failures
        why = f"cannot write to {spool.folder()}: {error.strerror or error}"
        delivery.notes.append(f"reports wait that the server was not told: {why}")
    return delivery.answers, delivery.notes


class _Delivery:
    """One delivery: the server's answers by report id, and sentences for people."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.answers: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.projects: dict[str, Any] = {}
        self.settled: set[str] = set()  # of the file that is being delivered
        self.failure: Failure | None = None  # one that says nothing of the report it met

    def deliver(self) -> None:
        """Deliver file after file, until the server has no answer."""
        for file in spool.waiting():
            self._deliver_file(file)
            if self.failure:
                kept = spool.count()
                what = f"{kept} reports are" if kept > 1 else "the report is"
                why = self.failure.message
                self.notes.append(f"{why}; {what} kept for the next command or `imi reconcile`")
                return

    def _deliver_file(self, file: Path) -> None:
        """Deliver a file's reports; what is settled leaves it."""
        try:
            reports = spool.read(file)
        except ValueError:
            self.notes.append(f"no report that this version can send, kept as {spool.refuse(file)}")
            return
        self.settled.clear()
        try:
            for batch in _batches(reports):
                with closing(parallel.run(partial(self._deliver_report, file), batch, AT_ONCE)) as outcomes:
                    for _ in outcomes:
                        self.api.bar.show("reporting", len(self.settled), len(reports))
                if self.failure:
                    return
        finally:
            if self.settled:
                spool.leave(file, [each for each in reports if each.id not in self.settled])

    def _deliver_report(self, file: Path, report: Report) -> None:
        """Deliver one report, unless a failure has said nothing of another: then they all wait."""
        if self.failure:
            return
        try:
            self.answers[report.id] = KINDS[report.kind](self._sender(report), report)
        except (ValueError, KeyError, TypeError, AttributeError):
            aside = spool.refuse(file, report)
            self.notes.append(f"no report that this version can send, kept as {aside}")
        except Failure as failure:
            if not _is_final(failure):
                self.failure = failure
                return
            what = f"{failure.message}; {failure.hint}" if failure.hint else failure.message
            self.notes.append(f"the server refused a report: {what}; kept as {spool.refuse(file, report)}")
        self.settled.add(report.id)

    def _sender(self, report: Report) -> Send:
        """Sends a report's requests, each with a key made of the report's id, in the name of who acted then.
        What was told of a project is kept: a thousand reports may name the same one."""

        def send(method: str, path: str, body: Any) -> Any:
            question = f"{method} {path} {body}" if path.startswith("/projects") else ""
            if question in self.projects:
                return self.projects[question]
            headers = {"X-Agent-Id": report.actor}
            if method == "POST":
                headers["Idempotency-Key"] = str(uuid.uuid5(uuid.UUID(report.id), path))
            if method == "GET":
                "".join(map(str, body.values())).encode()  # no URL says what is not UTF-8: a ValueError
                answer = self.api.get(path, **body)
            else:
                answer = self.api.call(method, path, body or None, headers=headers).data
            if question:
                self.projects[question] = answer
            return answer

        return send


def _batches(reports: list[Report]) -> Iterator[list[Report]]:
    """Batches of reports that may be sent side by side: of different branches. Any other has its turn alone:
    the place that it takes away may be the next one's."""
    batch: list[Report] = []
    told: set[str | None] = set()
    for report in reports:
        named = branch(report)
        if batch and (named is None or told & {None, named}):
            yield batch
            batch, told = [], set()
        batch.append(report)
        told.add(named)
    if batch:
        yield batch


def _is_final(failure: Failure) -> bool:
    """Whether the server would never take it, whoever sends it and whenever."""
    return failure.code not in LATER and failure.exit_code in (USAGE, NOT_FOUND, CONFLICT)
