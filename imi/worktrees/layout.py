"""A project's folder: its trunk's worktree, one folder a task beside it, and how they are named.

    ~/code/shop/trunk-main/  feat-login/  pr-7/  sync/  .imi-trash/

The repository is in the trunk's folder (`trunk-main/.git`) or bare below the root (`.bare`, `.git`,
`shop.git`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from imi import config
from imi.worktrees import git, gitdirs, names, settings
from imi.worktrees.git import GitError
from imi.worktrees.names import TRUNKS, LayoutError, NameRefusedError


class NoProjectError(LayoutError):
    """There is no project here."""


class PlainCloneError(LayoutError):
    """A clone that is not in the layout; `folder` is its work tree."""

    def __init__(self, folder: Path) -> None:
        message = f"{folder} is a plain clone, which iMi leaves as it is"
        super().__init__(message, f"make it a project: imi init --adopt {folder}")
        self.folder = folder


TRUNK = "trunk-"
TRASH = ".imi-trash"


@dataclass(frozen=True, slots=True)
class Worktree:
    """A worktree as git lists it: `branch` is short, None when detached. `locked` is git's reason ("" when it
    has none)."""

    path: Path
    commit: str | None
    branch: str | None
    bare: bool
    locked: str | None
    prunable: bool

    @property
    def is_half_made(self) -> bool:
        """Whether git has not completed it: until then git itself locks it."""
        return self.locked == gitdirs.INITIALIZING


class Location(NamedTuple):
    """Where a project is, and its worktrees, the repository's own first."""

    root: Path
    repository: Path
    worktrees: list[Worktree]


@dataclass(frozen=True, slots=True)
class Project:
    """A project on this disk. `repository` is git's common directory, `remote_name` and `remote` (its URL)
    are None where there is none, `trunk` is the default branch, and `trunk_path` the folder that holds it."""

    root: Path
    repository: Path
    remote_name: str | None
    remote: str | None
    trunk: str
    trunk_path: Path | None
    worktrees: tuple[Worktree, ...]

    def is_trunk(self, folder: Path) -> bool:
        """Whether the folder is the trunk's worktree, which is nobody's task."""
        return folder == self.trunk_path or folder.name.startswith(TRUNK)


def find(start: Path) -> Project:
    """The project at IMI_REPO_ROOT if that is set, else the one that `start` is in. NoProjectError,
    PlainCloneError, config.ConfigError or GitError says why there is none."""
    return describe(location(start))


def at(start: Path) -> Project:
    """The project whose root `start` is, or that it is inside of."""
    return describe(_location_at(start))


def location(start: Path) -> Location:
    """Where the project is that `find` would find. It fails as that, but for what only its settings say."""
    chosen = config.load().repo_root
    if chosen is None:
        return _location_at(start)
    try:
        return _location_at(chosen)
    except LayoutError as error:
        raise type(error)(f"IMI_REPO_ROOT: {error.message}", error.hint) from None


def _location_at(start: Path) -> Location:
    start = start.resolve()
    if not start.is_dir():
        raise NoProjectError(f"{start} is not a folder that is there")
    for folder in (start, *start.parents):
        inside = _way_in(folder)
        if inside is not None:
            return _location_of(_repository(inside))
    raise NoProjectError(f"{start} is in no project", "make one: imi init URL; or go into one: imi go NAME")


def _repository(folder: Path) -> Path:
    """Its common directory, read from its files where they are as usual, else by git."""
    found = gitdirs.find(str(folder))
    if found and _is_bare(Path(found.common)):  # as bare as any repository within
        return Path(found.common)
    return git.common_dir(folder)


def _way_in(folder: Path) -> Path | None:
    """A work tree or bare repository that says which project the folder belongs to."""
    if git.is_work_tree(folder) or _is_bare(folder):
        return folder
    try:
        within = sorted(folder.iterdir())
    except OSError:
        return None
    inside = (each for each in within if each.name.startswith(TRUNK) and git.is_work_tree(each))
    bare = (each for each in within if each.name == ".bare" and _is_bare(each))
    named = (each for each in within if each.suffix == ".git" and _has_beside(each))
    return next(inside, None) or next(bare, None) or next(named, None)


