"""`upnext choose`: candidates that were found elsewhere, in the order of what the release expects of them."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from upnext.base.errors import BadConfig
from upnext.commands.opened import open_release, use_threads
from upnext.commands.recommend import Setting, print_items
from upnext.serving.choose import Choice, check_limits, choose, dense_items
from upnext.serving.intake import check_user

__all__ = ["print_chosen"]


def print_chosen(
    workspace: Path,
    user: str,
    candidates: Sequence[str],
    file: Path | None,
    k: int | None,
    threshold: float | None,
    setting: Setting,
    as_json: bool,
    console: Console,
    threads: int | None = None,
) -> None:
    """Print the best k of some candidates, all that reach a threshold, or all, as a table or as one JSON object.

    Args:     file: names more candidates, an id on each line.
    Raises:   BadConfig: there are none. BadRequest, NotFound: what is asked for cannot be answered.
    """
    check_limits(k, threshold, ("-k", "--threshold"))
    asked = [*candidates, *(_lines(file) if file is not None else [])]
    if not asked:
        raise BadConfig("there are no candidates: name items, or a file of them with --candidates")
    use_threads(threads)
    with open_release(workspace) as (release, histories):
        user_id, items = check_user(release.users.parse(user), "--user"), dense_items(histories.assortment, asked)
        now, context = time.time_ns() // 1_000_000, setting.context(release)
        (found,) = choose(release, histories, [Choice(user_id, now, items, k, threshold, context)])
        if as_json:
            described = [histories.assortment.describe(item)["item_id"] for item in found.items]
            chosen = [{"item_id": item, "score": score} for item, score in zip(described, found.scores, strict=True)]
            said = {"user_id": user_id, "release": release.name, "ranker": release.settings.ranker, "items": chosen}
            console.print_json(json.dumps(said), indent=None)
        else:
            title = f"{len(found.items)} of {len(set(items))} candidates, by what {release.settings.ranker} expects"
            print_items(histories.assortment, found.items, found.scores, title, console)


def _lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"--candidates {file}: {error}; name a text file with an item id on each line") from None
