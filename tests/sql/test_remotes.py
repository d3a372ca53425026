"""sql/remotes.sql: what names a repository, in whichever spelling."""

import pytest

from tests.sql.conftest import refused

SPELLINGS = [
    "git@github.com:Org/Repo.git",
    "https://github.com/org/repo",
    "ssh://git@github.com:22/org/repo.git",
    "https://user:secret@github.com/org/repo/",
    "HTTPS://GitHub.com/Org//Repo",
    "ssh://git@ssh.github.com:443/org/repo",
]


@pytest.mark.parametrize("remote", [*SPELLINGS, "git://github.com/org/repo.git?x=1#y", "github.com:org/repo"])
async def test_spellings_of_one_remote_are_one_key(db, remote):
    assert await db.fetchval("select (logic.remote_parse($1)).remote_key", remote) == "github.com/org/repo"


@pytest.mark.parametrize(
    ("remote", "key"),
    [
        (
            "https://git.example.org/Org/Repo",
            "git.example.org/Org/Repo",
        ),  # only three hosts ignore case in paths
        ("https://git.example.org:8443/a/b", "git.example.org:8443/a/b"),
        ("http://git.example.org:80/a/b", "git.example.org/a/b"),
        ("https://git.example.org:80/a/b", "git.example.org:80/a/b"),
        ("git://git.example.org:9418/a", "git.example.org/a"),
        ("https://gitlab.com/Group/Sub/Deep/Repo.GIT", "gitlab.com/group/sub/deep/repo"),
        ("https://h.example/a%20b/%C3%A9.git", "h.example/a b/é"),
        ("https://h.example/100%25", "h.example/100%"),
        ("https://h.example/50%", "h.example/50%"),
        ("ssh://u@[::1]:2222/a.git", "[::1]:2222/a"),
        ("git@[::1]:a/b", "[::1]/a/b"),
        ("https://us@er:p@ss@h.example/a", "h.example/a"),
        ("user@host:repo", "host/repo"),
        ("host:~/repo", "host/~/repo"),
        ("file:///srv/git/x.git", "file/srv/git/x"),
        ("file://localhost/srv/git/x", "file/srv/git/x"),
        ("/srv/git/x/", "file/srv/git/x"),
        ("/srv/a%20b", "file/srv/a%20b"),
        ("/srv/x/.git", "file/srv/x/.git"),
    ],
)
async def test_canonical_keys(db, remote, key):
    assert await db.fetchval("select (logic.remote_parse($1)).remote_key", remote) == key


@pytest.mark.parametrize(
    "remote",
    [
        None,
        "",
        "x",
        "host:repo",
        "a/b",
        "./a",
        "ftp://h/a",
        "ext::sh -c x",
        "https://",
        "https://github.com",
        "https://github.com/",
        "https:///a",
        "https://h:0/a",
        "https://h:65536/a",
        "https://h:x/a",
        "https://h/../a",
        "https://h/%2e%2e/a",
        "https://h/a/./b",
        "https://h/%00",
        "https://h/%ff",
        "https://h/a\nb",
        "ssh://-oProxyCommand=x/a",
        "-x@h:a/b",
        "git@-h:a/b",
        "file://other/a",
        "h h:a/b",
        "https://h/" + "a" * 2048,
        "alice:s3cret@github.com:acme/x",
        "https:/alice:s3cret@github.com/acme/x",
        "https:alice:s3cret@github.com/acme/x",
        "//alice:s3cret@github.com/acme/x",
        "file:///alice:s3cret@h/x",
        "/srv/alice:s3cret@h/x",
        "https://alice%3As3cret%40github.com/acme/x",
        "https://h/alice%3As3cret%40github.com/x",
    ],
)
async def test_other_remotes_are_refused(db, remote):
    with refused(400, "INVALID_REMOTE_ORIGIN") as error:
        await db.fetchval("select (logic.remote_parse($1)).remote_key", remote)
    assert error["params"] == {}
