"""Making a project's folder: from a URL, from a plain clone, or as it is."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imi.worktrees import acts, disk, git, layout, names, settings
from imi.worktrees.create import Made, linked
from imi.worktrees.git import GitError
from imi.worktrees.layout import TRUNK, Location, NoProjectError, PlainCloneError, Project
from imi.worktrees.names import TakenError

CLONING, ADOPTING = ".imi-clone", ".imi-adopt"


def init(target: str | None, adopt: bool) -> Made:
    """Begin (`_begin`), and link the shared files into the trunk's worktree."""
    made = _begin(target, adopt)
    return linked(made, made.project.trunk_path) if made.project.trunk_path else made


def _begin(target: str | None, adopt: bool) -> Made:
    """The project at a folder (this one, when nothing is named), or a new one below this folder: a clone of a
    URL or a bare repository. A plain clone is moved into the layout only when told to `adopt`."""
    folder = Path(target or ".").absolute()
    half = folder.with_name(folder.name + ADOPTING)
    if adopt and half.is_dir() and (not folder.exists() or not any(folder.iterdir())):
        return _adopted(folder, half)
    if target and not folder.exists():
        if not re.match(r"[^/]*:", target):
            raise NoProjectError(f"{folder} is not there", "give a URL, or a folder that is there")
        return _clone(target, target)
    if not folder.is_dir():
        raise NoProjectError(f"{folder} is not a folder")
    if _is_bare_alone(folder):
        return _clone(str(folder.resolve()), folder.resolve().name)
    try:
        return _found(layout.at(folder))
    except PlainCloneError as plain:
        if not adopt:
            trunk = f"{plain.folder}/{TRUNK}BRANCH"
            raise TakenError(f"{plain.message}; adopting moves all of it to {trunk}", plain.hint) from None
        return _adopt(plain.folder)


def _found(project: Project) -> Made:
    half = project.root / CLONING
    if half.exists():  # killed when all but this was done
        with suppress(TakenError, OSError), _cloning(half):
            pass
    return Made(project, project.root, project.trunk, False)


def _is_bare_alone(folder: Path) -> bool:
    """Whether it is a bare repository with no worktrees, which is what one clones."""
    try:
        found = layout.worktrees(folder)
    except GitError:
        return False
    return len(found) == 1 and found[0].bare and found[0].path == folder.resolve()


def _clone(url: str, source: str) -> Made:
    name = re.split(r"[/:]", source.rstrip("/"))[-1].removesuffix(".git")
    root = Path.cwd() / names.checked(name)
    half = root / CLONING
    is_own = not root.exists() or half.exists()
    try:
        root.mkdir(exist_ok=True)
        _free(root)
        with _cloning(half) as held:
            _free(root)  # another may have finished meanwhile
            notes = [f"what a killed clone had left in {root} was removed"] if _empty(half) else []
            acts.clone(url, half / "clone", settings.load().git_settings.remote_name, held)
            (half / "clone").rename(root / _trunk_folder(half / "clone"))
    except OSError as error:
        raise GitError(f"{root}: {error.strerror}") from None
    finally:
        if is_own:
            with suppress(OSError):  # it holds something
                root.rmdir()
    project = layout.at(root)
    return Made(project, root, project.trunk, True, notes)


def _free(root: Path) -> None:
    """TakenError if the folder holds anything but what a clone left half made."""
    if any(each.name != CLONING for each in root.iterdir()):
        hint = f"if it is the project: imi init {root.name}; else move it away"
        raise TakenError(f"{root} is there already", hint)


@contextmanager
def _cloning(half: Path) -> Iterator[int]:
    """One process at a time clones into a folder, and git holds its lock too, so that what lies there without
    one is a killed clone's. Nothing of it stays. TakenError if somebody is at it."""
    half.mkdir(exist_ok=True)
    lock = half / "lock"
    with lock.open("w") as opened:
        try:
            is_ours = disk.take(opened) and os.path.samestat(lock.stat(), os.fstat(opened.fileno()))
        except FileNotFoundError:
            is_ours = False
        if not is_ours:
            raise TakenError(f"another imi clones into {half.parent}", "wait until it has ended")
        try:
            yield opened.fileno()
        finally:
            _empty(half)
            lock.unlink()
            with suppress(OSError):  # the next one is there
                half.rmdir()


def _empty(half: Path) -> bool:
    """Remove a clone that nobody has worked in; whether there was one."""
    left = [each for each in half.iterdir() if each.name != "lock"]
    for each in left:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()
    return bool(left)


def _trunk_folder(clone: Path) -> str:
    """What the folder of a clone's checked-out branch is called."""
    branch = git.run(clone, "symbolic-ref", "--quiet", "--short", "HEAD", accept=(0, 1)).strip()
    if not branch:
        raise TakenError(f"{clone} has no branch checked out", "git switch main, or whatever its trunk is")
    return TRUNK + branch.replace("/", "-")


def _adopt(clone: Path) -> Made:
    """Move a plain clone, all that it holds, into a folder of the trunk's below where it was."""
    if not (clone / ".git").is_dir():
        raise TakenError(f"{clone} keeps its repository elsewhere", "clone it anew: imi init URL")
    found = layout.worktrees(clone / ".git")
    trunk, branch = layout.describe(Location(clone, clone / ".git", found)).trunk, found[0].branch
    if branch != trunk:
        held = f"has {branch} checked out" if branch else "has no branch checked out"
        raise TakenError(f"{clone} {held}, not its trunk {trunk}", f"git -C {clone} switch {trunk}")
    half = clone.with_name(clone.name + ADOPTING)
    if half.exists():
        raise TakenError(f"{half} is in the way", "move it away")
    try:
        clone.rename(half)
    except OSError as error:
        raise GitError(f"{clone} cannot be moved: {error.strerror}") from None
    return _adopted(clone, half)


def _adopted(root: Path, half: Path) -> Made:
    """The second half of the move, which also goes on where a killed one stopped."""
    root.mkdir(exist_ok=True)
    trunk = root / _trunk_folder(half)
    linked = [each.path for each in layout.worktrees(half / ".git")[1:]]
    half.rename(trunk)
    moved = [trunk / each.relative_to(root) if each.is_relative_to(root) else each for each in linked]
    acts.repair(trunk, *(each for each in moved if each.is_dir()))
    os.chdir(root)  # whoever stood in the clone went along
    return Made(layout.at(root), root, trunk.name.removeprefix(TRUNK), True, [f"{root} moved to {trunk}"])
