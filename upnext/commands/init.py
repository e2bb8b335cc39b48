"""`upnext init`: look at a file, guess what its columns are, and write a project that runs."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from upnext.base.configuration import parse_config
from upnext.base.errors import BadConfig, BadData
from upnext.commands.project import Project
from upnext.events.sources.formats import read_table
from upnext.events.sources.guess import Guess, Guesses, guess_columns
from upnext.events.sources.guess_features import guess_features

__all__ = ["init_project", "project_text"]

_PERIODS = {
    "14d": 1_209_600_000,
    "7d": 604_800_000,
    "3d": 259_200_000,
    "1d": 86_400_000,
    "6h": 21_600_000,
    "1h": 3_600_000,
    "10m": 600_000,
    "1m": 60_000,
}
_PARTS_OF_SPAN = 10
"""The test part is the longest period of which the log holds at least this many."""
_SEPARATORS = ";\t|"


def init_project(
    file: str,
    out: Path | None,
    given: Mapping[str, str],
    as_json: bool,
    console: Console,
    side_files: Mapping[str, str] | None = None,
) -> None:
    """Show what the columns of a table seem to be, and write a project of it.

    Args:     file: a path or a pattern; out: the project's file; None writes project.toml, and with `as_json`
              nothing. given: columns by role that need no guess. side_files: tables of items and users, as
              "item" and "user".
    Raises:   BadConfig: `out` exists. BadData: the file cannot be read, or is no log.
    """
    target = out or (None if as_json else Path("project.toml"))
    if target is not None and target.exists():
        raise BadConfig(f"{target} exists, and is not overwritten; choose another name with --out, or remove it")
    frame, origin, separator = *read_table(file, {}, keep_others=True), None
    if len(frame.columns) == 1 and origin.is_untyped:
        separator = next((mark for mark in _SEPARATORS if mark in frame.columns[0]), None)
        if separator is not None:
            frame, origin = read_table(file, {}, separator=separator, keep_others=True)
    guesses = guess_columns(frame, origin.is_untyped, given)
    sides = {owner: _guess_side(path, owner, guesses) for owner, path in (side_files or {}).items()}
    if as_json:
        shown = asdict(guesses) | {"file": file, "num_rows": frame.height}
        shown |= {f"{owner}s": [asdict(guess) for guess in side] for owner, side in sides.items()}
        console.print_json(json.dumps(shown), indent=None)
    else:
        _show(f"{file}: {frame.height:,} rows", guesses.columns, console)
        for owner, side in sides.items():
            _show(f"{(side_files or {})[owner]}: what is known of {owner}s", side, console)
    if guesses.problems:
        raise BadData(f"{file} is no log yet: {'; '.join(guesses.problems)}")
    if target is None:
        return
    text = project_text(file, guesses, separator, {(side_files or {})[owner]: side for owner, side in sides.items()})
    parse_config(Project, tomllib.loads(text), str(target))  # what is written is accepted
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8") as sink:
            sink.write(text)
    except OSError as error:
        raise BadConfig(f"cannot write {target}: {error.strerror}; choose another place with --out") from None
    if not as_json:
        console.print(f"wrote [bold]{escape(str(target))}[/bold]; correct it where a guess is wrong, then run:")
        console.print(f"  upnext run {escape(str(target))} --until evaluate")


def _guess_side(file: str, owner: str, guesses: Guesses) -> list[Guess]:
    """Guess the columns of a side table; its ids are called as in the events, or stand on one row each."""
    frame, origin = read_table(file, {}, keep_others=True)
    column = next((guess.column for guess in guesses.columns if guess.role == owner), owner)
    return guess_features(frame, origin.is_untyped, owner, column)


def _show(title: str, guesses: Sequence[Guess], console: Console) -> None:
    table = Table(title=escape(title), title_justify="left")
    for name in ("column", "sample", "role", "why"):
        table.add_column(name, overflow="fold")
    for guess in guesses:
        role = guess.role if guess.kind is None else f"{guess.role} ({guess.kind})"
        style = "dim" if guess.role == "left out" else None
        sample = ", ".join(_short(value, 24) for value in guess.sample)
        table.add_row(*map(escape, (guess.column, sample, role, guess.reason)), style=style)
    console.print(table)


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


def project_text(
    file: str,
    guesses: Guesses,
    separator: str | None = None,
    sides: Mapping[str, list[Guess]] | None = None,
) -> str:
    """Write the project of a table as TOML, every guess with its reason.

    Args:     sides: by file, the guesses of the tables of items and users.

    Returns:  text that `upnext run` accepts; the table has a user and an item.
    """
    name = re.sub(r"[^a-z0-9]+", "-", Path(file).name.split(".")[0].lower()).strip("-") or "log"
    lines = [f"# Made by `upnext init` from {_comment(file)}. Each guess has its reason beside it.", ""]
    lines += [f"workspace = {_text(f'runs/{name}')}", "", "[prepare.source]", 'kind = "table"', f"path = {_text(file)}"]
    lines += [f"separator = {_text(separator)}"] if separator is not None else []
    for role in ("user", "item", "time", "request", "position", "interaction"):
        for guess in guesses.of(role):
            lines.append(f"{role} = {_text(guess.column)}  # {_comment(guess.reason)}")
            if role == "time" and guess.kind is not None:
                lines.append(f"time_unit = {_text(guess.kind)}")
    taken: set[str] = set()
    contexts, feedback = _named(guesses.of("context"), taken), _named(guesses.of("feedback"), taken)
    lines += _columns("contexts", "Known before the item is chosen.", contexts)
    lines += _columns("feedback", "Known only after it.", feedback)
    for side_file, side in (sides or {}).items():
        lines += _side(side_file, side)
    left = guesses.of("left out")
    lines += ["", "# Not read:"] if left else []
    lines += [f"#   {_comment(guess.column)}: {_comment(guess.reason)}" for guess in left]
    view = next((key for key, guess in feedback.items() if guess.kind == "binary"), None)
    lines += ["", "# Events that a model learns from and that count as chosen; without a view it is all of them."]
    lines += ["[prepare.views]"]
    lines += [f'chosen = "{view} == 1"'] if view else ['# chosen = "name_of_a_feedback >= 0.5"']
    lines += ["", *_split(guesses.span_ms, view)]
    chosen = ['view = "chosen"'] if view else []
    lines += ["", "[pretrain.sasrec.model]", 'kind = "sasrec"', *chosen]
    lines += ["", "[pretrain.popular.model]", 'kind = "popular"', *chosen]
    lines += ["", "[publish]", 'retriever = "sasrec"', 'popular = "popular"', ""]
    buttons = [name for name, guess in feedback.items() if guess.kind in ("binary", "fraction")]
    lines += ["[publish.actions]  # The page's buttons, and the feedback that each posts."] if buttons else []
    lines += [*(f"{name} = {{ {name} = 1.0 }}" for name in buttons), *([""] if buttons else [])]
    return "\n".join(lines)


def _named(guesses: list[Guess], taken: set[str]) -> dict[str, Guess]:
    """Give each column a name of letters, digits and underscores, none twice."""
    named: dict[str, Guess] = {}
    for guess in guesses:
        name = re.sub(r"\W", "_", guess.column, flags=re.ASCII)
        name = name if re.match(r"[A-Za-z_]", name) else f"c_{name}"
        while name in taken:
            name += "_"
        taken.add(name)
        named[name] = guess
    return named


def _columns(table: str, meaning: str, named: Mapping[str, Guess]) -> list[str]:
    return ["", f"[prepare.source.{table}]  # {meaning}", *_entries(named)] if named else []


def _entries(named: Mapping[str, Guess]) -> list[str]:
    lines = []
    for name, guess in named.items():
        kind = _text(guess.kind or "")
        value = kind if name == guess.column else f"{{ column = {_text(guess.column)}, kind = {kind} }}"
        lines.append(f"{name} = {value}  # {_comment(guess.reason)}")
    return lines


def _side(file: str, guesses: list[Guess]) -> list[str]:
    """A side table: its id, what the page shows, and what models may read; these read what the page shows too."""
    (ids,) = [guess for guess in guesses if guess.role in ("item", "user")]
    lines = ["", f"[prepare.source.{ids.role}s]", f"path = {_text(file)}"]
    lines += [f"{ids.role} = {_text(ids.column)}  # {_comment(ids.reason)}"]
    shown = {guess.role: guess for guess in guesses if guess.role in ("title", "genres", "collection")}
    lines += [f"{role} = {_text(guess.column)}  # {_comment(guess.reason)}" for role, guess in shown.items()]
    features = _named([guess for guess in guesses if guess.role == "feature"], {"item_id", "user_id", *shown})
    if shown or features:
        lines += ["", f"[prepare.source.{ids.role}s.features]  # What models may read: what holds at any time."]
        lines += [f"{role} = {_text(guess.kind or '')}" for role, guess in shown.items()]
        lines += _entries(features)
    left = [guess for guess in guesses if guess.role == "left out"]
    lines += [f"# Read by no model: {_comment(guess.column)}: {_comment(guess.reason)}" for guess in left]
    return lines


def _split(span_ms: int | None, view: str | None) -> list[str]:
    """By time where the log is long enough, else each user's last event."""
    fits = [name for name, length in _PERIODS.items() if span_ms is not None and length * _PARTS_OF_SPAN <= span_ms]
    if fits:
        days = (span_ms or 0) / 86_400_000
        lines = ["[prepare.split]", 'kind = "global_time"', f"# The log spans {days:.1f} days; the end of it tests."]
        return [*lines, f'validation = "{fits[0]}"', f'test = "{fits[0]}"']
    why = "without times" if span_ms is None else "so short a time"
    lines = [
        "[prepare.split]",
        f"# A log {why if span_ms is None else f'of {why}'} is split by each user's last events.",
    ]
    return [*lines, 'kind = "leave_last_out"', *(['view = "chosen"'] if view else [])]


def _text(value: str) -> str:
    """A TOML string: JSON's escapes are TOML's too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    """What may stand in a comment: one line without control characters."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text)
