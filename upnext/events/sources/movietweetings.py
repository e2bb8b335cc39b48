"""MovieTweetings as published (https://github.com/sidooms/MovieTweetings): ratings from 0 to 10, tweeted."""

from typing import Literal

import polars as pl

from upnext.base.configuration import Config
from upnext.base.errors import BadData
from upnext.base.schema import ITEM_ID, TIME_MS, USER_ID, feedback_column
from upnext.events.sources.columns import read_amounts, read_ids
from upnext.events.sources.files import either, read_lines, resolve_path, split_lines
from upnext.events.sources.movies import MOVIE_FEATURES, read_movies
from upnext.events.sources.raw import RawLog
from upnext.events.sources.times import read_times

__all__ = ["MovieTweetingsSource", "read"]


class MovieTweetingsSource(Config):
    """A folder with MovieTweetings' ratings.dat and movies.dat; each may be compressed (.gz)."""

    kind: Literal["movietweetings"]
    path: str
    """The folder."""


def read(config: MovieTweetingsSource) -> RawLog:
    """Read MovieTweetings: feedback `rating` (0 to 10), view `liked`; item ids are text ("0054890").

    Returns:  the rows in file order.
    Raises:   BadData: no ratings.dat, or a file that is not as published.
    """
    folder = resolve_path(config.path)
    file = either(folder, "ratings.dat")
    if file is None:
        raise BadData(
            f"{folder.absolute()} holds no ratings.dat (plain or .gz); download it from"
            " https://github.com/sidooms/MovieTweetings and give the folder that holds it"
        )
    fields = split_lines(read_lines(file, "utf-8"), "::", ["user", "item", "rating", "time"])
    columns = {
        USER_ID: read_ids(fields["user"], "integers"),
        ITEM_ID: read_ids(fields["item"], "text"),
        TIME_MS: read_times(fields["time"], "s"),
        feedback_column("rating"): read_amounts(fields["rating"], 10),
    }
    movies = either(folder, "movies.dat")
    return RawLog(
        [pl.DataFrame([values.alias(name) for name, values in columns.items()])],
        feedback={"rating": "amount"},
        items=None if movies is None else read_movies(movies, "utf-8", ids="text"),
        item_features={} if movies is None else MOVIE_FEATURES,
        views={"liked": "rating >= 8"},
        notes=[] if movies is not None else [f"{folder} holds no movies.dat: no titles, no genres"],
    )
