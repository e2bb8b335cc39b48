"""Publish: models -> release, everything a server needs in one folder."""

import json
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from upnext.base.artifacts import Artifact, Draft, Workspace
from upnext.base.errors import BadConfig, BadRequest
from upnext.base.files import link_or_copy
from upnext.base.protocols import Link, Ranker, VectorRetriever, lag_of
from upnext.events.log import EventLog
from upnext.features.aggregates import Aggregate, ReadsColumns
from upnext.features.catalogue import Catalogue
from upnext.features.online_aggregates import Run
from upnext.features.people import People
from upnext.features.vocabulary import Vocabulary
from upnext.models.build import AnyRanker, load_any, save_any
from upnext.models.scorers import chain_of
from upnext.models.stream import following, stream_of
from upnext.pipeline.told import readers_among, scorers_of
from upnext.preparation.candidate_features import past_of
from upnext.serving.counted import declared_by, split_by_user
from upnext.serving.histories import pack_history
from upnext.serving.intake import check_context, check_feedback
from upnext.serving.pasts import Pasts
from upnext.serving.release import AGGREGATES, POSTED, SCORERS, ReleaseSettings, check_filters
from upnext.serving.retrieve import encode
from upnext.serving.states import pack_states, state_key
from upnext.store.embedded import LmdbStore

__all__ = ["ReleaseSettings", "check", "check_page", "run"]

_USERS_PER_WRITE = 2000
_TOKENS = 8192
"""So many are encoded together."""


def run(config: ReleaseSettings, workspace: Workspace) -> Artifact:
    """Publish a release; an up to date one is found, not written again."""
    log = workspace.current("log", "log")
    names = dict.fromkeys(name for name in (config.retriever, config.popular, config.ranker) if name is not None)
    models = {name: workspace.current(f"model-{name}", "model", log) for name in names}
    models |= scorers_of(workspace, log, {} if config.ranker is None else {config.ranker: models[config.ranker]})
    parents = [log, *models.values()]
    settings = config.model_dump(mode="json")
    return workspace.ensure("release", "release", settings, parents, lambda draft: _publish(config, log, models, draft))


def _publish(config: ReleaseSettings, log_artifact: Artifact, models: dict[str, Artifact], draft: Draft) -> None:
    log = EventLog.open(log_artifact.folder / "log", "fully")  # a release has no future that it could see
    check(config, log)
    draft.schema = log.schema.digest()
    draft.metrics["forgotten"] = log_artifact.manifest["config"]["forgotten"]
    (draft.folder / "release.json").write_text(config.model_dump_json(indent=1))
    (draft.folder / "schema.json").write_text(log.schema.model_dump_json(indent=1))
    catalogue = Catalogue.load(log_artifact.folder)
    catalogue.save(draft.folder)
    People.load(log_artifact.folder).save(draft.folder)
    for vocabulary in log_artifact.folder.glob("*.vocabulary.arrow"):
        (draft.folder / vocabulary.name).write_bytes(vocabulary.read_bytes())
    if (log_artifact.folder / POSTED).is_file():
        link_or_copy(log_artifact.folder / POSTED, draft.folder / POSTED)
    asks = [] if config.ranker is None else chain_of(readers_among(models), config.ranker)
    (draft.folder / SCORERS).write_text(json.dumps({"scorers": [one.model_dump() for one in asks]}, indent=1))
    ordering, readers = {config.ranker, *(one.name for one in asks)}, []
    for name, artifact in models.items():
        model = load_any(artifact.folder, catalogue.items)
        if (stream := stream_of(model)) is not None:  # what is popular now counts the whole log, not its training part
            num_items = int(log_artifact.manifest["metrics"]["num_dense_items"])
            model = following(model, log.with_last_items(stream.view)[1], num_items)
        if name == config.ranker:
            _check_ranker(config, model)
        if name in ordering and isinstance(model, ReadsColumns):
            readers.append(model)
        if name == config.retriever:
            retriever = model
            if config.diversity and not isinstance(model, VectorRetriever):
                raise BadConfig(
                    f"publish.diversity is {config.diversity:g}, and the retriever {name!r} has no item vectors to tell"
                    " what is alike: set it to 0, or name a retriever such as sasrec, argus or two_towers"
                )
        save_any(model, draft.folder / "models" / name)
    _write_aggregates(config, readers, log, catalogue, draft)
    check_filters(config, log_artifact.folder, config.view or retriever.view)
    draft.metrics["temperature"] = models[config.retriever].manifest["metrics"].get("temperature")
    _write_histories(log, Vocabulary.load(log_artifact.folder / "users.vocabulary.arrow"), retriever, draft)


