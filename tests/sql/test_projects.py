"""sql/projects.sql: registration, moves, search."""

import uuid

import pytest

from tests.sql.conftest import CONTEXT, refused
from tests.sql.test_remotes import SPELLINGS


@pytest.mark.parametrize(
    ("remote", "kept"),
    [
        ("https://user:secret@github.com/o/r", "https://github.com/o/r"),
        ("https://ghp_secret@github.com/o/r", "https://github.com/o/r"),
        ("https://github.com/o/r?access_token=secret#secret", "https://github.com/o/r"),
        ("ssh://git:secret@h.example:2222/o/r", "ssh://git@h.example:2222/o/r"),
        ("git@github.com:o/r.git", "git@github.com:o/r.git"),
    ],
)
async def test_a_secret_in_a_remote_reaches_no_table_and_no_event(db, call, remote, kept):
    made = await call("api.project_register", body={"remote_origin": remote})
    assert made["body"]["remote_origin"] == kept
    everything = await db.fetchval("""
        select (select string_agg(p::text, '') from imi.projects p) || (select string_agg(r::text, '') from imi.project_remotes r)
          || (select string_agg(e::text, '') from bloodbank.events e)""")
    assert "secret" not in everything


async def test_registering_again_answers_the_same_project_and_writes_nothing(call, events):
    first = await call("api.project_register", body={"remote_origin": SPELLINGS[0]})
    assert (first["status"], first["body"]["name"], first["body"]["default_branch"]) == (201, "Repo", "main")
    for spelling in SPELLINGS:
        again = await call(
            "api.project_register", body={"remote_origin": spelling, "name": "other", "metadata": {"a": 1}}
        )
        assert (again["status"], again["body"]) == (200, first["body"])
    assert await events() == ["imi.project.registered"]


async def test_registering_again_fills_what_was_null(call, events, project):
    filled = await call(
        "api.project_register",
        body={"remote_origin": project["remote_origin"], "trunk_path": "/src", "description": "d"},
    )
    again = await call(
        "api.project_register", body={"remote_origin": project["remote_origin"], "trunk_path": "/other"}
    )
    assert filled["body"]["trunk_path"] == again["body"]["trunk_path"] == "/src"
    assert await events() == ["imi.project.registered", "imi.project.updated"]


async def test_a_deactivated_project_is_revived_with_its_id_but_not_its_work(call, events, project, item):
    assert (await call("api.project_deactivate", project_id=project["id"], context=CONTEXT))["status"] == 204
    assert (await call("api.project_deactivate", project_id=project["id"], context=CONTEXT))["status"] == 204
    gone = await call("api.project_get", project_id=project["id"])
    assert (gone["status"], gone["body"]["active"], gone["body"]["work_item_count"]) == (200, False, 0)
    back = await call("api.project_register", body={"remote_origin": project["remote_origin"]})
    assert (back["status"], back["body"]["id"], back["body"]["active"]) == (200, project["id"], True)
    assert (await call("api.work_get", work_item_id=item["id"]))["body"]["active"] is False
    assert await events() == [
        "imi.project.registered",
        "imi.work.started",
        "imi.work.deactivated",
        "imi.project.deactivated",
        "imi.project.reactivated",
    ]


async def test_an_id_of_ones_own_needs_admin_and_must_agree(call):
    mine = str(uuid.uuid4())
    body = {"remote_origin": "https://h.example/a", "project_id": mine}
    with refused(403, "FORBIDDEN"):
        await call("api.project_register", body=body)


async def test_an_admin_may_choose_the_id_once(db, call):
    mine, admin = str(uuid.uuid4()), CONTEXT | {"scope": "admin"}
    body = {"remote_origin": "https://h.example/a", "project_id": mine}
    assert (await call("api.project_register", body=body, context=admin))["body"]["id"] == mine
    assert (await call("api.project_register", body=body, context=admin))["status"] == 200
    with refused(409, "CONFLICT") as error:
        await call("api.project_register", body=body | {"project_id": str(uuid.uuid4())}, context=admin)
    assert error["params"] == {"project_id": mine}
    with refused(409, "CONFLICT") as error:
        await call(
            "api.project_register", body=body | {"remote_origin": "https://h.example/b"}, context=admin
        )
    assert error["params"] == {"project_id": mine}


