"""The boosted ranker: gradient-boosted trees over counts and other columns of each candidate, one model per feedback.

Shape letters: N examples, F features, B requests, C candidates.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from upnext.base.batches import Candidates, Column, FlatColumn, Request, SequenceBatch, State
from upnext.base.configuration import Config, parse_config
from upnext.base.errors import BadArtifact, BadConfig
from upnext.base.protocols import LINKS, Link
from upnext.base.schema import FeedbackKind
from upnext.features.aggregates import Aggregate
from upnext.models.boosted_config import UTILITY, BoostedConfig
from upnext.models.trees import (
    Part,
    Told,
    columns_of,
    gains_of,
    grow,
    levels_of,
    matrix,
    observed,
    read_as,
    sizes_of,
)

if TYPE_CHECKING:  # it is loaded where trees are grown or asked, and not by who only imports this
    from lightgbm import Booster

__all__ = ["Boosted", "Examples"]

_FILE = "boosted.json"
_OBJECTIVES: dict[FeedbackKind, str] = {"binary": "binary", "fraction": "cross_entropy", "amount": "poisson"}


@dataclass(frozen=True)
class Examples:
    """What a ranker learns from: features and feedback by name, (N,) each, and who competes with whom.

    A column of integers is a category. `group` is rising; `utility` is what the ordering is by, and `at_start` are the
    features for it: those that hold when what competes begins to be shown.
    """

    features: Mapping[str, FlatColumn]
    feedback: Mapping[str, FlatColumn]
    group: NDArray[np.int64]
    utility: NDArray[np.float64]
    at_start: Mapping[str, FlatColumn] | None = None
    """None: the same as `features`."""


@dataclass(frozen=True)
class _Output:
    """One model: what it is asked, and what its raw answer is moved by."""

    name: str
    link: Link
    shift: float
    booster: "Booster"


class Boosted:
    """LightGBM per feedback (logistic, cross-entropy of fractions, Poisson for amounts), and LambdaRank for a utility.

    It has no history: all that it knows of the past comes as features of the candidates, computed for the moment of the
    request. An amount is divided by its mean before it is learnt.

    Args:     features: by name, the values of a category that are told apart, rising; None for a number, the width
              of a vector.
    """

    def __init__(self, config: BoostedConfig, features: Mapping[str, Told], outputs: list[_Output]) -> None:
        self.config, self.features = config, dict(features)
        self._outputs = outputs

    @classmethod
    def fit(
        cls,
        config: BoostedConfig,
        kinds: Mapping[str, FeedbackKind],
        train: Examples,
        validation: Examples,
        tell: Callable[[str], None] = lambda _: None,
    ) -> "Boosted":
        """Grow the trees on `train`; `validation` decides how many.

        Args:     kinds: of every feedback of the log.
        Raises:   BadConfig: no features, an ignored one that there is not, or nothing to learn of one feedback.
        """
        for name in config.ignore:
            if name not in train.features:
                raise BadConfig(f"ignore names {name!r}; the candidates have the features {sorted(train.features)}")
        read = {name: column for name, column in train.features.items() if name not in config.ignore}
        if not read:
            raise BadConfig("there is nothing to read: declare aggregates, or a source with contexts or features")
        features = {name: read_as(column, config.training.most_categories) for name, column in read.items()}
        parts = [(part, matrix(part.features, features)) for part in (train, validation)]
        outputs = []
        for name, kind in config.predicted(kinds).items():
            targets = [
                observed(part.feedback[name], name, where) for (part, _), where in zip(parts, _PARTS, strict=True)
            ]
            scale = float(targets[0][1].mean()) if kind == "amount" else 1.0
            if not scale:
                raise BadConfig(f"{name!r} is 0 in all of the training part; leave it out of `feedback`")
            data = [Part(X[rows], values / scale) for (_, X), (rows, values) in zip(parts, targets, strict=True)]
            booster = grow(_OBJECTIVES[kind], data, features, config.training, {})
            # A probability among drawn candidates is none of being chosen: it orders them.
            link = LINKS[kind] if config.candidates is None else Link.ORDER_ONLY
            outputs.append(_Output(name, link, float(np.log(scale)), booster))
            tell(f"{name}: {booster.num_trees()} trees")
        if config.utility:
            gains = gains_of(train.utility)
            if len(gains) < 2:
                raise BadConfig(f"the utility is {gains[0]:g} in all of the training part; weigh other feedback")
            if train.at_start is not None:
                parts = [(part, matrix(part.at_start or part.features, features)) for part, _ in parts]
            data = [Part(X, levels_of(part.utility, gains), sizes_of(part.group)) for part, X in parts]
            booster = grow("lambdarank", data, features, config.training, {"label_gain": (gains - gains[0]).tolist()})
            outputs.append(_Output(UTILITY, Link.ORDER_ONLY, 0.0, booster))
            tell(f"{UTILITY}: {booster.num_trees()} trees")
        return cls(config, features, outputs)

    @classmethod
    def of_one(
        cls,
        config: BoostedConfig,
        features: Mapping[str, Told],
        name: str,
        link: Link,
        base: float,
        booster: "Booster",
    ) -> "Boosted":
        """Trees that were grown elsewhere, for one output, to which `base` is added."""
        return cls(config, features, [_Output(name, link, base, booster)])

    def rescale(self, scale: float, shift: float) -> None:
        """Make every score s of the one output into scale · s + shift: leaves answer with what they then add."""
        (output,) = self._outputs
        for tree, grown in enumerate(output.booster.dump_model()["tree_info"]):
            for leaf in range(grown["num_leaves"]):
                output.booster.set_leaf_output(tree, leaf, scale * output.booster.get_leaf_output(tree, leaf))
        self._outputs = [replace(output, shift=scale * output.shift + shift)]

    @property
    def reads(self) -> list[str]:
        """The columns of candidates that the trees read."""
        return list(self.features)

    @property
    def aggregates(self) -> list[Aggregate]:
        """Those of them that are aggregates."""
        return [aggregate for aggregate in self.config.aggregates if aggregate.name in self.features]

    @property
    def view(self) -> str:
        """The view it learnt from."""
        return self.config.view

    @property
    def max_length(self) -> int:
        """It reads no history."""
        return 0

    @property
    def components(self) -> Mapping[str, Link]:
        """Each feedback, with the link of its output, and `utility`, which only orders, as `chosen` does."""
        return {output.name: output.link for output in self._outputs}

    def encode(self, histories: SequenceBatch) -> State:
        """Nothing to remember."""
        return State({"nothing": torch.zeros(len(histories), 0)})

    def predict(self, state: State, request: Request, candidates: Candidates) -> dict[str, Float[Tensor, "B C"]]:
        """The trees' raw answers to the candidates' features; where the mask is false they mean nothing.

        Raises:   BadBatch: the candidates lack a feature.
        """
        shape = candidates.item.shape
        flat = {name: _flat(column, shape) for name, column in candidates.features.items() if name in self.features}
        X = matrix(flat, self.features)
        answers = {}
        for output in self._outputs:
            raw = output.booster.predict(X, raw_score=True, num_threads=torch.get_num_threads()) if len(X) else []
            answers[output.name] = torch.from_numpy(np.asarray(raw, np.float32) + output.shift).reshape(shape)
        return answers

    def importance(self) -> dict[str, dict[str, float]]:
        """Per output, each feature's share of all that the splits gained; a vector is one feature."""
        shares = {}
        owner = columns_of(self.features)
        for output in self._outputs:
            gain = np.bincount(owner, output.booster.feature_importance("gain"), len(self.features))
            shares[output.name] = dict(zip(self.features, (gain / max(gain.sum(), 1e-12)).tolist(), strict=True))
        return shares

    @property
    def num_values(self) -> int:
        """How many numbers were learnt: a threshold for each split, an answer for each leaf."""
        trees = [tree for output in self._outputs for tree in output.booster.dump_model()["tree_info"]]
        return sum(2 * int(tree["num_leaves"]) - 1 for tree in trees)

    def save(self, folder: Path) -> None:
        """Write `boosted.json` and, per output, LightGBM's text model into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = _Checkpoint(
            model=self.config,
            features={n: told.tolist() if isinstance(told, np.ndarray) else told for n, told in self.features.items()},
            outputs=[_SavedOutput(name=o.name, link=o.link, shift=o.shift) for o in self._outputs],
        )
        (folder / _FILE).write_text(checkpoint.model_dump_json(indent=1))
        for number, output in enumerate(self._outputs):
            (folder / _trees_file(number)).write_text(output.booster.model_to_string())

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder holds what `save` writes."""
        return (folder / _FILE).is_file()

    @classmethod
    def load(cls, folder: Path) -> "Boosted":
        """Read what `save` wrote.

        Raises:   BadArtifact: a file is missing or damaged.
        """
        from lightgbm import Booster
        from lightgbm.basic import LightGBMError

        try:
            data = json.loads((folder / _FILE).read_text())
            texts = [(folder / _trees_file(number)).read_text() for number in range(len(data["outputs"]))]
            boosters = [Booster(model_str=text) for text in texts]
        except (OSError, ValueError, LookupError, TypeError, LightGBMError) as error:
            raise BadArtifact(f"{folder} holds no whole boosted ranker ({error}); run rank again") from None
        saved = parse_config(_Checkpoint, data, str(folder / _FILE))
        outputs = [_Output(o.name, o.link, o.shift, b) for o, b in zip(saved.outputs, boosters, strict=True)]
        features: dict[str, Told] = {
            name: np.array(told, np.int64) if isinstance(told, list) else told for name, told in saved.features.items()
        }
        return cls(saved.model, features, outputs)


class _SavedOutput(Config):
    name: str
    link: Link
    shift: float


class _Checkpoint(Config):
    model: BoostedConfig
    features: dict[str, list[int] | int | None]
    outputs: list[_SavedOutput]


_PARTS = ("training", "validation")


def _trees_file(number: int) -> str:
    return f"trees-{number:03}.txt"


def _flat(column: Column, shape: torch.Size) -> FlatColumn:
    """What is known of candidates (B, C), of one after the other."""
    values = column.values.expand(*shape, *column.values.shape[2:])
    return FlatColumn(values.flatten(0, 1).numpy(), column.observed.expand(shape).flatten().numpy())
