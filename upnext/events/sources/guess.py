"""Guessing what the columns of an unknown table are: their names first, then their values. Guesses carry reasons."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import polars as pl

from upnext.base.errors import BadConfig
from upnext.events.sources.columns import read_untyped
from upnext.events.sources.raw import Column, Origin
from upnext.events.sources.times import guess_unit

__all__ = ["Guess", "Guesses", "Role", "as_id", "guess_columns", "name_words", "plainest", "with_sample"]

Role = Literal[
    "user",
    "item",
    "time",
    "request",
    "position",
    "interaction",
    "context",
    "feedback",
    "title",
    "genres",
    "collection",
    "feature",
    "left out",
]
"""What a column of the events may be, and of a side table."""

_USERS = (
    *("userid", "user", "uid", "customerid", "customer", "visitorid", "visitor", "memberid", "member", "accountid"),
    *("reviewerid", "viewerid", "listenerid", "profileid", "personid", "clientid", "sessionid", "session"),
)
_ITEMS = (
    *("itemid", "item", "productid", "product", "sku", "asin", "movieid", "movie", "videoid", "video", "articleid"),
    *("article", "trackid", "track", "songid", "song", "bookid", "book", "isbn", "contentid", "content", "showid"),
    *("businessid", "newsid", "postid", "documentid", "docid", "adid", "titleid", "title"),
)
_TIMES = ("timestamp", "time", "ts", "datetime", "date", "at", "when", "created", "unixtime")
_REQUESTS = ("requestid", "request", "impressionid", "slateid", "slate", "listid", "pageviewid", "searchid", "queryid")
_POSITIONS = ("position", "pos", "rank", "slot")
_INTERACTIONS = ("interactionid", "interaction", "eventid", "playid", "playbackid", "watchid", "listenid")
_CONTEXTS = frozenset(
    (
        *("device", "os", "platform", "browser", "mobile", "surface", "page", "tab", "region", "country", "city"),
        *("language", "lang", "locale", "referrer", "referer", "channel", "environment", "hour", "daypart"),
        *("weekday", "network", "screen", "placement", "app", "session"),
    )
)
_FEEDBACK = frozenset(
    (
        *("click", "clicked", "clicks", "like", "liked", "likes", "dislike", "disliked", "rating", "ratings"),
        *("stars", "score", "play", "played", "plays", "watch", "watched", "view", "viewed", "purchase"),
        *("purchased", "bought", "cart", "dwell", "finish", "finished", "complete", "completed", "completion"),
        *("progress", "ratio", "follow", "followed", "share", "shared", "comment", "forward", "hate", "skip"),
        *("skipped", "save", "saved", "favorite", "favourite", "bookmark", "seen", "converted", "conversion"),
        *("listen", "listened", "install", "feedback", "reaction", "label", "reward", "quantity", "revenue"),
    )
)
_EVENT_TYPES = frozenset(
    {"event", "eventtype", "action", "actiontype", "behavior", "behaviour", "behaviortype", "type"}
)
_MOST_CATEGORIES = {True: 200, False: 50}
"""The most values of a context: where its name speaks for it, and where none does."""
_FEW_REPEATS = 10


@dataclass(frozen=True)
class Guess:
    """What one column seems to be, and why."""

    column: str
    role: Role
    kind: str | None
    """The unit of a time (None for Parquet timestamps); the kind of a context or a feedback."""
    reason: str
    sample: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Guesses:
    """Every column's guess, in the order of the table."""

    columns: list[Guess]
    span_ms: int | None
    """From the first event to the last; None without times."""
    problems: list[str]
    """What keeps this table from being a log; empty if nothing does."""

    def of(self, role: Role) -> list[Guess]:
        """The columns of one role."""
        return [guess for guess in self.columns if guess.role == role]


