"""`upnext recommend`: the answer a server would give, from the command line."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upnext.base.artifacts import Workspace
from upnext.base.errors import BadArtifact
from upnext.serving.histories import Histories
from upnext.serving.intake import check_user
from upnext.serving.recommend import Page, Query, follow_stream, recommend
from upnext.serving.release import Release
from upnext.store.embedded import LmdbStore

__all__ = ["recommend_users"]


def recommend_users(workspace_folder: Path, users: Sequence[str], k: int, as_json: bool, console: Console) -> None:
    """Print the rows of some users, as tables or as JSON lines."""
    if not workspace_folder.is_dir():
        raise BadArtifact(f"there is no workspace {workspace_folder}; run `upnext run FILE.toml --until publish` first")
    release = Release.load(Workspace(workspace_folder).current("release", "release", verify=False).folder)
    live_folder = workspace_folder / "live"
    live = LmdbStore(live_folder) if live_folder.is_dir() else None
    try:
        histories = Histories(release, live)
        follow_stream(release, histories, histories.posted())
        now = time.time_ns() // 1_000_000
        queries = [Query(check_user(release.users.parse(user), "--user"), now, k) for user in users]
        for page in recommend(release, histories, queries):
            _print(release, page, as_json, console)
    finally:
        release.histories.close()
        if live is not None:
            live.close()


def _print(release: Release, page: Page, as_json: bool, console: Console) -> None:
    if as_json:
        rows = [
            {
                "name": row.name,
                "reason": row.reason,
                "items": [
                    release.catalogue.describe(item) | {"score": score}
                    for item, score in zip(row.items, row.scores, strict=True)
                ],
            }
            for row in page.rows
        ]
        console.print_json(json.dumps({"user_id": page.user_id, "is_known": page.is_known, "rows": rows}), indent=None)
        return
    for row in page.rows:
        title = escape(f"{page.user_id}: {row.title} — {row.reason}")
        table = Table(title=title, title_justify="left")
        for column in ("item_id", "title", "genres"):
            table.add_column(column)
        table.add_column("score", justify="right")
        for item, score in zip(row.items, row.scores, strict=True):
            shown = release.catalogue.describe(item)
            cells = (str(shown["item_id"]), shown["title"], ", ".join(shown["genres"]), f"{score:.3f}")
            table.add_row(*map(escape, cells))
        console.print(table)
