"""What `evaluate` compares: models and the simulation's truth, as they answer; and what the log calls things."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact
from upnext.base.batches import Column
from upnext.base.protocols import Retriever
from upnext.base.schema import context_column
from upnext.evaluation.cases import Cases
from upnext.evaluation.examples import Names
from upnext.evaluation.ranking import Scores, retriever_scores
from upnext.events.log import EventLog
from upnext.features.catalogue import Catalogue
from upnext.features.vocabulary import Vocabulary
from upnext.models.popularity import RecentlyPopular
from upnext.simulation.oracle import Oracle

__all__ = ["model_scores", "names_of", "oracle_scores"]


def model_scores(
    model: Retriever, log: EventLog, cases: Cases, num_items: int, user_features: Mapping[str, Column]
) -> tuple[Scores, int]:
    """A model's scores, and the longest history it reads."""
    if isinstance(model, RecentlyPopular):  # it follows the whole stream, and counts what lies before each request
        _, events = log.in_view(model.view)
        model = RecentlyPopular(model.config, events.item, events.time_ms, np.zeros(num_items, np.int64))
    scores = retriever_scores(model, log, cases, num_items, user_features=user_features)
    return scores, max(1, model.max_length)


def oracle_scores(simulation: Artifact, artifact: Artifact, log: EventLog, cases: Cases, num_items: int) -> Scores:
    """The simulation's own truth as one more model: what nobody who only reads the log can beat on average."""
    oracle = Oracle.from_folder(simulation.folder)
    users = Vocabulary.load(artifact.folder / "users.vocabulary.arrow")
    column_of = Vocabulary.load(artifact.folder / "items.vocabulary.arrow").encode(oracle.item_ids)
    names = {
        name: Vocabulary.load(artifact.folder / f"context.{name}.vocabulary.arrow") for name in ("surface", "device")
    }
    codes = {name: log.rows.columns[context_column(name)].values for name in names}

    def scores(block: NDArray[np.int64]) -> NDArray[np.float32]:
        some = cases.take(block)
        context = {
            name: [str(vocabulary.external(code)) for code in codes[name][some.first_target]]
            for name, vocabulary in names.items()
        }
        known = oracle.scores([str(users.external(user)) for user in some.user], some.time_ms, **context)
        result = np.full((len(some), num_items), -np.inf, np.float32)
        result[:, column_of] = known
        return result

    return scores


def names_of(artifact: Artifact) -> Names:
    """What the log calls its users, items and categorical contexts."""
    users, catalogue = Vocabulary.load(artifact.folder / "users.vocabulary.arrow"), Catalogue.load(artifact.folder)
    contexts = {
        name: _say(Vocabulary.load(artifact.folder / f"context.{name}.vocabulary.arrow"))
        for name, kind in artifact.manifest["metrics"]["schema"]["contexts"].items()
        if kind == "categorical"
    }
    return Names(_say(users), catalogue.title, contexts)


def _say(vocabulary: Vocabulary) -> Callable[[int], str]:
    return lambda code: str(vocabulary.external(code))
