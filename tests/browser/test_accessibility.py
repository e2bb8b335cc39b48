"""What people need who use the keyboard, a screen reader, or strong contrast: names, order, focus, colours."""

from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenScreen
from tests.browser.looking import Serve, cards, ids, open_card, open_history, open_page
from tests.serving.projects import Published

pytestmark = pytest.mark.browser

# Every control that is shown, with the name that its label, its attributes or its text give it.
NAMES = """() => [...document.querySelectorAll("button, a[href], input, [role=listbox], [role=progressbar], dialog")]
  .filter((node) => node.checkVisibility())
  .map((node) => [node.outerHTML.slice(0, 80), (
    node.getAttribute("aria-label")
    || document.getElementById(node.getAttribute("aria-labelledby"))?.textContent
    || node.labels?.[0]?.textContent
    || node.innerText || "").trim()])"""

# Contrast of text with what is painted behind it, by WCAG 2: (lighter + 0.05) / (darker + 0.05). Canvas turns any
# notation of a colour into numbers; half-transparent grounds are laid over what is behind them.
CONTRAST = """(selectors) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  const paint = (colours) => {
    brush.clearRect(0, 0, 1, 1);
    for (const colour of colours) { brush.fillStyle = colour; brush.fillRect(0, 0, 1, 1); }
    return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3).map((value) => value / 255);
  };
  const light = (rgb) => rgb.map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (text, grounds) => {
    const a = light(paint(grounds.concat(text))), b = light(paint(grounds));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const found = [];
  for (const selector of selectors) {
    const nodes = [...document.querySelectorAll(selector)].filter((node) => node.checkVisibility()).slice(0, 40);
    for (const node of nodes) {
      const grounds = [];
      for (let at = node; at; at = at.parentElement) {
        const style = getComputedStyle(at);
        // The title of a poster lies on the scrim of its own colour.
        const scrim = at.matches(".poster, .banner, .hero") ? style.getPropertyValue("--ps") : "";
        grounds.unshift(scrim || style.backgroundColor);
        if (scrim) break;
      }
      const probe = document.createElement("span");
      document.body.append(probe);
      const plain = grounds.map((colour) => { probe.style.color = colour; return getComputedStyle(probe).color; });
      probe.remove();
      found.push([selector, node.textContent.trim().slice(0, 30), ratio(getComputedStyle(node).color, plain)]);
    }
    if (!nodes.length) found.push([selector, "is not on the page", 0]);
  }
  return found;
}"""

TEXTS = [
    ".brand",
    ".field-input",
    ".field-label",
    ".row-title",
    ".row-reason",
    ".kinds",
    ".poster-title",
    ".hero-title",
    ".hero-kicker",
    ".hero .act",
    ".hero .act.first span",
    ".foot",
    ".foot b",
]
HISTORY = [".history h2", ".history .note", ".event-title", ".event-did", ".tile"]
DIALOG = [
    ".sheet-title",
    ".sheet .act.first span",
    ".sheet .act",
    ".sheet .note",
    ".similar h3",
    ".sheet-status",
    ".plain",
]


def weak(page: Page, selectors: list[str]) -> list[Any]:
    """The texts whose contrast is below 4.5, the least that WCAG's level AA allows for small ones."""
    found: list[Any] = page.evaluate(CONTRAST, selectors)
    return [one for one in found if one[2] < 4.5]


def nameless(page: Page) -> list[str]:
    """The controls without a name."""
    controls = page.evaluate(NAMES)
    assert len(controls) > 5
    return [html for html, name in controls if not name]


