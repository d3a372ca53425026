"""Clones on this disk: finding them, and the true state of each of their branches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from imi.worktrees import commits, git, layout, uncommitted
from imi.worktrees.git import GitError, Ref
from imi.worktrees.names import TRUNKS
from imi.worktrees.parallel import Progress
from imi.worktrees.trunk import newest

UNSEARCHED = frozenset({"node_modules"})

Skipped = tuple[Path, str]
"""A folder that was passed over, and why."""
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Branch:
    """A local branch that is not the trunk: its last commit, the folder that has it checked out, how many
    files are uncommitted there, and how many commits it is ahead of the trunk and behind it."""

    name: str
    commit: str
    subject: str
    committer_email: str
    worktree: Path | None
    uncommitted: int
    ahead: int
    behind: int

    @property
    def is_merged(self) -> bool:
        """Whether nothing is left to merge: every commit is in the trunk, and nothing is uncommitted."""
        return self.ahead == 0 and self.uncommitted == 0


@dataclass(frozen=True, slots=True)
class Clone:
    """A repository on this disk as it was at `observed_at`. `trunk` is the default branch's name, None while
    there is no commit."""

    observed_at: datetime
    path: Path
    remote: str
    trunk: str | None
    trunk_path: Path | None
    branches: tuple[Branch, ...]


def find(root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Every folder at or below `root` that is a working tree or a bare repository, in order of path. Hidden
    folders and node_modules are not searched and symbolic links not followed. What cannot be read is added to
    `skipped` with the reason; so is a bare repository inside a working tree, settings and all the work of
    whoever committed it there."""

    def note(error: OSError) -> None:
        skipped.append((Path(error.filename), error.strerror or "cannot be read"))

    within = any(map(git.is_work_tree, root.resolve().parents))
    tree = root if within else None  # the outermost working tree that was entered last
    for name, subfolders, files in os.walk(root, onerror=note):
        folder = Path(name)
        is_inside = tree is not None and folder.is_relative_to(tree)
        if ".git" in subfolders or ".git" in files:
            tree = tree if is_inside else folder
            yield folder
        elif "HEAD" in files and {"objects", "refs"} <= set(subfolders):
            subfolders.clear()
            if is_inside:
                skipped.append((folder, "a bare repository inside a working tree is not read"))
            else:
                yield folder
        subfolders[:] = sorted(name for name in subfolders if name[0] != "." and name not in UNSEARCHED)


def read(root: Path, progress: Progress) -> tuple[list[Clone], list[Skipped]]:
    """Every clone at or below `root` once, however many worktrees it has there, in order of path; and what
    had to be passed over. `progress` is told what is under way, how much is done, and of how much."""
    skipped: list[Skipped] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        folders = [(folder, threads.submit(git.common_dir, folder)) for folder in find(root, skipped)]
        repositories: dict[Path, Path] = {}
        for folder, repository in _answers(folders, "finding clones", progress, skipped):
            repositories.setdefault(repository, folder)
        jobs = [
            (folder, threads.submit(inspect, repository, folder))
            for repository, folder in repositories.items()
        ]
        return [clone for _, clone in _answers(jobs, "reading clones", progress, skipped)], skipped


def _answers(
    jobs: list[tuple[Path, Future[Answer]]], label: str, progress: Progress, skipped: list[Skipped]
) -> Iterator[tuple[Path, Answer]]:
    for done, (folder, job) in enumerate(jobs):
        progress(label, done, len(jobs))
        try:
            yield folder, job.result()
        except GitError as error:
            skipped.append((folder, str(error)))


def inspect(repository: Path, found_at: Path) -> Clone:
    """The clone whose repository (`git.common_dir`) was found through a folder. GitError says why it cannot
    be registered or read."""
    observed_at = datetime.now(UTC)
    remote, url = remote_of(repository, found_at)
    refs = {ref.name: ref for ref in git.refs(repository, "refs/heads", f"refs/remotes/{remote}")}
    trunk = _trunk(refs, remote)
    if trunk is None:
        if refs:
            raise GitError(f"no trunk among its branches: name it with `git remote set-head {remote} --auto`")
        return Clone(observed_at, found_at, url, None, None, ())
    listed = layout.worktrees(repository)
    folders = {f"refs/heads/{each.branch}": each.path for each in listed if each.branch}
    own = refs.get(f"refs/heads/{trunk}")
    base = newest(repository, own, refs.get(f"refs/remotes/{remote}/{trunk}"))[0].commit
    trunk_path = _worktree(repository, folders.get(f"refs/heads/{trunk}"))
    return Clone(
        observed_at=observed_at,
        path=trunk_path or found_at,
        remote=url,
        trunk=trunk,
        trunk_path=trunk_path,
        branches=tuple(
            _branch(repository, ref, _worktree(repository, folders.get(name)), base)
            for name, ref in refs.items()
            if name.startswith("refs/heads/") and ref is not own
        ),
    )


def remote_of(repository: Path, folder: Path) -> tuple[str, str]:
    """The name and the URL of the remote that says which project a clone is: origin, else the only one. A
    relative path counts from `folder`, the clone's root. GitError says why there is none."""
    names = list(git.remotes(repository))
    if not names:
        raise GitError("no remote: give it one with `git remote add origin URL`")
    if "origin" not in names and len(names) > 1:
        raise GitError(f"{len(names)} remotes and none is called origin")
    name = "origin" if "origin" in names else names[0]
    url = git.remote_url(repository, name)
    is_relative = not url.startswith("/") and not re.match(r"[^/]*:", url)
    return name, os.path.normpath(folder / url) if is_relative else url


def _trunk(refs: dict[str, Ref], remote: str) -> str | None:
    """The default branch: what the remote says, else a usual name, else the only branch there is."""
    tracking = f"refs/remotes/{remote}/"
    if head := refs.get(f"{tracking}HEAD"):
        return head.target.removeprefix(tracking)
    names = {name.removeprefix("refs/heads/").removeprefix(tracking) for name in refs}
    for name in TRUNKS:
        if name in names:
            return name
    return names.pop() if len(names) == 1 else None


def _worktree(repository: Path, folder: Path | None) -> Path | None:
    """The folder, if it is a worktree: not one that was deleted, nor another clone's, as a copied clone still
    names the worktrees of the one it was copied from."""
    if folder is None or not folder.is_dir():
        return None
    return folder if git.common_dir(folder) == repository else None


def _branch(repository: Path, ref: Ref, worktree: Path | None, trunk: str) -> Branch:
    ahead, behind = commits.divergence(repository, trunk, ref.commit)
    return Branch(
        name=ref.name.removeprefix("refs/heads/"),
        commit=ref.commit,
        subject=ref.subject,
        committer_email=ref.committer_email,
        worktree=worktree,
        uncommitted=uncommitted.count(worktree) if worktree else 0,
        ahead=ahead,
        behind=behind,
    )
