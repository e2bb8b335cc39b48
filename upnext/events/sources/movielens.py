"""MovieLens as GroupLens publishes it (https://grouplens.org/datasets/movielens/): 100K, 1M, 20M, 25M, 32M."""

from pathlib import Path
from typing import Literal

import polars as pl

from upnext.base.configuration import Config
from upnext.base.errors import BadData
from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, TIME_MS, TITLE, USER_ID, feedback_column
from upnext.events.sources.columns import read_amounts, read_genres, read_ids, read_integers, refuse_repeats
from upnext.events.sources.files import either, read_lines, resolve_path, split_lines
from upnext.events.sources.formats import read_parts, read_table
from upnext.events.sources.movies import MOVIE_FEATURES, read_movies, release_year
from upnext.events.sources.raw import Column, Origin, RawLog
from upnext.events.sources.times import read_times

__all__ = ["MovieLensSource", "read"]

Variant = Literal["100k", "1m", "1m-ordered", "csv"]

_RATINGS: dict[Variant, str] = {
    "100k": "u.data",
    "1m": "ratings.dat",
    "1m-ordered": "ml1m_ratings_ordered.csv",
    "csv": "ratings.csv",
}
_HIGHEST_RATING = 5
_USER_FEATURES = ("age", "gender", "occupation")

_GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)


class MovieLensSource(Config):
    """A folder with MovieLens (100K, 1M, 20M, 25M, 32M, or the latest); each file may be compressed (.gz)."""

    kind: Literal["movielens"]
    path: str
    """The folder."""
    variant: Variant | None = None
    """By default told by the files: u.data is 100k, ratings.dat is 1m, ml1m_ratings_ordered.csv is 1m-ordered
    (original ids and ratings with each user's order, but no times), ratings.csv is csv (20M, 25M, 32M, latest)."""


def read(config: MovieLensSource, rows: int | None = None) -> RawLog:
    """Read MovieLens: feedback `rating` (1 to 5; 0.5 to 5 in csv), view `liked`, items with titles and genres, users.

    Args:     rows: of a part of 20M and what is larger; unset, and for what is smaller, all rows are one part.
    Returns:  the rows in file order (1m-ordered: by user, then order; ratings without an order are left out).
    Raises:   BadData: no such file, or one that is not as published.
    """
    folder = resolve_path(config.path)
    variant, ratings = _ratings_file(folder, config.variant)
    notes: list[str] = []
    if variant == "1m-ordered":
        events = _ordered(ratings, notes)
    elif variant == "csv":
        return _csv(folder, ratings, rows)
    else:
        separator = "\t" if variant == "100k" else "::"
        fields = split_lines(read_lines(ratings, "latin-1"), separator, ["user", "item", "rating", "time"])
        events = _events(fields["user"], fields["item"], fields["rating"]).with_columns(
            read_times(fields["time"], "s").alias(TIME_MS)
        )
    items_file = either(folder, "u.item" if variant == "100k" else "movies.dat")
    users_file = either(folder, "u.user" if variant == "100k" else "users.dat")
    notes += [
        f"{folder} holds no {what}: {lost}"
        for what, lost, file in [
            ("items", "no titles, no genres", items_file),
            ("users", "no ages", users_file),
        ]
        if file is None
    ]
    items = None
    if items_file is not None:
        items = _items_100k(items_file) if variant == "100k" else read_movies(items_file, "latin-1", ids="integers")
    users = None
    if users_file is not None:
        users = _users(users_file, variant)
    return RawLog(
        [events],
        feedback={"rating": "amount"},
        items=items,
        users=users,
        item_features={} if items is None else MOVIE_FEATURES,
        user_features={} if users is None else dict.fromkeys(_USER_FEATURES, "categorical"),
        views={"liked": "rating >= 4"},
        notes=notes,
    )


def _ratings_file(folder: Path, variant: Variant | None) -> tuple[Variant, Path]:
    for name, file in _RATINGS.items():
        found = either(folder, file)
        if found is not None and variant in (None, name):
            return name, found
    wanted = [file for name, file in _RATINGS.items() if variant in (None, name)]
    raise BadData(
        f"{folder.absolute()} holds no {' or '.join(wanted)} (plain or .gz); download MovieLens from"
        " https://grouplens.org/datasets/movielens/ and give the folder that holds it"
    )


def _events(user: Column, item: Column, rating: Column) -> pl.DataFrame:
    ratings = read_amounts(rating, _HIGHEST_RATING)
    columns = {
        USER_ID: read_ids(user, "integers"),
        ITEM_ID: read_ids(item, "integers"),
        feedback_column("rating"): ratings,
    }
    return pl.DataFrame([values.alias(name) for name, values in columns.items()])


