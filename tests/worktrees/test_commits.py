"""What git says of commits."""

import random
import subprocess
from pathlib import Path

import pytest

from imi.worktrees import commits
from imi.worktrees.git import GitError
from tests.repositories import EMAIL, Git


@pytest.fixture
def clone(git: Git, tmp_path: Path) -> Path:
    return git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "clone")


def test_commits_by_their_hashes(git: Git, clone: Path) -> None:
    one = git.commit(clone, "a", message="\x1b[2J größe%00\n\nbody")
    two = git.commit(clone, "b")
    found = commits.read(clone, {one, two})
    assert (found[one].subject, found[two].subject) == ("\x1b[2J größe%00", "Add b")
    assert (found[one].author, found[one].author_email) == ("Ada", EMAIL)
    assert commits.read(clone, set()) == {}
    with pytest.raises(GitError):
        commits.read(clone, {one, "1" * 40})


def test_what_is_no_whole_commit_is_refused(git: Git, clone: Path) -> None:
    git(clone, "tag", "-a", "v1", "-m", "A tag")
    with pytest.raises(GitError, match="is no commit"):
        commits.read(clone, {git(clone, "rev-parse", "v1")})
    lines = git(clone, "cat-file", "-p", "HEAD").splitlines()
    for spoilt in ([*lines[:2], "committer a <a> 99999999999999999 +0000", "", "x"], [*lines[:2], "", "x"]):
        (clone / "spoilt").write_text("\n".join(spoilt) + "\n")
        made = git(clone, "hash-object", "-t", "commit", "-w", "--literally", "spoilt")
        with pytest.raises(GitError, match="has no time"):
            commits.read(clone, {made})


def test_divergence_is_gits_own_count(git: Git, clone: Path) -> None:
    git(clone, "switch", "-q", "-c", "side")
    git.commit(clone, "a")
    git.commit(clone, "b")
    git(clone, "switch", "-q", "main")
    git.commit(clone, "c")
    assert commits.divergence(clone, "main", "side") == (2, 1)
    assert commits.divergences(clone, "main", []) == {}


def grown(repository: Path, seed: int, roots: int) -> dict[str, set[str]]:
    """300 commits with dates at random, each with all that it reaches, itself too. With one root the first 60
    are a line, where reading may end."""
    chance, stream = random.Random(seed), []
    reached: list[set[int]] = []
    for number in range(300):
        known = range(max(0, number - 12), number) if number >= roots else range(0)
        parents = [number - 1] if roots == 1 and 0 < number < 60 else []
        parents = parents or chance.sample(known, min(len(known), chance.choice((1, 1, 2))))
        reached.append({number}.union(*(reached[each] for each in parents)))
        stream += ["commit refs/heads/grown", f"mark :{number + 1}"]
        stream += [f"committer a <a> {chance.randrange(10**9, 2 * 10**9)} +0000", "data 0"]
        stream += [f"{'merge' if place else 'from'} :{each + 1}" for place, each in enumerate(parents)]
        stream += ["reset refs/heads/grown", ""]
    marks = repository / "marks"
    question = ["git", "fast-import", "--quiet", "--force", f"--export-marks={marks}"]
    subprocess.run(question, cwd=repository, input="\n".join(stream).encode(), check=True)
    hashes = dict(line.removeprefix(":").split() for line in marks.read_text().splitlines())
    return {
        hashes[str(number + 1)]: {hashes[str(each + 1)] for each in its} for number, its in enumerate(reached)
    }


@pytest.mark.parametrize("roots", [1, 3])
def test_how_far_many_are_from_the_trunk_whatever_their_dates(
    clone: Path, roots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(20):
        reached = grown(clone, seed, roots)
        young = [*reached][-60:]
        trunk, *heads = random.Random(seed).sample(young, 21)
        heads.append(trunk)
        expected = {
            head: (len(reached[head] - reached[trunk]), len(reached[trunk] - reached[head])) for head in heads
        }
        with monkeypatch.context() as patch:
            patch.setattr(commits, "divergence", None)  # nothing else is asked
            assert commits.divergences(clone, trunk, heads) == expected, seed


def test_a_circle_that_a_graft_has_made_is_gits_to_count(git: Git, clone: Path) -> None:
    root, middle = git(clone, "rev-parse", "main"), git.commit(clone, "a")
    trunk = git.commit(clone, "b")
    side = git(clone, "commit-tree", "-p", trunk, "-m", "c", "main^{tree}")
    (clone / ".git/info/grafts").write_text(f"{middle} {trunk} {root}\n")
    counts = commits.divergences(clone, trunk, [root, side])
    assert counts == {head: commits.divergence(clone, trunk, head) for head in (root, side)}


@pytest.mark.parametrize(("far", "is_one_history"), [(4, True), (3, False)])
def test_what_all_have_in_common_is_not_read(
    git: Git, clone: Path, far: int, is_one_history: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tips = []
    for name in "abcd":
        git(clone, "switch", "-q", "-c", name, "main")
        tips.append(git.commit(clone, name))
    *heads, trunk = tips
    monkeypatch.setattr(commits, "FAR", far)
    if is_one_history:
        monkeypatch.setattr(commits, "divergence", None)
    assert commits.divergences(clone, trunk, heads) == dict.fromkeys(heads, (1, 1))
