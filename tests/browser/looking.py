"""How tests look at the page, and at the server behind it."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.serving.projects import Published
from tests.serving.server import ServerProcess

__all__ = ["Serve", "ask", "cards", "history_of", "ids", "open_card", "open_history", "open_page", "posts_of", "press"]

Serve = Callable[[Published], ServerProcess]


def ask(server: ServerProcess, path: str, **params: Any) -> Any:
    """A GET to the server; the path has no slash before it."""
    answer = httpx.get(server.address + path, params=params, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def history_of(page: Page, server: ServerProcess) -> list[dict[str, Any]]:
    """What the user of the page did since the release, the latest first."""
    user = page.get_by_test_id("user-switch").input_value()
    events = ask(server, f"v1/users/{user}/history")["events"]
    return [event for event in events if event["is_live"]]


def open_page(page: Page, server: ServerProcess, user: str | None = None) -> None:
    """Load the page and wait for its rows."""
    page.goto(server.address + (f"?{urlencode({'user': user})}" if user is not None else ""))
    expect(page.locator("#rows")).to_have_attribute("aria-busy", "false")


def open_history(page: Page) -> None:
    """Show the history beside the rows."""
    page.get_by_test_id("history-toggle").click()
    expect(page.get_by_test_id("history")).to_be_visible()


def ids(items: Locator) -> list[str]:
    """The item of each card or line."""
    return [str(item.get_attribute("data-item")) for item in items.all()]


def cards(page: Page, row: str) -> Locator:
    """The cards of a row that the service sent."""
    return page.locator(f'[data-testid="row"][data-row="{row}"] [data-testid="card"]')


def open_card(page: Page, card: Locator) -> Locator:
    """Open the dialog of a card."""
    card.get_by_test_id("open").click(position={"x": 30, "y": 30})
    dialog = page.get_by_test_id("dialog")
    expect(dialog).to_be_visible()
    return dialog


def press(card: Locator, action: str) -> None:
    """Press an action of a card, which shows them to a pointer over it."""
    card.hover()
    card.get_by_test_id(f"action-{action}").click()


def posts_of(page: Page) -> list[dict[str, Any]]:
    """A list that receives the events which the page posts from now on."""
    posted: list[dict[str, Any]] = []

    def note(request: Any) -> None:
        if request.method == "POST":
            posted.extend(request.post_data_json["events"])

    page.on("request", note)
    return posted
