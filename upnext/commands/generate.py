"""`upnext generate`: what a user would do next, rolled out event by event."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upnext.base.configuration import Config, Duration, parse_config
from upnext.commands.opened import open_release, use_threads
from upnext.commands.recommend import Setting
from upnext.serving.assortment import Assortment
from upnext.serving.generate import Imagined, Rollout, generate
from upnext.serving.intake import check_user

__all__ = ["Drawing", "print_future"]


class Drawing(Config):
    """How events are drawn, as the command line's options say."""

    temperature: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    step: Annotated[Duration, Field(gt=0)] | None = None
    repeats: bool = False


def print_future(
    workspace: Path,
    user: str,
    k: int,
    contexts: Sequence[str],
    drawing: Mapping[str, object],
    as_json: bool,
    console: Console,
    threads: int | None = None,
) -> None:
    """Print the next k events of a user that the current release imagines, as a table or as one JSON object.

    Args:     drawing: the fields of `Drawing` that were given.
    """
    use_threads(threads)
    options = parse_config(Drawing, drawing, "upnext generate")
    with open_release(workspace) as (release, histories):
        rollout = Rollout(
            user_id=check_user(release.users.parse(user), "--user"),
            time_ms=time.time_ns() // 1_000_000,
            k=k,
            context=Setting(contexts).context(release),
            temperature=options.temperature,
            seed=options.seed,
            step_ms=options.step,
            repeats=options.repeats,
        )
        events = generate(release, histories, rollout)
        if as_json:
            said = [_described(histories.assortment, event) for event in events]
            answer = {"user_id": rollout.user_id, "release": release.name, "events": said}
            console.print_json(json.dumps(answer), indent=None)
        else:
            _print(histories.assortment, str(rollout.user_id), events, console)


def _described(assortment: Assortment, event: Imagined) -> dict[str, object]:
    return assortment.describe(event.item) | {
        "time_ms": event.time_ms,
        "probability": event.probability,
        "expected": event.expected,
        "feedback": event.feedback,
    }


def _print(assortment: Assortment, user: str, events: Sequence[Imagined], console: Console) -> None:
    table = Table(title=escape(f"{user}: what would come next"), title_justify="left")
    for column in ("time (UTC)", "item_id", "title"):
        table.add_column(column)
    table.add_column("probability", justify="right")
    names = list(events[0].expected) if events else []
    for name in names:
        table.add_column(escape(f"E[{name}]"), justify="right")
    for event in events:
        item = assortment.describe(event.item)
        moment = str(np.datetime64(event.time_ms // 1000, "s")).replace("T", " ")  # datetime ends with the year 9999
        figures = (f"{event.probability:.4f}", *(f"{event.expected[name]:.3f}" for name in names))
        table.add_row(moment, escape(str(item["item_id"])), escape(item["title"]), *figures)
    console.print(table)
