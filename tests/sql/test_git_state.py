"""sql/git_state.sql: what git says of a branch, and when it said so."""

from tests.sql.conftest import refused


async def test_reports_change_the_status_and_only_changes_are_events(call, events, item):
    async def report(**facts):
        return await call("api.work_git_state_update", work_item_id=item["id"], body=facts)

    assert (await report(has_uncommitted_changes=True, uncommitted_files_count=2))["status"] == "uncommitted"
    assert (await report(has_uncommitted_changes=False, uncommitted_files_count=0, ahead_of_trunk=1))[
        "status"
    ] == "ahead"
    diverged = await report(behind_trunk=4, last_commit_hash="ABC1234", last_commit_message="Fix")
    assert (diverged["status"], diverged["ahead_of_trunk"], diverged["last_commit_message"]) == (
        "diverged",
        1,
        "Fix",
    )
    assert diverged["last_commit_hash"] == "abc1234"
    same = await report(behind_trunk=4)
    assert same["last_sync_at"] > diverged["last_sync_at"]
    assert same["updated_at"] == diverged["updated_at"]
    assert (await events()).count("imi.work.git_state_updated") == 3


async def test_an_older_report_changes_nothing_and_a_future_one_counts_as_now(call, at, item):
    await at("2027-01-01T12:00Z")
    newer = await call(
        "api.work_git_state_update",
        work_item_id=item["id"],
        body={"ahead_of_trunk": 2, "observed_at": "2027-01-01T11:00:00Z"},
    )
    late = await call(
        "api.work_git_state_update",
        work_item_id=item["id"],
        body={"ahead_of_trunk": 9, "observed_at": "2027-01-01T10:59:59Z"},
    )
    assert late == newer
    future = await call(
        "api.work_git_state_update",
        work_item_id=item["id"],
        body={"ahead_of_trunk": 3, "observed_at": "2099-01-01T00:00:00Z"},
    )
    assert (future["ahead_of_trunk"], future["last_sync_at"]) == (3, "2027-01-01T12:00:00+00:00")


async def test_reports_by_branch(call, item):
    body = {"project_id": item["project_id"], "branch_name": item["branch_name"], "behind_trunk": 1}
    assert (await call("api.work_git_state_update_by_branch", body=body))["status"] == "behind"
    with refused(404, "NOT_FOUND"):
        await call("api.work_git_state_update_by_branch", body=body | {"branch_name": "none"})


async def test_a_count_of_files_alone_says_whether_there_are_changes(call, item):
    async def report(**facts):
        return await call("api.work_git_state_update", work_item_id=item["id"], body=facts)

    assert (await report(uncommitted_files_count=5))["status"] == "uncommitted"
    assert (await report(uncommitted_files_count=0))["status"] == "clean"
    assert (await report(has_uncommitted_changes=True))["status"] == "uncommitted"