@pytest.mark.parametrize("dark", [False, True])
def test_names_and_contrast(open_screen: OpenScreen, serve: Serve, tiny: Published, dark: bool) -> None:
    page = open_screen(dark=dark)
    open_page(page, serve(tiny))
    assert nameless(page) == []
    assert weak(page, TEXTS) == []
    open_history(page)
    assert nameless(page) == []
    assert weak(page, HISTORY) == []
    page.keyboard.press("Escape")
    dialog = open_card(page, cards(page, "for-you").first)
    dialog.get_by_test_id("action-play").click()
    dialog.get_by_test_id("action-like").click()
    expect(dialog.get_by_test_id("dialog-status")).to_contain_text("Liked")
    expect(dialog.get_by_test_id("similar-open").first).to_be_visible()
    assert nameless(page) == []
    assert weak(page, DIALOG) == []
    page.keyboard.press("Escape")
    page.get_by_test_id("search").fill("the")
    expect(page.get_by_test_id("search-option").first).to_be_visible()
    assert nameless(page) == []
    assert weak(page, [".option-title", ".option .note", ".options-note", ".option .tile"]) == []


def test_the_measure_finds_weak_text(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    page.evaluate("() => document.querySelector('.row-title').style.setProperty('color', '#999')")
    page.evaluate("() => document.querySelector('.tool').removeAttribute('aria-label')")
    assert [one[1] for one in weak(page, [".row-title"])] == ["For you"]
    assert len(nameless(page)) == 1


def test_landmarks_and_headings(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    for role in ("banner", "main", "search", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    open_history(page)
    expect(page.get_by_role("complementary", name="History")).to_be_visible()
    expect(page.get_by_role("region", name="For you", exact=True)).to_be_visible()
    levels = page.evaluate(
        "() => [...document.querySelectorAll('h1, h2, h3, h4')].filter((node) => node.checkVisibility())"
        ".map((node) => Number(node.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    expect(page.get_by_test_id("status")).to_have_attribute("aria-live", "polite")
    assert page.evaluate("() => document.documentElement.lang") == "en"


def test_the_keyboard_reaches_all_and_leaves_again(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the rows")).to_be_focused()
    places: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "() => { const at = document.activeElement; if (at === document.body) return 'browser';"
            " const style = getComputedStyle(at);"
            " if (style.outlineStyle === 'none') return 'no outline: ' + at.outerHTML.slice(0, 90);"
            " return at.closest('.row')?.dataset.row ?? at.closest('.hero')?.id ?? at.id; }"
        )
        if place == "browser":
            break
        places.append(place)
    assert place == "browser"  # the Tab key leads through the page and out of it
    assert not [place for place in places if place.startswith("no outline")]
    rows = [str(row.get_attribute("data-row")) for row in page.get_by_test_id("row").all()]
    order = list(dict.fromkeys(places))
    assert order[:6] == ["search", "user", "new-visitor", "history-toggle", "theme", "hero"]
    assert [place for place in order if place in rows] == rows
    # One card of a row is in that order; the arrows lead to the others.
    assert places.count("for-you") == 4
    cards(page, "for-you").first.get_by_test_id("open").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(cards(page, "for-you").nth(2).get_by_test_id("open")).to_be_focused()
    page.keyboard.press("End")
    expect(cards(page, "for-you").last.get_by_test_id("open")).to_be_focused()
    expect(cards(page, "for-you").last).to_be_in_viewport()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("() => document.activeElement.closest('.row').dataset.key") != "served:for-you"
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("dialog")).to_be_hidden()


def test_a_key_held_down_acts_once(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    before = ids(cards(page, "for-you"))
    cards(page, "for-you").first.get_by_test_id("action-dislike").focus()
    for _ in range(4):  # a second `down` without an `up` is a repeat
        page.keyboard.down("Enter")
    expect(page.get_by_test_id("status")).to_contain_text("Disliked")
    page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    assert set(before) - set(ids(page.get_by_test_id("card"))) == {before[0]}


def test_nothing_moves_for_those_who_ask_for_it(page: Page, serve: Serve, tiny: Published) -> None:
    open_page(page, serve(tiny))
    cards(page, "for-you").first.get_by_test_id("action-like").press("Enter")
    expect(page.get_by_test_id("status")).to_contain_text("Rows updated")
    assert page.evaluate("() => document.getAnimations().length") == 0
