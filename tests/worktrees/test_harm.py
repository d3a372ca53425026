"""Repositories that mean harm: reading one starts no program that it names, by whatever door."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from imi.worktrees import clones, layout, present, uncommitted
from imi.worktrees import git as ask
from imi.worktrees.layout import Project
from tests.repositories import Git

Arm = Callable[[Git, Path, str], None]
MISSING = "1" * 40


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What `program` leaves behind."""
    return tmp_path / "ran"


@pytest.fixture
def program(tmp_path: Path, ran: Path) -> str:
    """A program for a repository to name. As a filter, without arguments, it answers what it was given."""
    file = tmp_path / "program"
    file.write_text(f"#!/bin/sh\ntouch {ran}\n[ $# -gt 0 ] || exec cat\n")
    file.chmod(0o755)
    return str(file)


@pytest.fixture
def clone(git: Git, tmp_path: Path) -> Path:
    """A clone with a feature branch checked out."""
    clone = git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "code/clone")
    git(clone, "switch", "-q", "-c", "feat/x")
    return clone


def configure(file: Path, text: str) -> None:
    with file.open("a", encoding="utf-8", errors="surrogateescape") as config:
        config.write(f"\n{text}\n")


def promise(git: Git, repository: Path, remote: str) -> None:
    """Make it a partial clone that lacks what one of its branches names."""
    git(repository, "config", "core.repositoryFormatVersion", "1")
    if "url" in remote:
        git(repository, "config", "--unset-all", "remote.origin.url")
    configure(
        repository / "config",
        f'[extensions]\npartialClone = origin\n[remote "origin"]\npromisor = true\n{remote}',
    )
    (repository / "refs/heads/gone").write_text(f"{MISSING}\n")


def fetch_by_ssh(git: Git, clone: Path, program: str) -> None:
    promise(git, clone / ".git", f'url = ssh://nohost/x\n[core]\nsshCommand = "{program}"')


def fetch_from_a_folder(git: Git, clone: Path, program: str) -> None:
    promise(git, clone / ".git", f'uploadPack = "{program}"')


def fetch_by_a_helper(git: Git, clone: Path, program: str) -> None:
    promise(git, clone / ".git", f"url = ext::{program} %s\n[protocol]\nallow = always")


def filtered(setting: str = "clean", name: str = '"x"', value: str = "x") -> Arm:
    def arm(git: Git, clone: Path, program: str) -> None:
        configure(clone / ".git/config", f'[filter {name}]\n{setting} = "{program}"')
        configure(clone / ".git/info/attributes", f"README filter={value}")

    return arm


def filter_of_the_tree(git: Git, clone: Path, program: str) -> None:
    git.commit(clone, ".gitattributes", "README filter=x\n")
    git(clone, "config", "FILTER.x.CLEAN", program)


def filter_that_is_included(git: Git, clone: Path, program: str) -> None:
    filtered()(git, clone, program)
    (clone / ".git/config").rename(clone / "more")
    (clone / ".git/config").write_text(
        '[core]\nbare = false\n[includeIf "onbranch:feat/*"]\npath = ../more\n'
    )


def filter_of_one_worktree(git: Git, clone: Path, program: str) -> None:
    git(clone, "config", "extensions.worktreeConfig", "true")
    git(clone, "config", "--worktree", "filter.x.clean", program)
    configure(clone / ".git/info/attributes", "README filter=x")


def filter_of_a_submodule(git: Git, clone: Path, program: str) -> None:
    sub = git.clone(git.origin(clone.parents[1] / "sub.git"), clone.parents[1] / "elsewhere/sub")
    git(clone, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(sub), "sub")
    git(clone, "commit", "-q", "-m", "Add sub")
    os.utime(clone / "sub/README", (1, 1))
    configure(clone / ".git/modules/sub/config", f'[filter "sub"]\nclean = "{program}"')
    configure(clone / ".git/modules/sub/info/attributes", "README filter=sub")
    (clone / "sub/.git").rename(clone / "sub/.git-away")  # so that it is not read as a clone of its own
    (clone / "sub/.git").symlink_to("../.git/modules/sub")


