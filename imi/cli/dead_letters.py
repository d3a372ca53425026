"""`imi dead-letters`: what could not be stored or handled, and trying it once more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from imi.cli.arguments import Everything, LetterSource, Limit, Offset, OlderThan, Ternary, given
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.outcome import CONFLICT, NOT_FOUND, Failure, usage
from imi.cli.render import Column, age, moment, page, record

app = group("What could not be stored or handled. All of it needs a key of scope admin.")

NAMES = ("id", "source", "subscription", "event_id", "event_type", "raw_bytes")

Source = Annotated[LetterSource | None, typer.Option(help="Where it failed.")]
Type = Annotated[
    str | None, typer.Option("--type", help="Of this event type; * is one word, # zero or more.")
]
Reason = Annotated[str | None, typer.Option(help="Part of the reason.")]
Subscription = Annotated[str | None, typer.Option(help="Whose handler failed.")]


def _filters(
    source: str | None,
    event_type: str | None,
    reason: str | None,
    subscription: str | None,
    older_than: timedelta | None,
) -> dict[str, Any]:
    """The query that the options mean: {} for none."""
    before = None if older_than is None else (datetime.now(UTC) - older_than).isoformat()
    return given(
        source=source, event_type=event_type, reason=reason, subscription=subscription, before=before
    )


def _what(letter: Any) -> str:
    """An event by its type, or by its id when it has left the log; a message by its size."""
    name = letter["event_type"] or letter["event_id"] or f"{letter['raw_bytes']} bytes"
    return f"{letter['subscription']}: {name}" if letter["subscription"] else name


def _short(letter: Any) -> str:
    reason = str(letter["reason"])
    return reason if len(reason) <= 100 else f"{reason[:99]}…"


def _age(letter: Any) -> str:
    failed_at = datetime.fromisoformat(letter["last_failed_at"])
    return age(max(0, (datetime.now(UTC) - failed_at).total_seconds()))


_show_page = page(
    Column("id", "id"),
    Column("source", "source", wide=120),
    Column("what", _what, cut=True),
    Column("reason", _short, cut=True),
    Column("tries", "attempts", wide=100, right=True),
    Column("age", _age, right=True),
    Column("replayed", lambda letter: moment(letter["replayed_at"]), rare=True),
)


@command(app, "list", example="imi dead-letters list --type 'imi.work.#' --older-than 2h", show=_show_page)
def list_(
    api: Api,
    source: Source = None,
    event_type: Type = None,
    reason: Reason = None,
    subscription: Subscription = None,
    older_than: OlderThan = None,
    replayed: Annotated[
        Ternary, typer.Option(help="Those that wait (false), that were replayed (true), or all.")
    ] = "false",
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List dead letters, last failed first."""
    query = _filters(source, event_type, reason, subscription, older_than)
    return api.list("/dead-letters", everything, limit, offset, replayed=replayed, **query)


@command(app, "show", example="imi dead-letters show 01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10", show=record)
def show(api: Api, letter: Annotated[str, typer.Argument(metavar="ID", help="Its id, from `list`.")]) -> Any:
    """Show a dead letter with all that came."""
    return api.get(f"/dead-letters/{segment(letter)}")


def _show_replayed(summary: dict[str, Any]) -> str:
    lines = []
    for each in summary["items"]:
        words = [each["outcome"] or _what(each), *([_short(each)] if each["reason"] else [])]
        lines.append(f"{each['id']}  {': '.join(words)}")
    counts = f"{summary['replayed']} replayed, {summary['failed']} failed"
    return "\n".join([*lines, f"would replay {len(lines)}" if summary["dry_run"] else counts])


@command(
    app,
    "replay",
    example="imi dead-letters replay --subscription ours.merges --dry-run",
    show=_show_replayed,
    failed=lambda summary: summary["failed"] > 0,
)
def replay(
    api: Api,
    letters: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Their ids.")] = None,
    source: Source = None,
    event_type: Type = None,
    reason: Reason = None,
    subscription: Subscription = None,
    older_than: OlderThan = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which.")] = False,
    rate: Annotated[int, typer.Option(min=1, help="The most in a second.")] = 10,
) -> Any:
    """Try dead letters once more: those named, or all waiting ones that the options choose.

    A subscription's handler gets its event again, and so does a queue whose subscriber rejected it; a
    message from the bus is judged again, and a workflow's event is projected once more. The one that waits
    longest is first. One that fails keeps its place with the new reason, and the others go on; the exit code
    is then 1.
    """
    query = _filters(source, event_type, reason, subscription, older_than)
    if bool(letters) == bool(query):
        usage(
            "ids and options at once" if letters else "which dead letters?",
            "give ids (imi dead-letters list shows them), or one or more of --source, --type, --reason, "
            "--subscription and --older-than",
        )
    if letters:
        found = [api.get(f"/dead-letters/{segment(each)}") for each in dict.fromkeys(letters)]
    else:
        found = [*api.all("/dead-letters", **query)][::-1]
    items = [*_tried(api, found, 0 if dry_run else rate)]
    outcomes = [each["outcome"] for each in items]
    return {
        "dry_run": dry_run,
        "replayed": outcomes.count("replayed"),
        "failed": outcomes.count("failed"),
        "items": items,
    }


def _tried(api: Api, letters: list[dict[str, Any]], rate: int) -> Iterator[dict[str, Any]]:
    """Each letter with its `outcome`, and the `reason` if it still waits; rate 0 tries none."""
    begun = time.monotonic()
    for done, letter in enumerate(letters):
        outcome, reason = None, letter["reason"]
        if rate:
            api.bar.show("replaying", done, len(letters))
            time.sleep(max(0.0, begun + done / rate - time.monotonic()))
            try:
                api.post(f"/dead-letters/{letter['id']}/replay", None)
                outcome, reason = "replayed", None
            except Failure as failure:
                if not _is_its_own(failure):
                    raise
                if "replayed_at" in failure.params and not letter["replayed_at"]:  # somebody else was quicker
                    outcome, reason = "replayed", None
                else:
                    outcome, reason = "failed", failure.params.get("reason") or failure.message
        named = {name: letter[name] for name in NAMES}
        yield {**named, "outcome": outcome, "reason": reason}


def _is_its_own(failure: Failure) -> bool:
    """Whether a failure is of this letter, so that the next may fare better: a handler out of time counts."""
    if failure.code in ("UNAUTHENTICATED", "FORBIDDEN", "TOO_MANY_REQUESTS"):
        return False
    return failure.exit_code in (CONFLICT, NOT_FOUND) or failure.code == "UNAVAILABLE"