def guess_columns(frame: pl.DataFrame, is_untyped: bool, given: Mapping[str, str] | None = None) -> Guesses:
    """Guess the role of every column: one user, one item, at most one time, request and position, and the rest.

    Args:     is_untyped: whether values are text whose types are ours to decide (CSV).
              given: columns whose role is known, by role: `{"user": "who"}`.
    Returns:  a guess per column. An empty table has problems only.
    Raises:   BadConfig: a given column does not exist.
    """
    for role, column in (given or {}).items():
        if column not in frame.columns:
            raise BadConfig(f"--{role} {column}: there is no such column; the table has {', '.join(frame.columns)}")
    table = frame.select(plainest(frame[name], is_untyped) for name in frame.columns)
    found: dict[str, Guess] = {}
    for role, names in (("user", _USERS), ("item", _ITEMS)):
        chosen = _identify(table, role, names, found, given or {})
        if chosen is not None:
            found[chosen.column] = chosen
    moment, span_ms = _time(table, found, given or {})
    found |= moment
    ids: dict[str, str] = {guess.role: guess.column for guess in found.values() if guess.role in ("user", "item")}
    for name in table.columns:
        if name not in found:
            taken = {guess.role for guess in found.values()}
            found[name] = _rest(table, name, ids, taken)
    columns = [with_sample(found[name], frame[name]) for name in table.columns]
    return Guesses(columns, span_ms, _problems(table, ids))


def plainest(values: pl.Series, is_untyped: bool) -> pl.Series:
    """The plainest type: numbers and booleans in text become what they are, NaN becomes null."""
    if values.dtype == pl.String and is_untyped:
        text = values.str.strip_chars().str.to_lowercase()
        if text.null_count() < len(text) and text.drop_nulls().is_in(["true", "false"]).all():
            return (text == "true").alias(values.name)
        values = read_untyped(Column(values, Origin([], is_untyped=True)))
    return values.fill_nan(None) if values.dtype.is_float() else values