def filter_beside_a_submodule(git: Git, clone: Path, program: str) -> None:
    filtered()(git, clone, program)
    filter_of_a_submodule(git, clone, program)
    (clone / "README").write_text("changed")


DOORS: dict[str, Arm] = {
    "fetch by ssh": fetch_by_ssh,
    "fetch from a folder": fetch_from_a_folder,
    "fetch by a helper": fetch_by_a_helper,
    "filter": filtered(),
    "filter process": filtered("process"),
    "filter with =": filtered(name='"a=b.c"', value="a=b.c"),
    "filter without a name": filtered(name='""', value=""),
    "filter in no encoding": filtered(name='"\udcff"', value="\udcff"),
    "filter of the tree": filter_of_the_tree,
    "filter that is included": filter_that_is_included,
    "filter of one worktree": filter_of_one_worktree,
    "filter of a submodule": filter_of_a_submodule,
    "filter beside a submodule": filter_beside_a_submodule,
}


@pytest.mark.parametrize("arm", DOORS.values(), ids=DOORS.keys())
def test_no_door_is_open(git: Git, clone: Path, program: str, ran: Path, arm: Arm) -> None:
    arm(git, clone, program)
    os.utime(clone / "README", (1, 1))  # not what the index says, so its content is looked at
    ran.unlink(missing_ok=True)  # git itself ran it just now
    clones.read(clone.parent, lambda label, done, total: None)
    assert not ran.exists()


def filter_on_another_branch(git: Git, clone: Path, program: str) -> None:
    filtered()(git, clone, program)
    (clone / ".git/config").rename(clone / ".git/more")
    (clone / ".git/config").write_text('[core]\nbare = false\n[includeIf "onbranch:other"]\npath = more\n')


def filter_of_another_worktree(git: Git, clone: Path, program: str) -> None:
    git(clone, "config", "extensions.worktreeConfig", "true")
    configure(clone / ".git/worktrees/other/config.worktree", f'[filter "x"]\nclean = "{program}"')
    configure(clone / ".git/info/attributes", "README filter=x")


def project(clone: Path) -> Project:
    """What a clone that is not in the layout would be as one."""
    return layout.describe(layout.Location(clone.parent, clone / ".git", layout.worktrees(clone / ".git")))


OTHERS = {"filter on another branch": filter_on_another_branch, "of another": filter_of_another_worktree}