async def test_update_replaces_what_is_given_and_null_clears(call, events, project):
    changed = await call(
        "api.project_update",
        project_id=project["id"],
        body={"description": "d", "metadata": {"team": "core"}, "id": "x"},
    )
    assert (changed["description"], changed["metadata"], changed["id"]) == (
        "d",
        {"team": "core"},
        project["id"],
    )
    cleared = await call("api.project_update", project_id=project["id"], body={"description": None})
    assert (cleared["description"], cleared["metadata"]) == (None, {"team": "core"})
    assert await call("api.project_update", project_id=project["id"], body={}) == cleared
    assert await events() == ["imi.project.registered", "imi.project.updated", "imi.project.updated"]


async def test_a_move_keeps_the_old_remote_as_an_alias(db, call, events, project):
    new = "https://gitlab.com/acme/rocket"
    moved = await call("api.project_update", project_id=project["id"], body={"remote_origin": new})
    assert moved["remote_origin"] == new
    for remote in (new, project["remote_origin"]):
        assert (await call("api.project_by_origin", remote_origin=remote))["body"]["id"] == project["id"]
    back = await call(
        "api.project_update", project_id=project["id"], body={"remote_origin": project["remote_origin"]}
    )
    assert back["remote_origin"] == project["remote_origin"]
    current = await db.fetch("select remote_key from imi.project_remotes where is_current")
    assert [r[0] for r in current] == ["github.com/acme/rocket"]
    assert (await events()).count("imi.project.updated") == 2


async def test_a_move_onto_another_projects_remote_is_refused(call, project):
    other = (await call("api.project_register", body={"remote_origin": "https://h.example/other"}))["body"]
    with refused(409, "CONFLICT") as error:
        await call(
            "api.project_update", project_id=project["id"], body={"remote_origin": "https://h.example/other"}
        )
    assert error["params"] == {"project_id": other["id"]}


async def test_search_takes_wildcards_literally_and_ranks_the_best_first(call):
    for name in ("alpha", "alphabet", "100%", "100x", "a_b", "aXb", "alphebet"):
        await call(
            "api.project_register", body={"remote_origin": f"https://h.example/{uuid.uuid4()}", "name": name}
        )

    async def names(text):
        return [p["name"] for p in (await call("api.project_list", search=text))["items"]]

    assert (await names("alpha"))[:2] == ["alpha", "alphabet"]
    assert (await names("alphabet"))[:2] == ["alphabet", "alphebet"]
    assert (await names("100%"))[0] == "100%"
    assert "100x" not in (await names("0%"))
    assert "aXb" not in await names("_b")
    assert "a_b" in await names("_b")


async def test_list_by_activity_metadata_and_page(call):
    for n in range(3):
        await call(
            "api.project_register",
            body={"remote_origin": f"https://h.example/{n}", "metadata": {"n": n, "tags": ["x", n]}},
        )
    first = await call("api.project_list", limit=2)
    assert [p["name"] for p in first["items"]] == ["2", "1"]
    assert (first["total"], first["offset"], first["limit"]) == (3, 0, 2)
    assert [p["name"] for p in (await call("api.project_list", offset=2))["items"]] == ["0"]
    assert [p["name"] for p in (await call("api.project_list", metadata={"tags": [1]}))["items"]] == ["1"]
    await call("api.project_deactivate", project_id=first["items"][0]["id"], context=CONTEXT)
    assert [(await call("api.project_list", active=a))["total"] for a in ("true", "false", "all")] == [
        2,
        1,
        3,
    ]


async def test_unknown_projects(call):
    nobody = uuid.uuid4()
    answer = await call("api.project_get", project_id=nobody)
    assert (answer["status"], answer["body"]["detail"]["code"]) == (404, "NOT_FOUND")
    with refused(404, "NOT_FOUND"):
        await call("api.project_update", project_id=nobody, body={"name": "x"})


async def test_an_unknown_remote_is_not_found(call):
    with refused(404, "NOT_FOUND") as error:
        await call("api.project_by_origin", remote_origin="https://u:secret@h.example/nothing")
    assert "secret" not in str(error)


async def test_an_unknown_project_cannot_be_deactivated(call):
    with refused(404, "NOT_FOUND"):
        await call("api.project_deactivate", project_id=uuid.uuid4(), context=CONTEXT)
