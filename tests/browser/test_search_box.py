"""The search for titles: what it finds, the keys, and what it tells."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looking import Serve, ask, cards, history_of, ids, open_page, posts_of
from tests.serving.projects import MARKUP, Published

pytestmark = pytest.mark.browser


def test_by_the_keyboard(page: Page, serve: Serve, tiny: Published, complaints: list[str]) -> None:
    server = serve(tiny)
    open_page(page, server)
    title = ask(server, "v1/recommendations", user_id="u")["rows"][0]["items"][0]["title"]
    wanted = title.split()[-1][:4].upper()
    found = ask(server, "v1/search", q=wanted)["items"]
    search = page.get_by_test_id("search")
    page.keyboard.press("/")
    expect(search).to_be_focused()
    expect(search).to_have_attribute("aria-expanded", "false")
    page.keyboard.type(wanted)
    options = page.get_by_test_id("search-option")
    expect(options).to_have_count(len(found))
    assert ids(options) == [item["item_id"] for item in found]
    expect(page.get_by_test_id("search-count")).to_have_text(f"{len(found)} title{'s' * (len(found) != 1)}")
    expect(page.get_by_test_id("search-count")).to_have_attribute("role", "status")
    expect(search).to_have_attribute("aria-expanded", "true")
    for _ in range(len(found)):  # once around, to the last one
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    active = page.locator(f"#{search.get_attribute('aria-activedescendant')}")
    expect(active).to_have_attribute("data-item", found[-1]["item_id"])
    expect(active).to_have_attribute("role", "option")
    page.keyboard.press("Enter")
    dialog = page.get_by_test_id("dialog")
    expect(dialog.get_by_test_id("dialog-title")).to_have_text(found[-1]["title"])
    expect(options.first).to_be_hidden()
    # It was not served in a row, and its events do not say so.
    posted = posts_of(page)
    dialog.get_by_test_id("action-like").click()
    expect(dialog.get_by_test_id("dialog-status")).to_contain_text("Liked")
    assert posted[0].keys() == {"user_id", "item_id", "context", "feedback"}
    assert [event["item"]["item_id"] for event in history_of(page, server)] == [found[-1]["item_id"]]
    page.keyboard.press("Escape")
    expect(search).to_be_focused()
    assert complaints == []


def test_by_the_pointer(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    search = page.get_by_test_id("search")
    search.fill("the")
    expect(page.get_by_test_id("search-option")).to_have_count(20)
    expect(page.get_by_test_id("search-count")).to_have_text("The best 20 titles")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("search-option").first).to_be_hidden()
    search.click()
    option = page.get_by_test_id("search-option").nth(2)
    item = option.get_attribute("data-item")
    option.click()
    expect(page.get_by_test_id("dialog")).to_be_visible()
    page.get_by_test_id("dialog-close").click()
    assert item is not None


def test_nothing_found_and_markup(page: Page, serve: Serve, strange: Published, complaints: list[str]) -> None:
    open_page(page, serve(strange))
    search = page.get_by_test_id("search")
    search.fill("<b>zebra</b>")
    expect(page.get_by_test_id("search-count")).to_have_text("No title has “<b>zebra</b>”.")
    expect(search).to_have_attribute("aria-expanded", "false")
    search.press("Enter")
    expect(page.get_by_test_id("dialog")).to_be_hidden()
    search.fill("IMG")
    expect(page.get_by_test_id("search-option")).to_contain_text(MARKUP)
    search.press("Enter")
    expect(page.get_by_test_id("dialog-title")).to_have_text(MARKUP)
    expect(page.locator("img")).to_have_count(0)
    assert page.locator("body").get_attribute("data-hacked") is None
    assert complaints == []


def test_a_failing_search_is_told(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    before = ids(cards(page, "for-you"))
    page.route("**/v1/search*", lambda route: route.abort())
    page.get_by_test_id("search").fill("the")
    expect(page.get_by_test_id("alert")).to_contain_text("The service did not answer")
    assert ids(cards(page, "for-you")) == before
