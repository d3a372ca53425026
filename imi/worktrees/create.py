"""Making worktrees: one folder and one branch a task, or the way to the one that is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from imi.worktrees import acts, git, layout, names, settings, sync, trunk
from imi.worktrees.git import GitError, Ref
from imi.worktrees.layout import Project, Worktree
from imi.worktrees.names import NameRefusedError, TakenError
from imi.worktrees.trunk import HEADS


@dataclass(slots=True)
class Made:
    """A worktree to work in; `created` is False for one that was there. `notes` are sentences for people."""

    project: Project
    path: Path
    branch: str
    created: bool
    notes: list[str] = field(default_factory=list)


def task(project: Project, kind: str, name: str, branch: str | None = None, start: str | None = None) -> Made:
    """The worktree of a task: the one that is there, else a new one, its branch from `start`, else from the
    remote's branch of that name, else from the trunk. Of two processes that make one name, the second finds
    what the first made. LayoutError or GitError says what is in the way."""
    path = project.root / names.folder_name(kind, name)
    branch = names.checked_branch(branch) if branch else names.branch_name(kind, name)
    there = _there(project.worktrees, path, branch)
    if there and not there.is_half_made:
        return linked(_switched(project, there, path, branch, start))
    fetched = acts.fetch(project, settings.load().git_settings)
    made = _make(project, path, branch, start)
    made.notes += [fetched] if fetched else []
    return linked(made)


def review(project: Project, number: int) -> Made:
    """The worktree of a pull or merge request: pr-N on pr/N from its head."""
    name = str(number)
    path = project.root / names.folder_name("review", name)
    branch = names.branch_name("review", name)
    there = _there(project.worktrees, path, branch)
    if there and not there.is_half_made:
        return linked(_switched(project, there, path, branch, None))
    with acts.lock(project.repository, "fetch"):
        commit = acts.fetch_review(project, number)
    is_new = HEADS + branch not in _refs(project, branch)
    return linked(_make(project, path, branch, commit if is_new else None))


def linked(made: Made, worktree: Path | None = None) -> Made:
    """Link the shared files into the worktree (the one that was made, when none is named), if that is on. In
    one that was there before, what is in the way stays."""
    folder = worktree or made.path
    if settings.load().sync_settings.enabled:
        with acts.lock(made.project.repository, folder.name):
            made.notes += sync.link(made.project, folder, spare=not made.created).notes
    return made


def _make(project: Project, path: Path, branch: str, start: str | None) -> Made:
    with acts.lock(project.repository, path.name) as held:
        refs = _refs(project, branch)
        is_free = not (path.is_symlink() or path.exists() or HEADS + branch in refs)
        # when the project was found nothing was there: git is asked again only if something is now
        there = None if is_free else _there(layout.worktrees(project.repository), path, branch)
        if there and there.is_half_made:
            acts.finish(there, branch)
            return Made(project, path, branch, True, [f"{path.name} was left half made; it is complete now"])
        if there:
            return _switched(project, there, path, branch, None)
        if path.is_symlink() or path.exists():
            raise TakenError(f"{path} is there and is no worktree", "move it away, or choose another name")
        acts.add(project, path, branch, _start(project, branch, start, refs), held)
    return Made(project, path, branch, True)


def _there(found: tuple[Worktree, ...] | list[Worktree], path: Path, branch: str) -> Worktree | None:
    """The worktree in the folder, or elsewhere on the branch. TakenError if the folder has another branch."""
    for each in found:
        if each.path == path:
            half = each.is_half_made and each.branch is None
            if each.prunable:
                hint = "tidy up first: imi reconcile"
                raise TakenError(f"git still knows {path}, but the folder is gone", hint)
            if each.branch != branch and not half:
                held = f"has {each.branch} checked out" if each.branch else "has no branch checked out"
                raise TakenError(f"{path.name} {held}, not {branch}", "choose another name")
            return each
    on_branch = next((each for each in found if each.branch == branch and not each.bare), None)
    if on_branch and on_branch.prunable:
        raise TakenError(
            f"{branch} was checked out in {on_branch.path}, which is gone", "tidy up first: imi reconcile"
        )
    return on_branch


def _switched(project: Project, there: Worktree, path: Path, branch: str, start: str | None) -> Made:
    if start:
        raise TakenError(f"{branch} is there already; --from is for a new branch", "leave --from out")
    notes = [] if there.path == path else [f"{branch} is checked out in {there.path}"]
    return Made(project, there.path, branch, False, notes)


def _refs(project: Project, branch: str) -> dict[str, Ref]:
    """The branch and the trunk, and the remote's of both, as far as they are there."""
    tracking = f"refs/remotes/{project.remote_name}/"
    wanted = [base + name for base in (HEADS, tracking) for name in (branch, project.trunk)]
    return {ref.name: ref for ref in git.refs(project.repository, *wanted) if ref.name in wanted}


def _start(project: Project, branch: str, chosen: str | None, refs: dict[str, Ref]) -> str | None:
    """Where a branch begins: None if it is there, else a commit, or the remote's branch of that name."""
    tracking = f"refs/remotes/{project.remote_name}/"
    if HEADS + branch in refs:
        if chosen and not chosen.startswith(refs[HEADS + branch].commit):
            raise TakenError(f"{branch} is there already; --from is for a new branch", "leave --from out")
        return None
    if chosen:
        try:
            question = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{chosen}^{{commit}}")
            return git.run(project.repository, *question).strip()
        except GitError:
            raise NameRefusedError(f"--from: there is no commit {chosen}", "such as main or v1.2") from None
    if tracking + branch in refs:
        return tracking + branch
    own, theirs = refs.get(HEADS + project.trunk), refs.get(tracking + project.trunk)
    found = trunk.newest(project.repository, own, theirs)
    if not found:
        raise TakenError(f"{project.trunk} has no commit yet", "make one, or say where to begin: --from")
    return found[0].commit
