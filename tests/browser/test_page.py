"""The page in a real browser: rows, what a click changes, switching users, and titles that hold markup."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looking import Serve, ask, cards, history_of, ids, open_history, open_page, posts_of, press
from tests.serving.projects import LARGE, MARKUP, STRANGE_ITEMS, Published, publish_other
from tests.serving.server import ServerProcess
from upnext.base.artifacts import Artifact, Workspace

pytestmark = pytest.mark.browser


def test_rows_and_history(page: Page, serve: Serve, tiny: Published, complaints: list[str]) -> None:
    server = serve(tiny)
    open_page(page, server)
    user = ask(server, "v1/users", limit=1)["users"][0]["user_id"]
    expect(page.get_by_test_id("user-switch")).to_have_value(user)
    expect(page).to_have_title("Tiny")
    expect(page.get_by_test_id("release")).to_have_text(tiny.release.name)
    answer = ask(server, "v1/recommendations", user_id=user)
    rows = page.get_by_test_id("row")
    expect(rows).to_have_count(len(answer["rows"]))
    assert [row.get_attribute("data-row") for row in rows.all()] == [row["name"] for row in answer["rows"]]
    for row in answer["rows"]:
        assert ids(cards(page, row["name"])) == [item["item_id"] for item in row["items"]]
        expect(cards(page, row["name"]).first).to_contain_text(row["items"][0]["title"].split()[0], ignore_case=True)
    events = ask(server, f"v1/users/{user}/history")["events"]
    assert ids(page.get_by_test_id("history-item")) == [event["item"]["item_id"] for event in events]
    expect(page.get_by_test_id("history")).to_be_hidden()
    open_history(page)
    expect(page.get_by_test_id("history-item").first).to_be_visible()
    expect(page.get_by_test_id("history-empty")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("history")).to_be_hidden()
    expect(page.get_by_test_id("history-toggle")).to_be_focused()
    best = answer["rows"][0]["items"][0]
    expect(page.get_by_test_id("hero").get_by_role("heading")).to_have_text(best["title"])
    expect(page.get_by_test_id("alert")).to_be_hidden()
    expect(page.get_by_test_id("status")).to_contain_text(user)
    assert complaints == []


def test_the_page_survives_a_swap(page: Page, tiny: Published, tmp_path: Path, complaints: list[str]) -> None:
    other = publish_other(tmp_path / "other", tiny).release
    workspace = Workspace(tiny.lend(tmp_path / "lent"))
    with ServerProcess(workspace.root, check_every=50) as server:
        open_page(page, server)
        expect(page.get_by_test_id("release")).to_have_text(tiny.release.name)
        expect(page).to_have_title("Tiny")
        workspace.use("release", Artifact.open(other))
        while ask(server, "health")["release"] != other.name:
            pass
        first = ids(cards(page, "for-you"))[0]
        press(cards(page, "for-you").first, "like")
        expect(page.get_by_test_id("release")).to_have_text(other.name)
        expect(page).to_have_title("Other")
        expect(page.get_by_test_id("history-item").first).to_have_attribute("data-item", first)
    assert complaints == []


@pytest.mark.parametrize(("action", "says"), [("like", "Liked"), ("dislike", "Disliked")])
def test_an_action_changes_rows_and_history(
    page: Page, serve: Serve, tiny: Published, complaints: list[str], action: str, says: str
) -> None:
    server = serve(tiny)
    open_page(page, server)
    before = ids(cards(page, "for-you"))
    posted = posts_of(page)
    with page.expect_response("**/v1/recommendations*") as shown:
        page.reload()
    expect(page.locator("#rows")).to_have_attribute("aria-busy", "false")
    press(cards(page, "for-you").first, action)
    latest = page.get_by_test_id("history-item").first
    expect(latest).to_have_attribute("data-item", before[0])
    expect(latest).to_have_attribute("data-live", "")
    expect(latest).to_contain_text(says)
    expect(latest).to_contain_text("just now")
    expect(page.locator(f'[data-testid="card"][data-item="{before[0]}"]')).to_have_count(0)
    expect(page.get_by_test_id("status")).to_contain_text(re.compile(f'{says} ".+"\\. Rows updated'))
    after = ids(cards(page, "for-you"))
    assert after != before
    user = page.get_by_test_id("user-switch").input_value()
    served = ask(server, "v1/recommendations", user_id=user)["rows"][0]
    assert after == [item["item_id"] for item in served["items"]]
    (event,) = history_of(page, server)
    assert event["feedback"] == {action: 1.0}
    # What was served with the row goes back with the event.
    request_id = shown.value.json()["rows"][0]["request_id"]
    assert [(one["request_id"], one["position"], one["item_id"]) for one in posted] == [(request_id, 0, before[0])]
    assert "surface=home" in shown.value.url
    assert posted[0]["context"] == {"surface": "home"}
    assert complaints == []


def test_user_switch(page: Page, serve: Serve, tiny: Published, complaints: list[str]) -> None:
    server = serve(tiny)
    open_page(page, server)
    first, second = (user["user_id"] for user in ask(server, "v1/users", limit=2)["users"])
    before = ids(page.get_by_test_id("card"))
    switch = page.get_by_test_id("user-switch")
    switch.click()
    expect(page.get_by_test_id("user-option")).to_have_count(50)
    switch.fill(second)
    expect(page.get_by_test_id("user-option")).to_have_count(1)
    page.get_by_test_id("user-option").click()
    expect(page.get_by_test_id("status")).to_contain_text(f"Rows for {second}")
    assert page.url.endswith(f"?user={second}")
    assert ids(page.get_by_test_id("card")) != before
    # By the keyboard, back again; then someone nobody knows.
    switch.fill(first)
    switch.press("Enter")
    expect(page.get_by_test_id("status")).to_contain_text(f"Rows for {first}")
    assert ids(page.get_by_test_id("card")) == before
    switch.fill("zoë & co/?")
    switch.press("Enter")
    expect(page.get_by_test_id("status")).to_contain_text("Rows for zoë & co/?")
    open_history(page)
    expect(page.get_by_test_id("history-empty")).to_be_visible()
    assert complaints == []


def test_new_visitor(page: Page, serve: Serve, tiny: Published, complaints: list[str]) -> None:
    open_page(page, serve(tiny))
    page.get_by_test_id("new-visitor").click()
    expect(page.get_by_test_id("status")).to_contain_text("Rows for visitor-")
    open_history(page)
    expect(page.get_by_test_id("user-kind")).to_have_text("New here")
    expect(page.get_by_test_id("history-empty")).to_be_visible()
    before = ids(cards(page, "for-you"))
    assert before
    expect(page.get_by_test_id("hero")).to_contain_text("A start for a new visitor")
    page.get_by_test_id("history-close").click()
    press(cards(page, "for-you").nth(1), "like")
    expect(page.get_by_test_id("history-item")).to_have_count(1)
    expect(page.get_by_test_id("user-kind")).to_have_text("Known user")
    assert ids(cards(page, "for-you"))[0:2] != before[0:2]
    assert complaints == []


def test_markup_stays_text(page: Page, serve: Serve, strange: Published, complaints: list[str]) -> None:
    server = serve(strange)
    open_page(page, server, "x/history")
    expect(page).to_have_title("Strange <b>names</b>")
    expect(page.get_by_test_id("user-switch")).to_have_value("x/history")
    shown = page.locator('[data-testid="card"][data-item="<script>"]')
    press(shown, "like")
    latest = page.get_by_test_id("history-item").first
    expect(latest).to_have_attribute("data-item", "<script>")
    expect(latest).to_contain_text(MARKUP)
    expect(page.get_by_test_id("status")).to_contain_text(MARKUP)
    for item in ("a/b", "q?x=1", "p&q", "é", "100%", "tail/"):
        # By the keyboard: the page ignores a pointer's press on what just slid under it.
        page.locator(f'[data-testid="card"][data-item="{item}"]').get_by_test_id("action-dislike").press("Enter")
        expect(page.get_by_test_id("history-item").first).to_have_attribute("data-item", item)
    assert len(ids(page.get_by_test_id("card"))) == len(STRANGE_ITEMS) - 7
    expect(page.locator("img")).to_have_count(0)
    assert page.locator("body").get_attribute("data-hacked") is None
    assert complaints == []


def test_large_integers_stay_whole(page: Page, serve: Serve, numbers: Published, complaints: list[str]) -> None:
    server = serve(numbers)
    open_page(page, server, str(LARGE))
    best = ids(cards(page, "for-you"))[0]
    assert best == str(ask(server, "v1/recommendations", user_id=LARGE)["rows"][0]["items"][0]["item_id"])
    odd = next(item for item in ids(cards(page, "for-you")) if int(item) % 2)  # no 64-bit float is it
    press(page.locator(f'[data-testid="card"][data-item="{odd}"]'), "play")
    expect(page.get_by_test_id("history-item").first).to_have_attribute("data-item", odd)
    expect(page.get_by_test_id("user-switch")).to_have_value(str(LARGE))
    history = ask(server, f"v1/users/{LARGE}/history")
    assert (history["events"][0]["item"]["item_id"], history["events"][0]["is_live"]) == (int(odd), True)
    assert complaints == []


def test_a_dead_service_is_told(page: Page, serve: Serve, tiny: Published) -> None:
    server = serve(tiny)
    open_page(page, server)
    before = ids(page.get_by_test_id("card"))
    server.kill()
    press(cards(page, "for-you").first, "like")
    expect(page.get_by_test_id("alert")).to_contain_text("The service did not answer")
    expect(page.get_by_test_id("status")).to_contain_text("Not recorded")
    assert ids(page.get_by_test_id("card")) == before
    page.get_by_test_id("alert-dismiss").click()
    expect(page.get_by_test_id("alert")).to_be_hidden()


def test_an_item_to_hide_is_back_where_the_service_did_not_hear(page: Page, serve: Serve, tiny: Published) -> None:
    server = serve(tiny)
    open_page(page, server)
    before = ids(page.get_by_test_id("card"))
    server.kill()
    press(cards(page, "for-you").first, "dislike")
    expect(page.get_by_test_id("alert")).to_contain_text("The service did not answer")
    expect(page.get_by_test_id("status")).to_contain_text("Not recorded: Not for me")
    assert ids(page.get_by_test_id("card")) == before


def test_try_again(page: Page, serve: Serve, tiny: Published) -> None:
    server = serve(tiny)
    page.route("**/v1/recommendations*", lambda route: route.abort())
    page.goto(server.address)
    expect(page.get_by_test_id("alert")).to_contain_text("The service did not answer")
    expect(page.locator("#rows")).to_have_text("No rows to show.")
    page.unroute("**/v1/recommendations*")
    page.get_by_test_id("alert-retry").click()
    expect(page.get_by_test_id("row").first).to_be_visible()
    expect(page.get_by_test_id("alert")).to_be_hidden()
