"""The published form `id::title (year)::genre|genre` that MovieLens 1M and MovieTweetings share."""

from pathlib import Path

import polars as pl

from upnext.base.schema import COLLECTION, GENRES, ITEM_ID, TITLE, FeatureKind
from upnext.events.sources.columns import IdType, read_genres, read_ids, refuse_repeats
from upnext.events.sources.files import read_lines
from upnext.events.sources.raw import Column

__all__ = ["MOVIE_FEATURES", "read_movies", "release_year"]

MOVIE_FEATURES: dict[str, FeatureKind] = {TITLE: "text", GENRES: "multi", "release_year": "numeric"}
"""What holds of a movie at any time."""


def read_movies(file: Path, encoding: str, *, ids: IdType) -> pl.DataFrame:
    """Read a table of movies; a title may hold `::`, and genres may be missing.

    Args:     ids: their type in this data set.
    Returns:  `item_id`, `title`, `genres`, `collection` (the first genre, or "Other"), `release_year`.
    Raises:   BadData: a line of another form, a missing id, or an id twice.
    """
    lines = read_lines(file, encoding)
    parts = lines.values.str.extract_groups(r"^(.*?)::(.*)::(.*)$").struct.unnest()
    lines.refuse(parts[:, 0].is_null(), "id::title (year)::genre|genre", "correct the line, or download the file again")
    item = Column(parts[:, 0].set(parts[:, 0] == "", None).alias("item"), lines.origin)
    item_ids = read_ids(item, ids)
    refuse_repeats(item, item_ids)
    title = parts[:, 1].str.strip_chars()
    genres = read_genres(Column(parts[:, 2], lines.origin), "|")
    return pl.DataFrame(
        {
            ITEM_ID: item_ids,
            TITLE: title.set(title == "", None),
            GENRES: genres,
            COLLECTION: genres.list.first().fill_null("Other"),
            "release_year": release_year(title),
        }
    )


def release_year(titles: pl.Series) -> pl.Series:
    """Read the last year in parentheses: "Toy Story (1995)" -> 1995; null where there is none."""
    return titles.str.extract(r"^.*\(([0-9]{4})\)").cast(pl.Int32)