def _write_histories(log: EventLog, users: Vocabulary, retriever: AnyRanker, draft: Draft) -> None:
    """Write every user's events, and the state that a retriever with a lag keeps of them."""
    folder = draft.folder / "histories"
    folder.mkdir()
    store, events = LmdbStore(folder), log.events
    present = np.flatnonzero(np.diff(log.offsets))
    until_ms = int(log.rows.time_ms.max(initial=0)) + 1
    for begin in range(0, len(present), _USERS_PER_WRITE):
        block = present[begin : begin + _USERS_PER_WRITE]
        names, parts = (
            [users.external(int(user)) for user in block],
            np.append(log.offsets[block], log.offsets[block[-1] + 1]),
        )
        histories = zip(names, pairwise(parts.tolist()), strict=True)
        store.put(dict(pack_history(name, events.take(slice(*part))) for name, part in histories))
        if lag_of(retriever):
            pasts = Pasts(events.take(slice(parts[0], parts[-1])), parts - parts[0])
            with torch.inference_mode():
                states = pack_states(encode(retriever, pasts, _TOKENS), until_ms, pasts.lengths)
            store.put(dict(zip(map(state_key, names), states, strict=True)))
    store.close()
    (folder / "lock.mdb").unlink(missing_ok=True)
    draft.metrics["num_histories"] = len(present)


def _write_aggregates(
    config: ReleaseSettings, readers: Sequence[ReadsColumns], log: EventLog, catalogue: Catalogue, draft: Draft
) -> None:
    """Sort the log for those aggregates of rankers that are not by user: users bring their own events.

    Raises:   BadConfig: one counts by a context that the page does not give.
    """
    declared = declared_by(readers)
    check_page(config, declared, log)
    _, others = split_by_user(declared)
    if others:
        Run.of(others, past_of(others, log, catalogue.items.features)).save(draft.folder / AGGREGATES)


def _check_ranker(config: ReleaseSettings, model: AnyRanker) -> None:
    """Check that a model expects what a release weighs, or gives the order that it names.

    Raises:   BadConfig: it does not; an order is no expectation.
    """
    links = dict(model.components) if isinstance(model, Ranker) else {}
    expected = sorted(name for name, link in links.items() if link is not Link.ORDER_ONLY)
    orders = sorted(links.keys() - set(expected))
    if config.order is not None and config.order not in orders:
        raise BadConfig(
            f"publish.order is {config.order!r}; of {config.ranker!r} it can be one of {orders}, or not set"
        )
    for name in sorted({*config.utility, *(name for weights in config.surfaces.values() for name in weights)}):
        if name not in expected:
            raise BadConfig(
                f"publish.ranker is {config.ranker!r}, which does not foresee the feedback {name!r}: it foresees"
                f" {expected or 'none'}"
                + (", and only orders otherwise: see publish.order" if orders else "")
                + "; name a model with feedback components, such as one of the kind argus or boosted"
            )


def check_page(config: ReleaseSettings, aggregates: Sequence[Aggregate], log: EventLog) -> None:
    """Check that the page says everything by which the ranker's aggregates count.

    Raises:   BadConfig: it does not say a context.
    """
    for aggregate in aggregates:
        for name in aggregate.by:
            if name in log.schema.contexts and name not in config.page_context:
                raise BadConfig(
                    f"publish.ranker {config.ranker!r} has the aggregate {aggregate.name!r}, and the page does not say"
                    f" its {name!r}: nothing would be counted. Add it to publish.page_context, or leave the aggregate"
                    f" out of rank.{config.ranker}"
                )


def check(config: ReleaseSettings, log: EventLog) -> None:
    """Check that the log has the views and the feedback that a release is to use.

    Raises:   BadConfig, BadData: it does not.
    """
    if config.view is not None:
        log.in_view(config.view)  # raises for an unknown view
    if config.hide is not None:
        log.schema.select(config.hide, log.rows.columns)
    for where, weights in {
        "utility": config.utility,
        **{f"surfaces.{s}": w for s, w in config.surfaces.items()},
    }.items():
        if unknown := sorted(weights.keys() - log.schema.feedback.keys()):
            raise BadConfig(
                f"publish.{where} gives a weight to {unknown[0]!r}; the log has {sorted(log.schema.feedback)}"
            )
    if config.surfaces and log.schema.contexts.get(config.surface_context) != "categorical":
        known = sorted(name for name, kind in log.schema.contexts.items() if kind == "categorical")
        raise BadConfig(
            f"publish.surfaces are told apart by the context {config.surface_context!r}; the log has the categorical"
            f" contexts {known}: name one with publish.surface_context"
        )
    try:
        check_context(config.page_context, log.schema.contexts, "publish.page_context")
    except BadRequest as error:
        raise BadConfig(str(error)) from None
    for action, feedback in config.actions.items():
        for name, value in feedback.items():
            try:
                check_feedback(name, value, log.schema.feedback, f"publish.actions.{action}")
            except BadRequest as error:
                raise BadConfig(str(error)) from None
