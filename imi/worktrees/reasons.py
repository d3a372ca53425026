"""What stands against the removal of a worktree: every reason, each a phrase for people."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from imi.cli.client import Api
from imi.cli.outcome import UNREACHABLE, Failure
from imi.worktrees import facts, git, gitdirs, merged, registry, sync, trunk, unseen
from imi.worktrees.facts import Facts
from imi.worktrees.git import Ref
from imi.worktrees.layout import Project, Worktree
from imi.worktrees.merged import Verdict
from imi.worktrees.trunk import HEADS

STARTED = ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
"""Where git writes the branch that a rebase or a bisect began on."""


class Process(NamedTuple):
    """A running process and its working folder."""

    pid: int
    name: str
    folder: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the server says of a branch: its newest work item, None when it has none. Not `is_known`: it could
    not be asked, `note` says why."""

    item: dict[str, Any] | None = None
    is_known: bool = True
    note: str | None = None

    @property
    def holder(self) -> str | None:
        """Who claims it."""
        claim = self.item and self.item["claim"]
        return str(claim["agent_id"]) if claim else None

    @property
    def merged_at(self) -> datetime | None:
        """When a pull request of it was merged."""
        item = self.item or {"links": {"prs": []}}
        times = [pr["updated_at"] for pr in item["links"]["prs"] if pr["pr_state"] == "merged"]
        if times and item.get("completion_type") == "merged":  # later changes of the link bring no commits
            times = [item["completed_at"]]
        return max(map(datetime.fromisoformat, times), default=None)


