"""The report in a real Chromium: one file that asks for nothing, fits a phone, and leads where it says."""

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.evaluation.test_page import EVIL, example, whole
from tests.evaluation.test_render import pages


@pytest.fixture
def shown(tmp_path: Path, page: Page) -> list[str]:
    """Open a whole report; the addresses that the page asked for."""
    pages(tmp_path, whole(examples=[example(history=[EVIL, "x" * 80])]))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    return asked


def test_the_report_asks_for_itself_alone(page: Page, shown: list[str], complaints: list[str]) -> None:
    assert [address.rpartition("/")[2] for address in shown] == ["report.html"]
    assert complaints == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_the_report_fits_its_window(page: Page, shown: list[str], width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for figure in page.locator("svg").all():
        box = figure.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_the_contents_lead_to_what_they_name(page: Page, shown: list[str]) -> None:
    for link in page.locator("nav a").all():
        link.click()
        name = link.inner_text()
        assert page.locator("section:target > h2").inner_text() == name


def test_light_and_dark_differ_and_print_is_light(page: Page, shown: list[str]) -> None:
    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="light")
    light = ground()
    page.emulate_media(color_scheme="dark")
    assert ground() != light
    page.emulate_media(color_scheme="dark", media="print")
    assert ground() == light
    assert not page.locator("nav").is_visible()


def test_titles_are_text(page: Page, shown: list[str]) -> None:
    assert page.get_by_text(EVIL, exact=True).is_visible()
