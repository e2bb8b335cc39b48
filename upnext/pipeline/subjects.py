"""What `evaluate` compares: models and the simulation's truth, as they answer; and what the log calls things."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upnext.base.artifacts import Artifact
from upnext.base.batches import Column, ItemTable
from upnext.base.protocols import Link, Ranker, Retriever
from upnext.base.schema import context_column
from upnext.evaluation.calibration import calibration_rows
from upnext.evaluation.cases import Cases
from upnext.evaluation.examples import Names
from upnext.evaluation.feedback import Foreseen, evaluate_feedback, foresee
from upnext.evaluation.ranking import Scores, retriever_scores
from upnext.evaluation.uplift import UpliftConfig, uplift_rows
from upnext.evaluation.utility import compared, evaluate_utility
from upnext.events.impressions import Impressions, window_start
from upnext.events.log import EventLog
from upnext.events.split import TEST
from upnext.features.aggregates import ReadsColumns
from upnext.features.catalogue import Catalogue
from upnext.features.vocabulary import Vocabulary
from upnext.models.build import AnyRanker
from upnext.models.ordering import Ordering
from upnext.models.stream import following, stream_of
from upnext.pipeline.told import Scorers, Told
from upnext.simulation.oracle import Oracle

__all__ = ["Figures", "Shown", "model_scores", "names_of", "oracle_scores"]


def _as_tested(model: Retriever, log: EventLog, num_items: int) -> Retriever:
    """What follows the stream follows the whole of it, and counts what lies before each request."""
    return model if stream_of(model) is None else following(model, log.with_last_items(model.view)[1], num_items)


def model_scores(
    model: Retriever, log: EventLog, cases: Cases, num_items: int, user_features: Mapping[str, Column]
) -> tuple[Scores, int]:
    """A model's scores, and the longest history it reads."""
    model = _as_tested(model, log, num_items)
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


@dataclass(frozen=True)
class Figures:
    """Tidy rows of how well feedback is foreseen and utility ordered, of calibration curves and of uplift; how models
    were compared, for the protocol. What there is nothing of is empty."""

    feedback: list[dict[str, Any]]
    calibration: list[dict[str, Any]]
    uplift: list[dict[str, Any]]
    compared_by: dict[str, str]


@dataclass(frozen=True)
class Shown:
    """What was shown in the test part, and what models are told of it besides the log."""

    artifact: Artifact
    log: EventLog
    part: NDArray[np.int8]
    items: ItemTable
    users: Mapping[str, Column]
    simulation: Sequence[Artifact]
    scorers: Scorers

    def figures(
        self,
        models: Mapping[str, AnyRanker],
        weights: Mapping[str, float],
        window_ms: int | None,
        num_samples: int,
        uplift: Sequence[UpliftConfig] = (),
    ) -> Figures:
        """How well feedback is foreseen and, by the weights of a utility, what was shown together ordered.

        Args:     uplift: the pairs of models of which one extends the other.
        """
        foreseen = self._foreseen(models, bool(weights))
        found = evaluate_feedback(foreseen, self.log, self.part, num_samples)
        tested = np.flatnonzero(self.part == TEST)
        curves = calibration_rows(foreseen, self.log, tested, num_samples)
        if not weights:
            return Figures(found, curves, [], {})
        shown = compared(self.log, tested, weights, window_ms)
        if window_ms is not None:  # what came of one may tell what came of the next: nobody knows either
            foreseen = self._foreseen(models, True, window_start(self.log, tested, window_ms))
        found += evaluate_utility(foreseen, self.log, tested, shown, weights, num_samples)
        rises = uplift_rows(foreseen, uplift, self.log, tested, shown, weights, num_samples)
        return Figures(found, curves, rises, {"utility": _said(weights, window_ms, shown, len(tested))})

    def _foreseen(
        self, models: Mapping[str, AnyRanker], orders: bool, known_at: NDArray[np.int64] | None = None
    ) -> dict[str, Foreseen]:
        log, tested, V = self.log, np.flatnonzero(self.part == TEST), len(self.items)
        rankers: dict[str, Ranker] = {name: model for name, model in models.items() if isinstance(model, Ranker)}
        if not rankers and not orders:
            return {}
        told = Told.of_rows(log, tested, self.items, self.users, self.scorers, known_at)
        features = {
            name: told.to(name, model.aggregates) for name, model in rankers.items() if isinstance(model, ReadsColumns)
        }
        for name, model in models.items():
            if orders and name not in rankers and isinstance(model, Retriever):
                rankers[name] = Ordering(_as_tested(model, log, V))
        asked = {name: rankers[name] for name in models if name in rankers}
        foreseen = foresee(asked, log, self.part, V, features, self.users, known_at)
        for simulation in self.simulation:
            foreseen["oracle"] = _oracle_foresees(simulation, self.artifact, log, tested)
        return foreseen


def _said(weights: Mapping[str, float], window_ms: int | None, shown: Impressions, num_tested: int) -> str:
    total = " + ".join(f"{weight:g} · {name}" for name, weight in weights.items()).replace("+ -", "− ")
    together, asked = "one request", ""
    if window_ms is not None:
        together = f"one user within {window_ms / 3_600_000:g} hours"
        asked = " Everybody is asked for them with what was known when the hours began."
    return (
        f"Utility = {total}. Impressions of {together} are compared with each other where their utilities differ:"
        f" {len(shown):,} of {num_tested:,} in {len(np.unique(shown.group)):,} groups. A pair weighs as much as they"
        " differ; models order by the utility that they expect, or by their score."
        f"{asked}"
    )


def _oracle_foresees(simulation: Artifact, artifact: Artifact, log: EventLog, rows: NDArray[np.int64]) -> Foreseen:
    """What the simulation's truth expects of events, not knowing their places in the list."""
    oracle = Oracle.from_folder(simulation.folder)
    folder, request = artifact.folder, log.request_start[rows]
    starts, case = np.unique(request, return_inverse=True)
    users, items = (Vocabulary.load(folder / f"{name}.vocabulary.arrow") for name in ("users", "items"))
    contexts = {}
    for name in ("surface", "device"):
        codes, vocabulary = (
            log.rows.columns[context_column(name)].values,
            Vocabulary.load(folder / f"context.{name}.vocabulary.arrow"),
        )
        contexts[name] = [str(vocabulary.external(code)) for code in codes[starts]]
    predicted = oracle.expected_feedback(
        [str(users.external(user)) for user in log.rows.user[starts]],
        log.rows.time_ms[starts],
        **contexts,
        case=case,
        item_id=[str(items.external(item)) for item in log.rows.item[rows]],
    )
    known = {name: values for name, values in predicted.items() if name in log.schema.feedback}
    return Foreseen(dict.fromkeys(known, Link.IDENTITY), known)


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
