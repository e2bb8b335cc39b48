"""`upnext similar`: the items nearest to one."""

import json
from pathlib import Path

from rich.console import Console

from upnext.commands.opened import open_release, use_threads
from upnext.commands.recommend import print_items
from upnext.serving.similar import find_item, similar_items

__all__ = ["print_similar"]


def print_similar(
    workspace: Path, item_id: str, k: int, as_json: bool, console: Console, threads: int | None = None
) -> None:
    """Print the nearest items of the current release, as a table or as one JSON object."""
    use_threads(threads)
    with open_release(workspace) as (release, histories):
        assortment = histories.assortment
        item = find_item(assortment, item_id)
        items, scores = similar_items(release, assortment, item, k)
        described = assortment.describe(item)
        if as_json:
            near = [assortment.describe(i) | {"score": s} for i, s in zip(items, scores, strict=True)]
            console.print_json(json.dumps({"item": described, "release": release.name, "similar": near}), indent=None)
        else:
            print_items(assortment, items, scores, f"{described['item_id']}: nearest to {described['title']}", console)
