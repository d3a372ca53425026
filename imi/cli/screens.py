"""Where `imi monitor` writes when nobody looks at a terminal: lines of JSON, or a log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from imi.cli.command import print_json
from imi.worktrees.report import text

if TYPE_CHECKING:
    from imi.worktrees.monitor import Monitor
    from imi.worktrees.overlaps import Overlap
    from imi.worktrees.watching import Change


class Screen(Protocol):
    """Where changes, warnings and notes go; used as a context."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *exception: object) -> None: ...

    def show(self, changes: Iterable[Change]) -> None:
        """Files changed."""

    def warn(self, overlaps: list[Overlap]) -> None:
        """Two have touched the same files."""

    def say(self, sentence: str) -> None:
        """Something went wrong, or is well again."""


class Lines:
    """A line of JSON for each."""

    def __init__(self, made: Monitor) -> None:
        self.made = made

    def __enter__(self) -> Lines:
        roots = [text(root) for root in self.made.roster.watched]
        print_json({"type": "watching", "worktrees": roots, "reports": self.made.reports()})
        return self

    def __exit__(self, *exception: object) -> None:
        return

    def show(self, changes: Iterable[Change]) -> None:
        """Changes of files; of git's state nothing."""
        from imi.cli.live import DONE

        for each in changes:
            if each.kind in DONE:
                print_json(
                    {
                        "type": "change",
                        "at": each.moment.isoformat(),
                        "worktree": text(each.worktree),
                        "path": text(each.path),
                        "change": each.kind,
                        "agent_id": self.made.agent(each.worktree),
                    }
                )

    def warn(self, overlaps: list[Overlap]) -> None:
        """One a file and pair."""
        for each in overlaps:
            touches = [
                {"at": touch.at.isoformat(), "agent_id": touch.agent, "worktree": touch.name}
                for touch in (each.first, each.last)
            ]
            project = text(self.made.roster.listed[each.repository].project.root)
            warning = {"type": "warning", "project": project, "path": text(each.path)}
            print_json(warning | {"touches": touches})

    def say(self, sentence: str) -> None:
        """What went wrong, or is well again."""
        print_json({"type": "note", "message": sentence})


class Log:
    """A log line for each warning and note; changes are not kept."""

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *exception: object) -> None:
        return

    def show(self, changes: Iterable[Change]) -> None:
        """Nobody looks."""

    def warn(self, overlaps: list[Overlap]) -> None:
        """One a file and pair."""
        from imi.worktrees.overlaps import sentences

        for sentence in sentences(overlaps):
            self.say(sentence)

    def say(self, sentence: str) -> None:
        """What went wrong, or is well again."""
        import logging

        logging.getLogger("imi.monitor").warning("%s", sentence)
