"""What the page looks like: rows that scroll, phones, both themes, posters, many rows and long titles."""

from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenScreen
from tests.browser.looking import Serve, cards, ids, open_card, open_page, press
from tests.serving.projects import ODD_TITLES, Published

pytestmark = pytest.mark.browser

DRAWING = "(poster) => poster.getAttribute('style') + poster.dataset.tone + poster.querySelector('svg').innerHTML"


def test_posters_tell_items_apart_and_stay(page: Page, serve: Serve, tiny: Published) -> None:
    server = serve(tiny)
    open_page(page, server)
    drawn: dict[str, str] = {}
    for row in page.get_by_test_id("row").all():
        items = row.get_by_test_id("card").all()
        drawings = [card.locator(".poster").evaluate(DRAWING) for card in items]
        assert all(one != next_one for one, next_one in pairwise(drawings))
        drawn |= dict(zip(ids(row.get_by_test_id("card")), drawings, strict=True))
    assert len(set(drawn.values())) == len(drawn)
    page.get_by_test_id("new-visitor").click()
    expect(page.get_by_test_id("status")).to_contain_text("Rows for visitor-")
    shown = page.get_by_test_id("card").all()
    again = [card for card in shown if card.get_attribute("data-item") in drawn]
    assert again
    for card in again[:10]:
        assert card.locator(".poster").evaluate(DRAWING) == drawn[str(card.get_attribute("data-item"))]


