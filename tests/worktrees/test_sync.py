"""Sync in real worktrees: what is linked, what is kept, and that nothing outside is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imi import __file__ as package
from imi.config import ConfigError
from imi.worktrees import facts, layout, settings, sync
from imi.worktrees.layout import Project
from tests.repositories import Git

VSCODE = ".vscode/settings.json"


@pytest.fixture
def project(git: Git, tmp_path: Path) -> Project:
    """A project of a trunk and feat-x; .mise.toml is tracked."""
    root = tmp_path / "shop"
    clone = git.clone(git.origin(tmp_path / "origin.git"), root / "trunk-main")
    git.commit(clone, ".mise.toml", "theirs\n")
    git(clone, "worktree", "add", "-q", "-b", "feat/x", str(root / "feat-x"))
    return layout.at(root)


@pytest.fixture
def worktree(project: Project) -> Path:
    return project.root / "feat-x"


def configure(tmp_path: Path, *entries: str, more: str = "") -> None:
    (tmp_path / "config/iMi").mkdir(parents=True, exist_ok=True)
    listed = ", ".join(f'"{entry}"' for entry in entries)
    (tmp_path / "config/iMi/config.toml").write_text(f"symlink_files = [{listed}]\n{more}")


def shared(project: Project, name: str, home: str = "repo", text: str = "shared") -> Path:
    file = project.root / "sync" / home / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def changes(worktree: Path, project: Project) -> tuple[int, int]:
    found = facts.read(worktree, "refs/heads/main", sync.linked(project, worktree))
    return found.dirty, found.untracked


def test_files_are_linked_and_count_as_nothing(project: Project, worktree: Path, tmp_path: Path) -> None:
    own, user = shared(project, ".env"), shared(project, VSCODE, "global", "the user's")
    shared(project, ".env", "global", "hidden")
    synced = sync.link(project, worktree)
    assert (synced.linked, synced.backups, synced.refused) == ([".env", VSCODE], {}, {})
    assert (worktree / ".env").readlink() == Path("../sync/repo/.env")
    assert (worktree / VSCODE).readlink() == Path("../../sync/global", VSCODE)
    assert (worktree / ".env").samefile(own) and (worktree / VSCODE).samefile(user)
    assert sync.linked(project, worktree) == {".env", VSCODE}
    assert changes(worktree, project) == (0, 0)
    again = sync.link(project, worktree)
    assert (again.linked, again.notes) == ([], [])
    project.root.rename(tmp_path / "moved")
    assert (tmp_path / "moved/feat-x/.env").read_text() == "shared"


def test_the_projects_own_file_takes_the_users_place(project: Project, worktree: Path) -> None:
    user = shared(project, ".env", "global")
    sync.link(project, worktree)
    own = shared(project, ".env", text="own")
    assert sync.link(project, worktree).linked == [".env"]
    assert (worktree / ".env").readlink() == Path("../sync/repo/.env")
    own.unlink()
    assert sync.link(project, worktree).linked == [".env"]
    assert (worktree / ".env").samefile(user)
    assert sorted(each.name for each in worktree.iterdir()) == [".env", ".git", ".mise.toml", "README"]


def test_what_is_in_the_way_is_kept_each_under_a_name_of_its_own(
    project: Project, worktree: Path, tmp_path: Path
) -> None:
    configure(tmp_path, ".env", "folder", "link")
    for name in (".env", "folder", "link"):
        shared(project, name)
    (worktree / ".env.backup").write_text("older")
    (worktree / ".env").write_text("mine")
    (worktree / "folder").mkdir()
    (worktree / "folder/file").write_text("mine")
    (worktree / "link").symlink_to("nowhere")
    synced = sync.link(project, worktree)
    assert synced.backups == {".env": ".env.backup.1", "folder": "folder.backup", "link": "link.backup"}
    assert "feat-x: .env was in the way and is now .env.backup.1" in synced.notes
    assert (worktree / ".env.backup").read_text() == "older"
    assert (worktree / ".env.backup.1").read_text() == "mine"
    assert (worktree / "folder.backup/file").read_text() == "mine"
    assert (worktree / "link.backup").readlink() == Path("nowhere")
    assert all((worktree / name).read_text() == "shared" for name in (".env", "folder", "link"))
    assert changes(worktree, project) == (0, 4)


def test_spared_files_stay(project: Project, worktree: Path) -> None:
    shared(project, ".env")
    shared(project, VSCODE)
    (worktree / ".env").write_text("mine")
    assert sync.link(project, worktree, spare=True).linked == [VSCODE]
    assert (worktree / ".env").read_text() == "mine"


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("changed", [False, True])
def test_a_tracked_file_is_kept_only_if_its_content_is_nowhere_else(
    git: Git, project: Project, worktree: Path, changed: bool, hidden: bool
) -> None:
    shared(project, ".mise.toml")
    if hidden:  # git is told not to look: its status would call the file unchanged
        git(worktree, "update-index", "--skip-worktree", ".mise.toml")
    if changed:
        (worktree / ".mise.toml").write_text("mine\n")
    synced = sync.link(project, worktree)
    assert (worktree / ".mise.toml").read_text() == "shared"
    assert synced.backups == ({".mise.toml": ".mise.toml.backup"} if changed else {})
    assert (worktree / ".mise.toml.backup").exists() is changed
    if changed:
        assert (worktree / ".mise.toml.backup").read_text() == "mine\n"
    else:
        assert "git tracks .mise.toml" in synced.notes[0]
    assert changes(worktree, project) == (0, int(changed))


def test_staged_content_stays_staged(git: Git, project: Project, worktree: Path) -> None:
    shared(project, ".mise.toml")
    (worktree / ".mise.toml").write_text("staged\n")
    git(worktree, "add", ".mise.toml")
    assert sync.link(project, worktree).backups == {".mise.toml": ".mise.toml.backup"}
    assert git(worktree, "show", ":.mise.toml") == "staged"
    assert (worktree / ".mise.toml.backup").read_text() == "staged\n"


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("../out", "leads out"),
        ("a/../../out", "leads out"),
        ("{root}/out", "leads out"),
        (".git", "belongs to git"),
        (".GIT/hooks/post-checkout", "belongs to git"),
        ("sub/.git/config", "belongs to git"),
        (".", "no path"),
        ("a\\u0000b", "no path"),
        ("outside/file", "on its way is a link"),
        ("loop/file", "on its way is a link"),
        ("README/file", "on its way is a link, or no folder"),
        ("deep/outside/file", "on its way is a link"),
        ("x" * 300, "name too long"),
    ],
)
def test_nothing_outside_the_worktree_is_written(
    git: Git, project: Project, worktree: Path, tmp_path: Path, entry: str, why: str
) -> None:
    """A sync folder that holds whatever is asked for, and links in the worktree that lead out of it."""
    entry = entry.replace("{root}", str(tmp_path))
    configure(tmp_path, entry, ".env")
    shared(project, ".env")
    for name in ("outside/file", "loop/file", "README/file", "deep/outside/file", ".GIT/hooks/post-checkout"):
        shared(project, name)
    shared(project, "sub/.git/config")
    shared(project, "out", home="../..", text="outside")
    outside = tmp_path / "outside"
    outside.mkdir()
    (worktree / "deep").mkdir()
    (worktree / "sub/.git").mkdir(parents=True)
    (worktree / "outside").symlink_to(outside)
    (worktree / "deep/outside").symlink_to(outside)
    (worktree / "loop").symlink_to(".")
    before = git(worktree, "status", "--porcelain", "--untracked-files=all")
    synced = sync.link(project, worktree)
    (reason,) = synced.refused.values()
    assert why in reason.lower()
    assert synced.linked == [".env"]
    assert list(outside.iterdir()) == []
    assert (tmp_path / "out").read_text() == "outside"
    assert git(worktree, "status", "--porcelain", "--untracked-files=all") == f"?? .env\n{before}"


def test_a_worktree_that_is_the_source_is_left_alone(project: Project, tmp_path: Path) -> None:
    configure(tmp_path, ".env", more='[sync_settings]\nlocal_sync_path = "trunk-main"\n')
    trunk = project.root / "trunk-main"
    (trunk / ".env").write_text("mine")
    assert sync.link(project, trunk).linked == []
    assert (trunk / ".env").read_text() == "mine"
    assert sync.link(project, project.root / "feat-x").linked == [".env"]


@pytest.mark.parametrize("path", ["/etc", "~/dotfiles", "../elsewhere", "sync/../.."])
def test_the_sync_folders_are_below_the_root(tmp_path: Path, path: str) -> None:
    configure(tmp_path, more=f'[sync_settings]\nuser_sync_path = "{path}"\n')
    with pytest.raises(ConfigError, match="below the project's root"):
        settings.load()


KILLED = """
import os, signal, sys
from pathlib import Path
from imi.worktrees import layout, sync

