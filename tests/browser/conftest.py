"""A real Chromium and, for each test, a real server with a live store of its own."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.conftest import skip_or_fail
from tests.serving.projects import Published
from tests.serving.server import ServerProcess

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")  # no longer: Playwright's event loop would run through all later tests
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        skip_or_fail("there is no chromium on the path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS, headless=True)
        yield browser
        browser.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Published], ServerProcess]]:
    servers: list[ServerProcess] = []

    def serve_one(published: Published) -> ServerProcess:
        servers.append(ServerProcess(published.lend(tmp_path / f"lent-{len(servers)}")))
        return servers[-1]

    yield serve_one
    for server in servers:
        with server:
            pass


@pytest.fixture
def complaints() -> list[str]:
    """What the page wrote to the console as an error or threw, and what it asked of other machines."""
    return []


OpenScreen = Callable[..., Page]


@pytest.fixture
def open_screen(browser: Browser, complaints: list[str]) -> Iterator[OpenScreen]:
    """Open a page on a screen: `open_screen(width=390, height=844, is_mobile=True)`."""
    contexts = []

    def note_request(request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "file:", "about:")):
            complaints.append(f"asked for {request.url}")

    def open_one(width: int = 1280, height: int = 800, is_mobile: bool = False, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            is_mobile=is_mobile,
            has_touch=is_mobile,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", note_request)
        return page

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def page(open_screen: OpenScreen) -> Page:
    return open_screen()
