"""Delivery: reports reach the server at once when it answers, else with the next command, each once."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from imi.cli.client import Api
from imi.cli.outcome import CONFLICT, NOT_FOUND, USAGE, Failure
from imi.worktrees import spool
from imi.worktrees.report import KINDS, Send
from imi.worktrees.spool import Report

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
        for report in reports:
            spool.put(report)
    except OSError as error:
        return [], [f"the server was not told: cannot write to {spool.folder()}: {error.strerror}"]
    answers, notes = deliver(api)
    return [answers.get(report.id) for report in reports], notes


def deliver(api: Api) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Deliver what waits, oldest first. Answers the server's answers by report id, and sentences."""
    answers: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    try:
        if spool.waiting():
            with spool.delivering() as held:
                if held:
                    _deliver(api, spool.waiting(), answers, notes)
                else:
                    notes.append("another process has been delivering for half a minute; the report is kept")
    except OSError as error:  # the server's are Failures
        why = error.strerror or error
        notes.append(f"reports wait that the server was not told: cannot write to {spool.folder()}: {why}")
    return answers, notes


def _deliver(api: Api, files: list[Path], answers: dict[str, dict[str, Any]], notes: list[str]) -> None:
    projects: dict[str, Any] = {}
    for done, file in enumerate(files):
        api.bar.show("reporting", done, len(files))
        try:
            report = spool.read(file)
            answers[report.id] = KINDS[report.kind](_send(api, report, projects), report)
        except (ValueError, KeyError, TypeError, AttributeError):
            notes.append(f"no report that this version can send, kept as {spool.refuse(file)}")
        except Failure as failure:
            if not _is_final(failure):
                kept = len(spool.waiting())
                what = f"{kept} reports are" if kept > 1 else "the report is"
                notes.append(f"{failure.message}; {what} kept for the next command or `imi reconcile`")
                return
            what = f"; {failure.hint}" if failure.hint else ""
            notes.append(
                f"the server refused a report: {failure.message}{what}; kept as {spool.refuse(file)}"
            )
        else:
            spool.done(file)


def _is_final(failure: Failure) -> bool:
    """Whether the server would never take it, whoever sends it and whenever."""
    return failure.code not in LATER and failure.exit_code in (USAGE, NOT_FOUND, CONFLICT)


def _send(api: Api, report: Report, projects: dict[str, Any]) -> Send:
    """Sends a report's requests, each with a key made of the report's id, in the name of who acted then. What
    it was told of a project is kept in `projects`: a thousand reports may name the same one."""

    def send(method: str, path: str, body: Any) -> Any:
        question = f"{method} {path} {body}" if path.startswith("/projects") else ""
        if question in projects:
            return projects[question]
        headers = {"X-Agent-Id": report.actor}
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid5(uuid.UUID(report.id), path))
        if method == "GET":
            "".join(map(str, body.values())).encode()  # no URL says what is not UTF-8: a ValueError
            answer = api.get(path, **body)
        else:
            answer = api.call(method, path, body or None, headers=headers).data
        if question:
            projects[question] = answer
        return answer

    return send