def _ordered(file: Path, notes: list[str]) -> pl.DataFrame:
    names = ["user_id", "movie_id", "rating", "order_in_user"]
    frame, origin = read_table(str(file), dict.fromkeys(names, "movielens"), form="csv")
    user, item, rating, order = (Column(frame[name], origin) for name in names)
    order.refuse(order.values.is_null(), "the order within the user, or -1", "download the file again")
    orders = read_integers(order, -1, 2**31 - 1)
    events = _events(user, item, rating).with_columns(orders.alias("order"))
    kept = events.filter(pl.col("order") >= 0)
    if kept.height < events.height:
        notes.append(f"{file}: left out {events.height - kept.height:,} ratings that have no order (-1)")
    return kept.sort(USER_ID, "order", maintain_order=True).drop("order")


def _csv(folder: Path, ratings: Path, rows: int | None) -> RawLog:
    """The layout from 20M on: comma-separated with a first line, half stars, and no table of users."""
    names = ["userId", "movieId", "rating", "timestamp"]
    parts = read_parts(str(ratings), dict.fromkeys(names, "movielens"), rows, form="csv")

    def events(frame: pl.DataFrame, origin: Origin) -> pl.DataFrame:
        user, item, rating, time = (Column(frame[name], origin) for name in names)
        return _events(user, item, rating).with_columns(read_times(time, "s").alias(TIME_MS))

    movies = either(folder, "movies.csv")
    return RawLog(
        (events(frame, origin) for frame, origin in parts),
        feedback={"rating": "amount"},
        items=None if movies is None else _movies_csv(movies),
        item_features={} if movies is None else MOVIE_FEATURES,
        views={"liked": "rating >= 4"},
        notes=[] if movies is not None else [f"{folder} holds no movies.csv: no titles, no genres"],
    )


def _movies_csv(file: Path) -> pl.DataFrame:
    frame, origin = read_table(str(file), dict.fromkeys(["movieId", "title", "genres"], "movielens"), form="csv")
    item, genres = Column(frame["movieId"], origin), frame["genres"]
    ids = read_ids(item, "integers")
    refuse_repeats(item, ids)
    lists = read_genres(Column(genres.set(genres == "(no genres listed)", None), origin), "|")
    title = frame["title"].str.strip_chars()
    columns = {ITEM_ID: ids, TITLE: title, GENRES: lists, COLLECTION: lists.list.first().fill_null("Other")}
    table = pl.DataFrame([values.alias(name) for name, values in columns.items()])
    return table.with_columns(release_year(title).alias("release_year"))


def _items_100k(file: Path) -> pl.DataFrame:
    names = ["item", "title", "released", "video_released", "url", *_GENRES_100K]
    fields = split_lines(read_lines(file, "latin-1"), "|", names)
    ids = read_ids(fields["item"], "integers")
    refuse_repeats(fields["item"], ids)
    for genre in _GENRES_100K:
        fields[genre].refuse(~fields[genre].values.is_in(["0", "1"]), "0 or 1", "download the file again")
    known = [pl.when(fields[genre].values == "1").then(pl.lit(genre)) for genre in _GENRES_100K if genre != "unknown"]
    genres = pl.select(pl.concat_list(known).list.drop_nulls().alias(GENRES)).to_series()
    title = fields["title"].values.str.strip_chars()
    return pl.DataFrame(
        {
            ITEM_ID: ids,
            TITLE: title,
            GENRES: genres,
            COLLECTION: genres.list.first().fill_null("Other"),
            "release_year": release_year(title),
        }
    )


def _users(file: Path, variant: Variant) -> pl.DataFrame:
    """Ages are years in 100K, and in 1M the first year of a band (1, 18, 25, 35, 45, 50, 56)."""
    if variant == "100k":
        fields = split_lines(read_lines(file, "latin-1"), "|", ["user", "age", "gender", "occupation", "zip_code"])
    else:
        fields = split_lines(read_lines(file, "latin-1"), "::", ["user", "gender", "age", "occupation", "zip_code"])
    ids = read_ids(fields["user"], "integers")
    refuse_repeats(fields["user"], ids)
    columns = {USER_ID: ids, "age": read_integers(fields["age"], 0, 150).cast(pl.String)}
    columns |= {name: fields[name].values for name in ("gender", "occupation", "zip_code")}
    return pl.DataFrame([values.alias(name) for name, values in columns.items()])
