"""`upnext recommend`: the answer a server would give, from the command line, to some users or to all."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from upnext.base.errors import BadConfig, BadRequest
from upnext.base.files import replacing
from upnext.base.ids import PADDING
from upnext.base.schema import ITEM_ID, USER_ID
from upnext.commands.opened import check_folder, open_release, use_threads
from upnext.serving.assortment import Assortment
from upnext.serving.everyone import Block, recommend_everyone
from upnext.serving.histories import Histories
from upnext.serving.intake import check_context, check_user
from upnext.serving.recommend import Page, Query, Row, recommend
from upnext.serving.release import Release

__all__ = ["Setting", "print_items", "recommend_all", "recommend_users", "write_all"]


@dataclass(frozen=True)
class Setting:
    """In which setting the command line asks: contexts as NAME=VALUE, and whether only for what users never met."""

    contexts: Sequence[str] = ()
    unfamiliar: bool = False

    def context(self, release: Release) -> dict[str, str | float]:
        """The contexts, checked.

        Raises:   BadRequest: one without a value, unknown to the log, or no number where it has to be one.
        """
        pairs = [text.partition("=") for text in self.contexts]
        for text, (_, equals, _) in zip(self.contexts, pairs, strict=True):
            if not equals:
                raise BadRequest(f"--context {text} has no value; write --context NAME=VALUE, such as surface=home")
        return check_context({name: value for name, _, value in pairs}, release.schema.contexts, "--context")


def recommend_users(
    workspace: Path,
    users: Sequence[str],
    k: int,
    as_json: bool,
    console: Console,
    threads: int | None = None,
    setting: Setting = Setting(),
) -> None:
    """Print the rows of some users, as tables or as JSON lines."""
    use_threads(threads)
    with open_release(workspace) as (release, histories):
        now, context = time.time_ns() // 1_000_000, setting.context(release)
        queries = [
            Query(check_user(release.users.parse(user), "--user"), now, k, context, setting.unfamiliar)
            for user in users
        ]
        for page in recommend(release, histories, queries):
            _print(histories.assortment, page, as_json, console)


def recommend_all(
    workspace: Path,
    out: Path,
    k: int,
    as_json: bool,
    console: Console,
    threads: int | None = None,
    setting: Setting = Setting(),
) -> None:
    """Write the row "For you" of every user into a Parquet file, and say how long it took."""
    if out.suffix != ".parquet":
        raise BadConfig(f"--out {out}: the answers are written as Parquet; name a file that ends in .parquet")
    check_folder(out)
    use_threads(threads)
    with open_release(workspace) as (release, histories):
        start = time.perf_counter()
        now = time.time_ns() // 1_000_000
        blocks = recommend_everyone(release, histories, now, k, setting.context(release), setting.unfamiliar)
        num_rows = write_all(histories, blocks, out, Console(stderr=True))
        seconds = time.perf_counter() - start
        num_users = len(release.users.ids)
    if as_json:
        said = {"out": str(out), "release": release.name, "users": num_users, "rows": num_rows, "seconds": seconds}
        console.print_json(json.dumps(said), indent=None)
    else:
        console.print(f"{num_rows:,} rows for {num_users:,} users in {escape(str(out))}  [dim]{seconds:.1f} s[/dim]")


def write_all(histories: Histories, blocks: Iterable[Block], out: Path, console: Console) -> int:
    """Write every user's row as `user_id, rank, item_id, score`; the file appears when it is whole.

    Returns:  the number of rows.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    num_rows = 0
    with replacing(out) as partial, Progress(*columns, console=console) as progress:
        task = progress.add_task("users", total=len(histories.release.users.ids))
        with pq.ParquetWriter(partial, _table(histories.assortment, None).schema) as writer:
            for block in blocks:
                table = _table(histories.assortment, block)
                writer.write_table(table)
                num_rows += table.num_rows
                progress.advance(task, len(block.users))
    return num_rows


def _table(assortment: Assortment, block: Block | None) -> pa.Table:
    """A block as a table; None gives the table without rows."""
    if block is None:
        block = Block(np.empty(0, np.int64), np.empty((0, 1), np.int64), np.empty((0, 1), np.float32))
    rows, places = np.nonzero(block.items != PADDING)
    return pa.table(
        {
            USER_ID: assortment.release.users.externals(block.users[rows]),
            "rank": pa.array(places + 1, pa.int32()),
            ITEM_ID: assortment.externals(block.items[rows, places]),
            "score": pa.array(block.scores[rows, places]),
        }
    )


def _print(assortment: Assortment, page: Page, as_json: bool, console: Console) -> None:
    if as_json:
        rows = [
            {
                "name": row.name,
                "reason": row.reason,
                "items": [
                    assortment.describe(item) | {"score": score} | _because(assortment, row, place)
                    for place, (item, score) in enumerate(zip(row.items, row.scores, strict=True))
                ],
            }
            for row in page.rows
        ]
        console.print_json(json.dumps({"user_id": page.user_id, "is_known": page.is_known, "rows": rows}), indent=None)
        return
    for row in page.rows:
        print_items(assortment, row.items, row.scores, f"{page.user_id}: {row.title} — {row.reason}", console)


def _because(assortment: Assortment, row: Row, place: int) -> dict[str, Any]:
    """What the user chose lately that an item is like, if anything."""
    chosen = row.because[place] if row.because else PADDING
    return {"because": assortment.describe(chosen)} if chosen != PADDING else {}


def print_items(
    assortment: Assortment, items: Sequence[int], scores: Sequence[float], title: str, console: Console
) -> None:
    """Print items with their scores as a table."""
    table = Table(title=escape(title), title_justify="left")
    for column in ("item_id", "title", "genres"):
        table.add_column(column)
    table.add_column("score", justify="right")
    for item, score in zip(items, scores, strict=True):
        shown = assortment.describe(item)
        cells = (str(shown["item_id"]), shown["title"], ", ".join(shown["genres"]), f"{score:.3f}")
        table.add_row(*map(escape, cells))
    console.print(table)