@pytest.mark.parametrize("arm", (DOORS | OTHERS).values(), ids=(DOORS | OTHERS).keys())
def test_no_door_is_open_where_many_are_read(
    git: Git, clone: Path, program: str, ran: Path, arm: Arm, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    git(clone, "worktree", "add", "-q", "-b", "other", str(other))
    arm(git, clone, program)
    for folder in (clone, other):
        os.utime(folder / "README", (1, 1))
    ran.unlink(missing_ok=True)
    present.read_all(project(clone), [other, clone])
    assert not ran.exists()


def test_a_clone_in_the_place_of_a_worktree_is_read_as_its_own(
    git: Git, clone: Path, program: str, ran: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    git(clone, "worktree", "add", "-q", "-b", "other", str(other))
    shutil.rmtree(other)
    git(tmp_path, "clone", "-q", str(clone), str(other))
    filtered()(git, other, program)
    os.utime(other / "README", (1, 1))
    ran.unlink(missing_ok=True)
    present.read_all(project(clone), [clone, other])
    assert not ran.exists()


def test_one_worktree_whose_commit_is_missing_hides_no_other(git: Git, clone: Path, tmp_path: Path) -> None:
    other, third = tmp_path / "other", tmp_path / "third"
    for folder in (other, third):
        git(clone, "worktree", "add", "-q", "-b", folder.name, str(folder))
        git.commit(folder, folder.name)
    lost = git(third, "rev-parse", "HEAD")
    (clone / ".git/objects" / lost[:2] / lost[2:]).unlink()
    read = present.read_all(project(clone), [clone, third, tmp_path / "gone", other])
    assert {path: (each.ahead, each.behind) for path, each in read.items()} == {clone: (0, 0), other: (1, 0)}


def bring_along(git: Git, folder: Path, program: str) -> Path:
    """Write what looks like a bare repository and is fit to be committed."""
    git.origin(folder)
    git(folder, "remote", "add", "origin", "ssh://nohost/x")
    promise(git, folder, f'[core]\nsshCommand = "{program}"')
    (folder / "objects/keep").touch()
    (folder / "refs/keep").touch()
    return folder


def test_what_a_clone_brings_along_is_no_repository(git: Git, clone: Path, program: str, ran: Path) -> None:
    evil = bring_along(git, clone / "fixtures/repo.git", program)
    git(clone, "add", "fixtures")
    git(clone, "commit", "-q", "-m", "Harmless fixtures")
    victim = clone.parents[1] / "victim"
    git(clone.parent, "clone", "-q", str(clone), str(victim))
    evil = victim / "fixtures/repo.git"
    assert (evil / "HEAD").is_file()
    why = "a bare repository inside a working tree is not read"
    for root in (victim, victim / "fixtures", evil):
        found, skipped = clones.read(root, lambda label, done, total: None)
        assert [each.path for each in found] == ([victim] if root == victim else [])
        assert skipped == [(evil, why)]
    assert ask.top_level(evil) == victim, "nor does a folder in it belong to it"
    assert not ran.exists()


def test_a_bare_repository_with_a_missing_object_is_not_fetched(
    git: Git, tmp_path: Path, program: str, ran: Path
) -> None:
    evil = bring_along(git, tmp_path / "evil.git", program)
    with pytest.raises(ask.GitError):
        clones.inspect(ask.common_dir(evil), evil)
    assert not ran.exists()


class TestFilters:
    """No filter runs, and yet a file that nobody touched is clean."""

    @pytest.fixture
    def stored(self, git: Git, clone: Path) -> Path:
        """A file whose committed content is not what lies in the folder, as git-lfs does it."""
        git(clone, "config", "filter.up.clean", "tr a-z A-Z")
        git(clone, "config", "filter.up.required", "true")
        git.commit(clone, ".gitattributes", "stored filter=up\n")
        git.commit(clone, "stored", "text")
        assert git(clone, "show", "HEAD:stored") == "TEXT"
        return clone / "stored"

    def as_young_as_its_index(self, file: Path) -> None:
        moment = file.stat().st_mtime_ns
        os.utime(file.parent / ".git/index", ns=(moment, moment))

    def test_untouched_is_clean_however_young(self, clone: Path, stored: Path) -> None:
        assert uncommitted.count(clone) == 0
        self.as_young_as_its_index(stored)
        assert uncommitted.count(clone) == 0

    def test_changed_counts_however_young(self, git: Git, clone: Path, stored: Path) -> None:
        stored.write_text("other text")
        assert uncommitted.count(clone) == 1
        self.as_young_as_its_index(stored)
        assert uncommitted.count(clone) == 1

    def test_other_files_are_judged_by_content(self, clone: Path, stored: Path) -> None:
        """The same size and times, in a file as young as the index: only its content tells."""
        readme = clone / "README"
        self.as_young_as_its_index(stored)
        index = (clone / ".git/index").stat().st_mtime_ns
        readme.write_text("EMDAER")
        os.utime(readme, ns=(index, index))
        assert uncommitted.count(clone) == 1


def test_a_submodule_counts_where_another_commit_is_checked_out(
    git: Git, clone: Path, program: str, ran: Path
) -> None:
    filter_of_a_submodule(git, clone, program)
    (clone / "sub/README").write_text("changed")
    ran.unlink(missing_ok=True)
    (clone / "sub/.git-away").unlink()
    assert uncommitted.count(clone) == 0, "what is in it is its own"
    git(clone / "sub", "-c", "filter.sub.clean=", "commit", "-q", "-a", "-m", "Go on")
    assert uncommitted.count(clone) == 1


def test_a_user_who_allows_no_bare_repository_can_read_clones(
    git: Git, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gitconfig").write_text("[safe]\nbareRepository = explicit\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    assert clones.inspect(ask.common_dir(clone), clone).trunk == "main"