def test_arrows_scroll_a_row(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    row = page.get_by_test_id("row").first
    strip = row.locator(".cards")
    row.hover()
    expect(row.get_by_test_id("scroll-back")).to_be_disabled()
    on = row.get_by_role("button", name="Scroll For you on", include_hidden=True)
    on.click()
    expect(row.get_by_test_id("scroll-back")).to_be_enabled()
    moved = strip.evaluate("(strip) => strip.scrollLeft")
    assert moved > 400
    for _ in range(10):
        on.dispatch_event("click")  # at the end it is disabled, and a click does nothing
    expect(on).to_be_disabled()
    expect(row.get_by_test_id("card").last).to_be_in_viewport(ratio=0.9)
    row.get_by_test_id("scroll-back").click()
    expect(on).to_be_enabled()
    expect(row.get_by_test_id("card").last).not_to_be_in_viewport(ratio=0.9)


def _settled(page: Page) -> float:
    """How far the page is scrolled, once it no longer moves: scrolling may be smooth."""
    later = """() => new Promise((done) => {
        let frames = 10;
        const next = () => (--frames ? requestAnimationFrame(next) : done(scrollY));
        next();
    })"""
    place = -1.0
    for _ in range(100):
        if (now := float(page.evaluate(later))) == place:
            return place
        place = now
    raise AssertionError(f"the page still moves, by now at {place}")


def test_an_action_keeps_the_place_and_the_focus(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    row = page.get_by_test_id("row").last
    card = row.get_by_test_id("card").nth(5)
    card.scroll_into_view_if_needed()
    row.locator(".cards").evaluate("(strip) => { strip.scrollLeft = 150; }")
    button = card.get_by_test_id("action-like")
    button.focus()
    place = _settled(page)
    aside = row.locator(".cards").evaluate("(strip) => strip.scrollLeft")
    name = row.get_attribute("data-row")
    assert place > 300
    button.press("Enter")
    expect(page.get_by_test_id("status")).to_contain_text("Liked")
    row = page.locator(f'[data-testid="row"][data-row="{name}"]')
    assert page.evaluate("() => document.activeElement.closest('.row').dataset.row") == name
    assert page.evaluate("() => document.activeElement.closest('.card').parentElement.children.length") > 5
    # The row of what was begun may have grown above; the page then moves by no more than that.
    assert abs(_settled(page) - place) < 2
    assert abs(row.locator(".cards").evaluate("(strip) => strip.scrollLeft") - aside) < 2


def test_a_phone(open_screen: OpenScreen, serve: Serve, tiny: Published, complaints: list[str]) -> None:
    page = open_screen(width=390, height=844, is_mobile=True)
    open_page(page, serve(tiny))
    wide = "() => [document.documentElement.scrollWidth, innerWidth]"
    assert page.evaluate(wide) == [390, 390]
    card = cards(page, "for-you").first
    expect(card).to_be_in_viewport()  # below the first item
    expect(card.locator(".quick")).to_be_hidden()
    expect(page.get_by_test_id("scroll-on").first).to_be_hidden()
    assert cards(page, "for-you").first.locator("..").evaluate("(strip) => strip.scrollWidth > strip.clientWidth")
    card.get_by_test_id("open").tap()
    dialog = page.get_by_test_id("dialog")
    expect(dialog).to_be_visible()
    box = dialog.bounding_box()
    assert box is not None
    assert (box["x"], box["width"]) == (0, 390)
    assert box["y"] + box["height"] == pytest.approx(844, abs=1)
    for button in dialog.locator(".act").all():
        target = button.bounding_box()
        assert target is not None
        assert min(target["width"], target["height"]) >= 40  # a finger's width
    dialog.get_by_test_id("action-like").tap()
    expect(dialog.get_by_test_id("dialog-status")).to_contain_text("Liked")
    dialog.get_by_test_id("dialog-close").tap()
    page.get_by_test_id("history-toggle").tap()
    expect(page.get_by_test_id("history-item").first).to_be_in_viewport()
    assert page.evaluate(wide) == [390, 390]
    assert complaints == []


def test_themes(open_screen: OpenScreen, serve: Serve, tiny: Published) -> None:
    server = serve(tiny)
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light, dark = open_screen(), open_screen(dark=True)
    open_page(light, server)
    open_page(dark, server)
    colours = light.evaluate(ground), dark.evaluate(ground)
    assert colours[0] != colours[1]
    button = dark.get_by_role("button", name="Switch to light colours")
    button.click()
    assert dark.evaluate(ground) == colours[0]
    expect(dark.get_by_role("button", name="Switch to dark colours")).to_be_focused()
    dark.reload()  # it is remembered
    expect(dark.get_by_role("button", name="Switch to dark colours")).to_be_visible()
    assert dark.evaluate(ground) == colours[0]


def test_many_rows(page: Page, serve: Serve, shelves: Published, complaints: list[str]) -> None:
    open_page(page, serve(shelves), "nobody")
    rows = page.get_by_test_id("row")
    expect(rows).to_have_count(12)
    more = page.get_by_test_id("more-rows")
    expect(more).to_have_text("Show 19 more rows")
    more.click()
    expect(rows).to_have_count(31)
    expect(rows.nth(12)).to_be_focused()
    expect(more).to_have_count(0)
    # They stay when the rows are read again.
    last = rows.last.get_by_test_id("card").first
    last.scroll_into_view_if_needed()
    press(last, "play")
    expect(page.get_by_test_id("status")).to_contain_text("Played")
    assert rows.count() > 25
    assert complaints == []


@pytest.mark.parametrize("is_mobile", [False, True])
def test_titles_that_burst_a_poster(
    open_screen: OpenScreen, serve: Serve, shelves: Published, complaints: list[str], is_mobile: bool
) -> None:
    page = open_screen(width=390 if is_mobile else 1280, is_mobile=is_mobile)
    open_page(page, serve(shelves), "dot dot")
    if page.get_by_test_id("more-rows").count():
        page.get_by_test_id("more-rows").click()
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    for title in ODD_TITLES:
        page.get_by_test_id("search").fill(title)
        option = page.get_by_test_id("search-option").filter(has_text=title).first
        option.click()
        name = page.get_by_test_id("dialog-title")
        expect(name).to_have_text(title)
        assert name.evaluate("(node) => node.scrollWidth <= node.clientWidth + 1"), title
        assert page.get_by_test_id("dialog").evaluate("(node) => node.scrollWidth <= node.clientWidth"), title
        page.get_by_test_id("dialog-close").click()
    for poster in page.locator(".card .poster").all()[:60]:
        assert poster.evaluate("(node) => node.querySelector('h3').scrollWidth <= node.clientWidth")
    expect(page.locator("hr, .card i, .card b")).to_have_count(0)
    assert complaints == []


def test_a_letter_is_an_id(page: Page, serve: Serve, shelves: Published) -> None:
    open_page(page, serve(shelves), "nobody")
    card = cards(page, "for-you").nth(3)
    item = str(card.get_attribute("data-item"))
    assert len(item) == 1
    open_card(page, card).get_by_test_id("action-play").click()
    expect(page.get_by_test_id("history-item").first).to_have_attribute("data-item", item)
