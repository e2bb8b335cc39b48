"""The dialog of an item: its player, its actions, what is like it, and where the focus goes."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.looking import Serve, ask, cards, history_of, ids, open_card, open_page, posts_of, press
from tests.serving.projects import Published

pytestmark = pytest.mark.browser


def test_what_it_shows(page: Page, serve: Serve, tiny: Published, complaints: list[str]) -> None:
    server = serve(tiny)
    open_page(page, server)
    user = page.get_by_test_id("user-switch").input_value()
    row = ask(server, "v1/recommendations", user_id=user)["rows"][0]
    place = next(number for number, item in enumerate(row["items"]) if "because" in item)
    card = cards(page, "for-you").nth(place)
    dialog = open_card(page, card)
    item = row["items"][place]
    expect(dialog.get_by_test_id("dialog-title")).to_have_text(item["title"])
    expect(dialog).to_contain_text(" · ".join([*item["genres"], item["collection"]]))
    expect(dialog.get_by_test_id("why")).to_contain_text(f"Number {place + 1} in “For you”, score {item['score']:.4g}")
    expect(dialog.get_by_test_id("why")).to_contain_text(f"Like “{item['because']['title']}”, which you chose.")
    expect(dialog.get_by_test_id("why")).to_contain_text(row["reason"])
    # What is like it, and on from there.
    near = ask(server, f"v1/items/{item['item_id']}/similar", k=12)["similar"]
    similar = dialog.get_by_test_id("similar-open")
    expect(similar).to_have_count(12)
    assert ids(similar) == [one["item_id"] for one in near]
    similar.first.click()
    expect(dialog.get_by_test_id("dialog-title")).to_have_text(near[0]["title"])
    expect(dialog.get_by_test_id("why")).to_contain_text(f"Near “{item['title']}”")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(card.get_by_test_id("open")).to_be_focused()
    assert complaints == []


def test_the_focus_stays_inside(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    dialog = open_card(page, cards(page, "for-you").first)
    expect(dialog.get_by_test_id("dialog-title")).to_be_focused()
    expect(dialog.get_by_test_id("similar-open").first).to_be_visible()
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "() => document.activeElement === document.body ? 'browser' :"
            " document.activeElement.closest('dialog') ? document.activeElement.getAttribute('aria-label') : 'outside'"
        )
        seen.add(place)
    assert "outside" not in seen
    assert len(seen) > 12  # and all of it can be reached


def test_playing_posts_the_part_played(page: Page, serve: Serve, tiny: Published, complaints: list[str]) -> None:
    server = serve(tiny)
    page.clock.install()
    open_page(page, server)
    posted = posts_of(page)
    card = cards(page, "for-you").first
    item = str(card.get_attribute("data-item"))
    page.clock.pause_at(page.evaluate("() => Date.now()") + 10_000)
    press(card, "play")
    dialog = page.get_by_test_id("dialog")
    progress = dialog.get_by_test_id("progress")
    page.clock.run_for(6_000)  # at speed 4 of a minute
    expect(progress).to_have_attribute("aria-valuenow", "40")
    expect(dialog.get_by_test_id("action-play")).to_have_text("Pause")
    dialog.get_by_test_id("action-play").click()
    page.clock.run_for(6_000)
    expect(progress).to_have_attribute("aria-valuenow", "40")
    assert posted == []  # nothing yet: they may go on
    dialog.get_by_test_id("player-stop").click()
    expect(dialog.get_by_test_id("dialog-status")).to_contain_text(re.compile('Played ".+", 40 %'))
    (event,) = history_of(page, server)
    assert (event["item"]["item_id"], event["feedback"]) == (item, {"played": 0.4})
    assert (posted[0]["position"], posted[0]["request_id"][-2:]) == (0, "-0")
    dialog.get_by_test_id("dialog-close").click()
    # It can be gone on with, from where it was left.
    begun = page.locator(f'[data-testid="card-own"][data-item="{item}"]')
    expect(begun).to_contain_text("40 % played")
    expect(page.locator(f'[data-testid="card"][data-item="{item}"]')).to_contain_text("40 % played")
    dialog = open_card(page, begun)
    expect(dialog.get_by_test_id("why")).to_contain_text("You began it")
    expect(dialog.get_by_test_id("action-play")).to_have_text("Resume")
    dialog.get_by_test_id("action-play").click()
    dialog.get_by_test_id("player-speed").click()
    expect(dialog.get_by_test_id("player-speed")).to_have_text("16×")
    page.clock.run_for(4_000)
    expect(progress).to_have_attribute("aria-valuenow", "100")
    expect(dialog.get_by_test_id("dialog-status")).to_contain_text("100 %")
    assert [event["feedback"] for event in history_of(page, server)] == [{"played": 1.0}, {"played": 0.4}]
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator(f'[data-item="{item}"]:is(.card)')).to_have_count(0)  # all played: no row shows it
    assert len(posted) == 2
    assert complaints == []


def test_looking_at_what_was_begun_posts_nothing(page: Page, serve: Serve, tiny: Published) -> None:
    server = serve(tiny)
    open_page(page, server)
    user = page.get_by_test_id("user-switch").input_value()
    # Logs know parts more finely than the page posts them.
    parts = {
        event["item"]["item_id"]: event["feedback"]["played"]
        for event in ask(server, f"v1/users/{user}/history")["events"]
    }
    begun = next(item for item in ids(page.get_by_test_id("card-own")) if parts[item] != round(parts[item], 3))
    dialog = open_card(page, page.locator(f'[data-testid="card-own"][data-item="{begun}"]'))
    page.keyboard.press("Escape")
    expect(dialog.get_by_test_id("dialog-title")).to_have_count(0)
    page.get_by_test_id("hero").get_by_test_id("action-like").click()
    expect(page.get_by_test_id("status")).to_contain_text("Liked")
    assert [event["feedback"] for event in history_of(page, server)] == [{"like": 1.0}]


@pytest.mark.parametrize("how", ["close", "leave"])
def test_what_was_played_is_posted_however_it_ends(page: Page, serve: Serve, tiny: Published, how: str) -> None:
    server = serve(tiny)
    page.clock.install()
    open_page(page, server)
    user = page.get_by_test_id("user-switch").input_value()
    page.clock.pause_at(page.evaluate("() => Date.now()") + 10_000)
    press(cards(page, "for-you").first, "play")
    page.clock.run_for(3_000)
    expect(page.get_by_test_id("progress")).to_have_attribute("aria-valuenow", "20")
    if how == "close":
        with page.expect_response("**/v1/events"):
            page.keyboard.press("Escape")
    else:
        page.goto("about:blank")
        page.goto(server.address + f"?user={user}")
        expect(page.get_by_test_id("history-item").first).to_contain_text("Played 20 %")
    events = ask(server, f"v1/users/{user}/history")["events"]
    assert [event["feedback"] for event in events if event["is_live"]] == [{"played": 0.2}]


def test_like(page: Page, serve: Serve, tiny: Published) -> None:
    server = serve(tiny)
    open_page(page, server)
    dialog = open_card(page, cards(page, "for-you").nth(1))
    like = dialog.get_by_test_id("action-like")
    like.click()
    expect(dialog.get_by_test_id("dialog-status")).to_contain_text(re.compile('Liked ".+". Rows updated'))
    expect(like).to_have_attribute("aria-pressed", "true")
    like.click()  # says nothing new
    like.press("Enter")
    assert [event["feedback"] for event in history_of(page, server)] == [{"like": 1.0}]
    expect(dialog).to_be_visible()


def test_not_for_me(page: Page, serve: Serve, tiny: Published, complaints: list[str]) -> None:
    server = serve(tiny)
    open_page(page, server)
    before = ids(cards(page, "for-you"))
    # The answer of the service waits until the test has looked: the item must be gone without it.
    held: list[Route] = []
    page.route("**/v1/events", lambda route: held.append(route))
    dialog = open_card(page, cards(page, "for-you").nth(1))
    button = dialog.get_by_test_id("action-dislike")
    expect(button).to_have_text("Not for me")
    button.click()
    expect(dialog).to_be_hidden()
    expect(page.locator(f'.card[data-item="{before[1]}"]')).to_have_count(0)
    # Whoever pressed the key twice would only see the details of the next one.
    expect(cards(page, "for-you").nth(1).get_by_test_id("open")).to_be_focused()
    assert history_of(page, server) == []
    held.pop().continue_()
    expect(page.get_by_test_id("status")).to_contain_text("Disliked")
    assert [event["feedback"] for event in history_of(page, server)] == [{"dislike": 1.0}]
    assert before[1] not in ids(page.get_by_test_id("card"))
    assert complaints == []


def test_only_what_the_release_takes_is_offered(page: Page, serve: Serve, numbers: Published) -> None:
    """Its one action has no feedback, so there is no part played to post, no like and nothing to hide."""
    server = serve(numbers)
    open_page(page, server)
    item = ids(cards(page, "for-you"))[0]
    dialog = open_card(page, cards(page, "for-you").first)
    assert [button.get_attribute("data-action") for button in dialog.locator(".act").all()] == ["play"]
    expect(dialog.get_by_test_id("player")).to_have_count(0)
    expect(dialog.get_by_test_id("similar-open")).to_have_count(0)
    dialog.get_by_test_id("action-play").click()
    expect(dialog.get_by_test_id("dialog-status")).to_contain_text("Played")
    assert [(str(event["item"]["item_id"]), event["feedback"]) for event in history_of(page, server)] == [(item, {})]


@pytest.mark.parametrize("place", ["card", "hero"])
def test_a_double_click_hits_one_item(page: Page, serve: Serve, tiny: Published, place: str) -> None:
    server = serve(tiny)
    page.clock.install()
    open_page(page, server)
    page.clock.pause_at(page.evaluate("() => Date.now()") + 10_000)
    home = cards(page, "for-you").first if place == "card" else page.get_by_test_id("hero")
    item = str(home.get_attribute("data-item"))
    home.hover()
    box = home.get_by_test_id("action-dislike").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.dblclick(x, y)
    expect(page.get_by_test_id("status")).to_contain_text("Disliked")
    # The next one lies under the pointer by now.
    page.mouse.move(x + 2, y + 2)
    under = "([x, y]) => document.elementFromPoint(x, y).closest('[data-action]').dataset.action"
    assert page.evaluate(under, [x + 2, y + 2]) == "dislike"
    page.mouse.click(x + 2, y + 2)
    expect(page.get_by_test_id("dialog")).to_be_hidden()
    assert [event["item"]["item_id"] for event in history_of(page, server)] == [item]
    # A little later a click is meant.
    page.clock.run_for(1_000)
    page.mouse.click(x, y)
    expect(page.get_by_test_id("history-item").first).not_to_have_attribute("data-item", item)
    assert len(history_of(page, server)) == 2
