"""Take the pictures of the page that the docs show: `python docs/screenshots.py runs/demo --user u02539`.

Needs a published workspace and Chromium. The page is served from a copy with an empty live store, so that what the
pictures need to have happened stays out of the workspace.
"""

import argparse
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from upnext.base.artifacts import Workspace
from upnext.pipeline.serve import ServeConfig, run

IMAGES = Path(__file__).parent / "images"
LARGEST = 250_000
DESKTOP, PHONE = (1280, 800), (390, 844)


def _serve(workspace: Path, announce: Connection) -> None:
    run(ServeConfig(port=0), Workspace(workspace), announce.send)


@contextmanager
def served(workspace: Path) -> Iterator[str]:
    """Serve a workspace's release from a process of its own; gives the address."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "artifacts").symlink_to((workspace / "artifacts").resolve())
        shutil.copytree(workspace / "current", Path(folder) / "current")
        context = multiprocessing.get_context("spawn")
        announced, announce = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(Path(folder), announce), daemon=True)
        process.start()
        announce.close()
        try:
            yield announced.recv()
        finally:
            process.terminate()
            process.join()


def open_page(browser: Browser, address: str, size: tuple[int, int], dark: bool) -> Page:
    """Open the page on a screen and wait for its rows."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        is_mobile=size == PHONE,
        has_touch=size == PHONE,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#rows")).to_have_attribute("aria-busy", "false")
    return page


def save(page: Page, name: str) -> None:
    """Write one picture, small enough for a repository."""
    page.wait_for_timeout(400)  # the fonts and the last frame
    path = IMAGES / f"{name}.jpg"
    page.screenshot(path=path, type="jpeg", quality=82)
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes")
    if size > LARGEST:
        raise SystemExit(f"{path} has {size:,} bytes, more than {LARGEST:,}; lower the quality")


def take(browser: Browser, address: str) -> None:
    """Take every picture; what is done for one may be seen in the next."""
    save(open_page(browser, address, DESKTOP, dark=True), "page-desktop")
    save(open_page(browser, address, DESKTOP, dark=False), "page-light")
    save(open_page(browser, address, PHONE, dark=True), "page-phone")
    page = open_page(browser, address, DESKTOP, dark=True)
    page.locator('[data-row="for-you"] [data-testid="open"]').nth(2).click(position={"x": 30, "y": 30})
    dialog = page.get_by_test_id("dialog")
    expect(dialog.get_by_test_id("similar-open").first).to_be_visible()
    dialog.get_by_test_id("action-play").click()
    page.wait_for_timeout(6000)
    dialog.get_by_test_id("action-play").click()
    save(page, "page-title")


def main() -> None:
    """Serve, look, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--user", default="", help="whose page; the first of the log if left out")
    given = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("there is no chromium on the path; install it")
    with served(given.workspace) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        take(browser, address + (f"?user={given.user}" if given.user else ""))
        browser.close()


if __name__ == "__main__":
    main()