def _has_beside(repository: Path) -> bool:
    """Whether a bare repository has worktrees beside it: among others' repositories it is one of them."""
    try:
        return _is_bare(repository) and any(
            each.path.parent == repository.parent for each in worktrees(repository)[1:]
        )
    except GitError:
        return False


def _is_bare(folder: Path) -> bool:
    try:
        return (folder / "HEAD").is_file() and all((folder / name).is_dir() for name in ("objects", "refs"))
    except OSError:
        return False


def _location_of(repository: Path) -> Location:
    found = worktrees(repository)
    main = found[0]
    trunks = [each for each in found if each.path.name.startswith(TRUNK) and not each.prunable]
    if trunks:
        root = trunks[0].path.parent
    elif main.bare:
        root = repository if any(each.path.parent == repository for each in found[1:]) else repository.parent
    else:
        raise PlainCloneError(main.path)
    return Location(root, repository, found)


def describe(where: Location) -> Project:
    """The project of a repository whose root and worktrees are known."""
    root, repository, found = where
    trunks = [each for each in found if each.path.name.startswith(TRUNK) and not each.prunable]
    chosen = settings.load().git_settings
    urls = git.remotes(repository)
    remote = (
        chosen.remote_name if chosen.remote_name in urls else next(iter(urls)) if len(urls) == 1 else None
    )
    url = (urls[remote] or git.remote_url(repository, remote)) if remote else None
    if url and not url.startswith("/") and not re.match(r"[^/]*:", url):
        url = os.path.normpath(found[0].path / url)
    trunk = _trunk(repository, remote, [each.branch for each in trunks], chosen.default_branch)
    holder = next((each.path for each in found if each.branch == trunk and not each.bare), None)
    return Project(root, repository, remote, url, trunk, holder, tuple(found))


def _trunk(repository: Path, remote: str | None, held: list[str | None], default: str) -> str:
    """The default branch: what the remote says, else what the trunk's folder holds, else a usual name."""
    if remote:
        tracking = f"refs/remotes/{remote}/"
        said = gitdirs.pointed(repository / f"{tracking}HEAD")
        if said is None:  # references may be kept in other ways than as files
            question = ("symbolic-ref", "--quiet", f"{tracking}HEAD")
            said = git.run(repository, *question, accept=(0, 1, 128)).strip()
        if said.startswith(tracking):
            return said.removeprefix(tracking)
    if held and held[0]:
        return held[0]
    there = {ref.name.removeprefix("refs/heads/") for ref in git.refs(repository, "refs/heads")}
    return next((name for name in (default, *TRUNKS) if name in there), default)


def worktrees(repository: Path) -> list[Worktree]:
    """git's worktrees, the repository's own first."""
    found = []
    for block in git.run(repository, "worktree", "list", "--porcelain", "-z").split("\0\0"):
        facts = dict(line.partition(" ")[::2] for line in block.split("\0") if line)
        if facts:
            branch = facts.get("branch")
            found.append(
                Worktree(
                    Path(facts["worktree"]),
                    facts.get("HEAD"),
                    branch and branch.removeprefix("refs/heads/"),
                    "bare" in facts,
                    facts.get("locked"),
                    "prunable" in facts,
                )
            )
    return found


def named(project: Project, name: str | None, here: Path) -> Worktree:
    """The worktree that a folder's name (feat-login), a branch (feat/login) or a task (login) means; the one
    that `here` is in, when nothing is named. NoProjectError for none, NameRefusedError for several."""
    there = [each for each in project.worktrees if not each.bare]
    if name is None:
        inside = [each for each in there if here.resolve().is_relative_to(each.path)]
        if not inside:
            raise NoProjectError(f"{here} is in no worktree", "go into one, or name it: imi list shows all")
        return max(inside, key=lambda each: len(each.path.parts))
    tasks = names.folders(name)
    rules = (
        lambda each: each.path.name == name,
        lambda each: each.branch == name,
        lambda each: each.path.name in tasks,
    )
    for rule in rules:
        found = [each for each in there if rule(each)]
        if len(found) > 1:
            several = ", ".join(sorted(str(each.path) for each in found))
            raise NameRefusedError(f"{name} may be one of {several}", "say which, by its folder or branch")
        if found:
            return found[0]
    raise NoProjectError(f"{project.root} has no worktree {name}", "imi list shows all")
