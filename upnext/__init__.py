"""Upnext: from an event log to served recommendations. The flow, in ten lines:

    simulate   a streaming service with a known truth     -> source files
    prepare    source files                               -> event log, vocabulary, split, audit
    pretrain   event log                                  -> models
    rank       event log, models                          -> rankers
    distill    rankers                                    -> small students
    evaluate   models                                     -> report: tables, plots, JSON
    publish    models                                     -> release: models, item vectors, histories
    serve      release                                    -> HTTP service and page

One TOML file configures all of it: `upnext run examples/demo.toml`. The same path from Python, where frames take the
place of files: `upnext.SASRec().fit(upnext.EventLog.from_frame(...)).recommend(users)`; see `upnext/api/`.
"""

from typing import TYPE_CHECKING, Any

from upnext.version import __version__

if TYPE_CHECKING:
    from upnext.api import ARGUS, Columns, EventLog, Popular, RecentlyPopular, Recommender, SASRec, load

__all__ = [
    "ARGUS",
    "Columns",
    "EventLog",
    "Popular",
    "RecentlyPopular",
    "Recommender",
    "SASRec",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    """Find a public name when it is first asked for: `import upnext` alone imports nothing heavy."""
    if name not in __all__:
        raise AttributeError(f"module 'upnext' has no attribute {name!r}; it has {', '.join(__all__)}")
    from upnext import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