Ask = Callable[[str | None], Known]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a worktree stands, for its removal. `branch` is also one that a rebase took off HEAD, and `tip` its
    commit. `never` is why it cannot be removed at all, `reasons` are what --force overrides."""

    facts: Facts
    branch: str | None
    tip: str | None
    verdict: Verdict
    known: Known
    never: tuple[str, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


def asking(api: Api, project: Project) -> Ask:
    """Asks the server about branches of the project; where it cannot be reached, only once."""
    registered: dict[str, Any] | None = None
    away: Failure | None = None

    def ask(branch: str | None) -> Known:
        nonlocal registered, away
        if branch is None:
            return Known()
        try:
            if away:
                raise away
            registered = registered or registry.project(api, project)
            found = registry.newest(api, registered["id"], branch) if registered else None
            return Known(api.get(f"/work/{found['id']}") if found else None)
        except Failure as failure:
            away = failure if failure.exit_code == UNREACHABLE else None
            why = "the server cannot be reached" if away else failure.message
            return Known(None, False, f"who claims it is unknown: {why}")

    return ask


def processes() -> list[Process]:
    """The processes but this one, and where each stands; those that this user may not see are missing."""
    import psutil  # type: ignore[import-untyped]

    listed = (each.info for each in psutil.process_iter(["pid", "name", "cwd"]))
    return [
        Process(info["pid"], info["name"] or "?", info["cwd"])
        for info in listed
        if info["cwd"] and info["pid"] != os.getpid()
    ]


def of(
    project: Project, worktree: Worktree, actor: str, ask: Ask, running: Callable[[], Sequence[Process]]
) -> Standing:
    """How a worktree stands. GitError says why it cannot be read."""
    path = worktree.path
    trunks = trunk.refs(project)
    links = sync.linked(project, path)
    now = facts.read(path, trunks[0].commit if trunks else None, links)
    branch = now.branch or _begun_on(path)
    tips = {ref.name: ref.commit for ref in git.refs(project.repository, HEADS + branch)} if branch else {}
    tip = tips.get(f"{HEADS}{branch}")
    branch = branch if tip else now.branch  # a bisect may have begun on a commit
    known = ask(branch)
    whole = f"{HEADS}{branch}" if tip else now.commit.hash if now.commit else None
    verdict = _judge(project.repository, whole, trunks, known.merged_at)
    reasons = [*_files(now), *_commits(project, now, whole, verdict)]
    hidden = len(unseen.files(path, links))
    if hidden:
        told = "that git was told not to look at"
        reasons.append(_count(hidden, f"file {told} is changed", f"files {told} are changed"))
    inner = facts.unpushed_submodules(path)
    if inner:
        reasons.append(f"submodules have unpushed commits: {', '.join(inner)}")
    if known.holder and known.holder != actor:
        reasons.append(f"{known.holder} claims it")
    inside = (each for each in running() if Path(each.folder).is_relative_to(path))
    reasons += [f"process {each.pid} ({each.name}) is inside" for each in inside]
    own = gitdirs.find(str(path))
    if own and Path(own.own, "index.lock").exists():
        reasons.append("a git command is at work in it, or was killed: index.lock is there")
    if worktree.is_half_made:
        reasons.append("it was left half made")
    elif worktree.locked is not None:
        reasons.append("it is locked" + (f": {worktree.locked}" if worktree.locked else ""))
    notes = (known.note,) if known.note else ()
    return Standing(now, branch, tip, verdict, known, _never(project, worktree, now), tuple(reasons), notes)


def _judge(repository: Path, branch: str | None, trunks: list[Ref], merged_at: datetime | None) -> Verdict:
    verdict = Verdict("open")
    for each in trunks if branch else []:
        assert branch
        is_link_merged = merged_at is not None and _is_older(repository, branch, each.name, merged_at)
        verdict = merged.judge(repository, branch, each.name, is_link_merged=is_link_merged)
        if verdict.state != "open":
            break
    return verdict


def _is_older(repository: Path, branch: str, top: str, when: datetime) -> bool:
    """Whether no commit of the branch is younger: a pull request merged then had none of those."""
    question = ("rev-list", "--no-commit-header", "--format=%ct", branch, f"^{top}", "--")
    return all(int(each) <= when.timestamp() for each in git.run(repository, *question).split())


def _never(project: Project, worktree: Worktree, now: Facts) -> tuple[str, ...]:
    path, reasons = worktree.path, []
    if path.stat().st_dev != project.root.stat().st_dev:
        reasons.append(f"it is on another file system than the trash of {project.root}")
    if project.is_trunk(path):
        reasons.append("it is the trunk's worktree")
    elif now.is_main:
        reasons.append("it is git's main worktree, which holds the repository")
    elif project.repository.is_relative_to(path):
        reasons.append("the repository is inside")
    within = [each.path for each in project.worktrees if each.path != path and each.path.is_relative_to(path)]
    reasons += [f"another worktree is inside: {each}" for each in within]
    return tuple(reasons)


def _files(now: Facts) -> list[str]:
    reasons = []
    if now.dirty:
        reasons.append(_count(now.dirty, "file is uncommitted", "files are uncommitted"))
    if now.untracked:
        reasons.append(_count(now.untracked, "file is untracked", "files are untracked"))
    if now.submodules:
        reasons.append(f"submodules have changes: {', '.join(now.submodules)}")
    if now.stashes:
        branch = now.branch or "a detached head"
        reasons.append(_count(now.stashes, f"stash is of {branch}", f"stashes are of {branch}"))
    if now.operation:
        reasons.append(f"a {now.operation} is in progress")
    return reasons


def _commits(project: Project, now: Facts, whole: str | None, verdict: Verdict) -> list[str]:
    """Commits that nothing else holds. A merged branch has none to lose: the trunk has the work."""
    heads = {whole} if whole and verdict.state != "merged" else set()
    if now.branch is None and now.commit and now.commit.hash != whole:
        heads.add(now.commit.hash)
    lost = {commit for head in heads for commit, _ in facts.unpushed(project.repository, head)}
    return [_count(len(lost), "commit is unpushed", "commits are unpushed")] if lost else []


def _begun_on(worktree: Path) -> str | None:
    """The branch that a rebase or bisect in progress has taken off HEAD."""
    found = gitdirs.find(str(worktree))
    for name in STARTED if found else ():
        assert found
        try:
            said = os.fsdecode(Path(found.own, name).read_bytes()).strip().removeprefix(HEADS)
        except OSError:
            continue
        return said if said and said != "detached HEAD" else None
    return None


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
