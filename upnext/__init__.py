"""Upnext: from an event log to served recommendations. The flow, in ten lines:

    simulate   a streaming service with a known truth     -> source files
    prepare    source files                               -> event log, vocabulary, split, audit
    pretrain   event log                                  -> models
    evaluate   models                                     -> report: tables, plots, JSON
    publish    models                                     -> release: models, item vectors, histories
    serve      release                                    -> HTTP service and page

One TOML file configures all of it: `upnext run examples/demo.toml`.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