left = int(sys.argv[1])

def counted(name):
    real = getattr(os, name)
    def step(*arguments, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*arguments, **options)
    setattr(os, name, step)

for name in ("mkdir", "symlink", "rename", "unlink"):
    counted(name)
sync.link(layout.at(Path(sys.argv[2])), Path(sys.argv[3]))
"""


def test_killed_at_any_step_it_loses_nothing_and_goes_on(
    git: Git, project: Project, worktree: Path, tmp_path: Path
) -> None:
    """The kill comes before the n-th change of the disk: one link is redirected, one is made in a new folder,
    one takes the place of a file, one that of a tracked file."""
    steps = 0
    while True:
        git(worktree, "clean", "-fdxq")
        git(worktree, "checkout", "-q", "--", ".")
        configure(tmp_path, ".env")
        user = shared(project, ".env", "global")
        sync.link(project, worktree)
        own = shared(project, ".env")
        shared(project, "notes")
        shared(project, VSCODE)
        shared(project, ".mise.toml")
        (worktree / "notes").write_text("mine")
        configure(tmp_path, ".env", VSCODE, "notes", ".mise.toml")
        command = [sys.executable, "-c", KILLED, str(steps), str(project.root), str(worktree)]
        environment = os.environ | {"PYTHONPATH": str(Path(package).parents[1])}
        ended = subprocess.run(command, env=environment, check=False).returncode
        assert ended in (0, -signal.SIGKILL)
        assert (worktree / ".env").is_symlink() and (worktree / ".env").exists()
        sync.link(project, worktree)
        for name in (".env", VSCODE, "notes", ".mise.toml"):
            assert (worktree / name).read_text() == "shared"
        assert (worktree / ".env").samefile(own)
        assert [each.read_text() for each in worktree.glob("notes.*")] == ["mine"]
        kept = [each.read_text() for each in worktree.glob(".mise.toml.*")]
        assert kept in ([], ["theirs\n"])
        assert not list(worktree.rglob("*.imi-link"))
        assert {".env", VSCODE, "notes", ".mise.toml"} == sync.linked(project, worktree)
        own.unlink()
        user.unlink()
        if ended == 0:
            break
        steps += 1
    assert steps == 9


def test_a_link_that_cannot_be_made_still_says_where_the_file_is(
    project: Project, worktree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    shared(project, ".env")
    (worktree / ".env").write_text("mine")
    monkeypatch.setattr(os, "symlink", full)
    synced = sync.link(project, worktree)
    assert synced.refused == {".env": "No space left on device"}
    assert synced.backups == {".env": ".env.backup"}
    assert (worktree / ".env.backup").read_text() == "mine"