def name_words(name: str) -> list[str]:
    """`click_deviceGroup` -> click, device, group."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def _rank(name: str, names: Sequence[str]) -> int | None:
    """How well a name fits a list of names: 0 is best, None not at all."""
    joined = "".join(name_words(name))
    if joined in names:
        return names.index(joined)
    ends = [number for number, other in enumerate(names) if len(other) > 3 and joined.endswith(other)]
    return len(names) + ends[0] if ends else None


def as_id(values: pl.Series) -> bool:
    """Whether values may be ids: integers or text."""
    return values.dtype.is_integer() or values.dtype == pl.String


def _identify(
    table: pl.DataFrame, role: str, names: Sequence[str], found: Mapping[str, Guess], given: Mapping[str, str]
) -> Guess | None:
    """Choose the column of users or of items."""
    role_: Role = "user" if role == "user" else "item"
    if role in given:
        return Guess(given[role], role_, None, f"given as --{role}")
    free = [name for name in table.columns if name not in found and name not in given.values()]
    ranked = sorted((rank, name) for name in free if (rank := _rank(name, names)) is not None)
    ranked = [(rank, name) for rank, name in ranked if as_id(table[name]) or table[name].dtype.is_float()]
    if ranked:
        name = ranked[0][1]
        distinct = table[name].n_unique()
        session = "; no column names a person, so sessions count as users" if "session" in name_words(name) else ""
        return Guess(name, role_, None, f"its name; {distinct:,} different ids{session}")
    for name in free:
        values = table[name]
        if as_id(values) and 1 < values.n_unique() < len(values) and _moment_unit(values) is None:
            reason = f"no name says {role}: the first column left whose ids repeat; check it"
            return Guess(name, role_, None, reason)
    return None


def _moment_unit(values: pl.Series) -> str | None:
    """The unit in which all values are moments between 1990 and tomorrow; "timestamp" for a Parquet type."""
    if not len(values) or values.null_count():
        return None
    if isinstance(values.dtype, pl.Date | pl.Datetime):
        return "timestamp"
    if values.dtype == pl.String:
        firsts = values.head(1000).unique()
        return "iso" if all(guess_unit(value) == "iso" for value in firsts) else None
    if not values.dtype.is_numeric():
        return None
    units = {guess_unit(values.min()), guess_unit(values.max())}
    return units.pop() if len(units) == 1 else None


def _time(
    table: pl.DataFrame, found: Mapping[str, Guess], given: Mapping[str, str]
) -> tuple[dict[str, Guess], int | None]:
    """Choose the column of times, and say of the others that could be one why they are not."""
    free = [given["time"]] if "time" in given else [name for name in table.columns if name not in found]
    units = {name: unit for name in free if (unit := _moment_unit(table[name])) is not None}
    guesses = {
        name: Guess(name, "left out", None, "nanoseconds since 1970: divide it by 1000 to use it as a time")
        for name, unit in units.items()
        if unit == "ns"
    }
    usable = {name: unit for name, unit in units.items() if unit != "ns"}
    if "time" in given and not usable:
        raise BadConfig(f"--time {given['time']}: its values are no times between 1990 and tomorrow on every row")
    best = sorted(
        usable,
        key=lambda name: (not _sounds_like_time(name), -table[name].n_unique(), table.columns.index(name)),
    )
    for name in best[1:]:
        guesses[name] = Guess(name, "left out", None, f"a time too, but {best[0]} fits better")
    if not best:
        return guesses, None
    unit = usable[best[0]]
    called = {"timestamp": "timestamps", "iso": "ISO 8601 text", "s": "seconds", "ms": "milliseconds"}
    first, last = _edges(table[best[0]], unit)
    shown = f"{called.get(unit, 'microseconds')} from {_day(first)} to {_day(last)}"
    guesses[best[0]] = Guess(best[0], "time", None if unit == "timestamp" else unit, shown)
    return guesses, last - first


def _sounds_like_time(name: str) -> bool:
    return any(word in _TIMES for word in name_words(name)) or _rank(name, _TIMES) is not None


def _edges(values: pl.Series, unit: str) -> tuple[int, int]:
    """The first and the last moment, in milliseconds."""
    if unit == "timestamp":
        values = values.cast(pl.Datetime("ms")).dt.timestamp("ms")
    elif unit == "iso":  # days are enough to choose a split
        values = values.str.strip_chars().str.head(10).str.to_date("%Y-%m-%d", strict=False).drop_nulls()
        values = values.cast(pl.Datetime("ms")).dt.timestamp("ms")
    per_ms = {"s": 0.001, "us": 1000}.get(unit, 1)
    low, high = _range(values)
    return int(low / per_ms), int(high / per_ms)


def _range(values: pl.Series) -> tuple[float, float]:
    """The lowest and the highest of some numbers, not all of them missing."""
    low, high = values.min(), values.max()
    assert isinstance(low, int | float | Decimal)
    assert isinstance(high, int | float | Decimal)
    return float(low), float(high)


def _day(time_ms: int) -> str:
    return str(pl.select(pl.lit(time_ms).cast(pl.Datetime("ms")).dt.date()).item())


def _rest(table: pl.DataFrame, name: str, ids: Mapping[str, str], taken: set[Role]) -> Guess:
    """Guess a column that is neither an id nor the time."""
    values, words = table[name], name_words(name)
    distinct = values.drop_nulls().n_unique()
    if distinct == 0:
        return Guess(name, "left out", None, "empty on every row")
    if _rank(name, _REQUESTS) is not None and as_id(values) and "request" not in taken:
        if distinct < len(values) - values.null_count():
            return Guess(name, "request", None, f"its name; {distinct:,} different values")
        return Guess(name, "left out", None, "different on every row: nothing was shown together")
    if _rank(name, _POSITIONS) is not None and values.dtype.is_integer() and "position" not in taken:
        low, high = _range(values)
        if low >= 0:
            return Guess(name, "position", None, f"its name; integers from {low:g} to {high:g}")
    if _rank(name, _INTERACTIONS) is not None and as_id(values) and "interaction" not in taken and len(ids) == 2:
        return _interaction(table, name, ids, distinct)
    if "".join(words) in _EVENT_TYPES and values.dtype == pl.String:
        return Guess(name, "left out", None, "says what happened: make a feedback column of each of its values")
    if distinct == 1:
        return Guess(name, "left out", None, "the same on every row")
    speaks = next((word for word in reversed(words) if word in _CONTEXTS | _FEEDBACK), None)
    if speaks in _FEEDBACK:
        return _feedback(name, values, f'"{speaks}" in its name')
    if speaks is None and _sounds_like_time(name):
        return Guess(name, "left out", None, "sounds like a time, but not every row is a moment since 1990 in one unit")
    owner = _belongs_to(table, name, ids)
    if owner is not None:
        return Guess(name, "left out", None, f"always the same for one {owner}: it belongs into a table of {owner}s")
    if speaks is None and (values.dtype == pl.Boolean or values.dtype.is_float() or _is_binary(values)):
        guess = _feedback(name, values, "no name says so")
        return guess if guess.kind != "amount" else Guess(name, "left out", None, _UNCLEAR)
    return _context(name, values, distinct, speaks)


def _interaction(table: pl.DataFrame, name: str, ids: Mapping[str, str], distinct: int) -> Guess:
    """Guess a column that may say which rows tell of one event: of one user and one item."""
    if distinct == table.height - table[name].null_count():
        return Guess(name, "left out", None, "different on every row: no later row says more of an earlier event")
    if table.select(pl.struct(name, *ids.values()).n_unique()).item() > table[name].n_unique():
        return Guess(name, "left out", None, "its name; but one value has several users or items")
    repeats = table.height - distinct
    return Guess(name, "interaction", None, f"its name; {repeats:,} rows say more of an earlier row's event")


_UNCLEAR = "numbers, and nothing says whether they are known before or after; name them yourself"


def _is_binary(values: pl.Series) -> bool:
    return values.dtype.is_numeric() and bool(((values == 0) | (values == 1)).all())


def _feedback(name: str, values: pl.Series, why: str) -> Guess:
    """Tell the kind of a feedback by the range of its values."""
    if values.dtype == pl.Boolean or _is_binary(values):
        return Guess(name, "feedback", "binary", f"0 or 1; {why}")
    if not values.dtype.is_numeric():
        return Guess(name, "left out", None, f"{why}, but its values are no numbers")
    low, high = _range(values)
    shown = f"{low:g} to {high:g}"
    if low < 0:
        return Guess(name, "left out", None, f"{shown}; feedback is 0 or more; {why}")
    return Guess(name, "feedback", "fraction" if high <= 1 else "amount", f"{shown}; {why}")


def _belongs_to(table: pl.DataFrame, name: str, ids: Mapping[str, str]) -> str | None:
    """Say whether a column is a property of items, or of users: it never varies within one."""
    if isinstance(table[name].dtype, pl.List | pl.Array | pl.Struct | pl.Object):
        return None
    for owner in ("item", "user"):
        if owner not in ids or table.height - table[ids[owner]].n_unique() < _FEW_REPEATS:
            continue
        if table.select(pl.struct(ids[owner], name).n_unique()).item() == table[ids[owner]].n_unique():
            return owner
    return None


def _context(name: str, values: pl.Series, distinct: int, speaks: str | None) -> Guess:
    """Take what has few values as a categorical context."""
    is_plain = values.dtype.is_integer() or values.dtype in (pl.String, pl.Boolean)
    if "session" in name_words(name):
        return Guess(name, "left out", None, "of a session: that is no request, and may tell of its end")
    if not is_plain and not (speaks is not None and values.dtype.is_float()):
        return Guess(name, "left out", None, f"of type {values.dtype}")
    if values.dtype.is_float():
        return Guess(name, "context", "numeric", f'"{speaks}" in its name; numbers')
    most = _MOST_CATEGORIES[speaks is not None]
    if distinct > most or distinct * 2 > len(values):
        if values.dtype.is_integer():
            return Guess(name, "left out", None, _UNCLEAR)
        return Guess(name, "left out", None, f"{distinct:,} different texts: too many for a context")
    why = f'"{speaks}" in its name' if speaks is not None else "check that it is known before the item is chosen"
    return Guess(name, "context", "categorical", f"{distinct} different values; {why}")


def with_sample(guess: Guess, values: pl.Series) -> Guess:
    """Show a few different values beside a guess."""
    some = values.drop_nulls().head(1000).unique(maintain_order=True).head(3).to_list()
    return Guess(guess.column, guess.role, guess.kind, guess.reason, [str(value) for value in some])


def _problems(table: pl.DataFrame, ids: Mapping[str, str]) -> list[str]:
    if not table.height:
        return ["the table has no rows"]
    problems = []
    for role in ("user", "item"):
        if role not in ids:
            names = ", ".join(table.columns)
            problems.append(f"no column looks like {role}s ({names}); say which holds them with --{role} COLUMN")
            continue
        values = table[ids[role]]
        if values.dtype.is_float():
            problems.append(
                f"column {ids[role]!r} holds {role} ids as floats such as {values.drop_nulls().first()!r}; store"
                " them as integers or text (pandas turns integers into floats where a value is missing)"
            )
        elif not as_id(values):
            problems.append(f"column {ids[role]!r} is of type {values.dtype}; ids are integers or text")
        if values.null_count():
            problems.append(f"column {ids[role]!r} lacks the {role} on {values.null_count():,} rows; remove these rows")
    return problems
