"""The data of `distillation.py`: example sets, in folds, and how large teachers and students are for them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upnext.base.artifacts import Artifact
from upnext.base.example_sets import ExampleSets
from upnext.commands import simulate
from upnext.commands.project import Project
from upnext.events.sources.letor import LetorSource, read_letor
from upnext.features.aggregates import Aggregate
from upnext.pipeline import distill, prepare
from upnext.preparation.example_sets import LogExamples

__all__ = ["DATA", "Data"]


@dataclass(frozen=True)
class Data:
    """Example sets in one fold or several, and the shapes that suit their size."""

    name: str
    dataset: str
    protocol: str
    folds: list[ExampleSets]
    teacher: dict[str, Any]
    teacher_order: list[dict[str, Any]]
    members: int
    num_folds: int
    student: dict[str, Any]
    training: dict[str, Any]
    share: float = 1.0
    """The share of the training part that each member of the teacher is trained on."""
    choosing: float = 1.0
    """The share of the training part with which weights are chosen."""
    chosen_in: int = 1
    """In so many folds."""
    log: Artifact | None = None
    """The log that the examples are of, if they are of one."""
    aggregates: tuple[Aggregate, ...] = ()
    """The aggregates among their features."""


def mq2008(_: Path) -> Data:
    """Five folds, each with three parts of five to train on, one to choose by and one to test on."""
    file = "${{UPNEXT_DATA}}/mq2008/S{}.txt.gz".format
    folds = [
        read_letor(
            LetorSource(
                train=[file((k + n) % 5 + 1) for n in range(3)],
                validation=[file((k + 3) % 5 + 1)],
                test=[file((k + 4) % 5 + 1)],
            )
        )
        for k in range(5)
    ]
    return Data(
        "mq2008",
        "LETOR MQ2008",
        "5 folds; the 220 queries without a relevant document are trained on, and count in AUC, log-loss and"
        " calibration, not in NDCG and pair accuracy; relevant is a label of 1 or 2; weights are chosen in the first"
        " fold",
        folds,
        {
            "kind": "boosted",
            "trees": 200,
            "leaves": 31,
            "learning_rate": 0.03,
            "least_in_leaf": 30,
            "column_share": 0.3,
            "row_share": 0.6,
            "patience": 30,
        },
        [{"kind": "label_list", "weight": 0.1}],
        members=4,
        num_folds=2,
        student={"kind": "mlp", "hidden": [16]},
        training={"epochs": 20, "patience": 3, "learning_rate": 1e-2, "tokens_per_batch": 1024},
    )


def _of_log(
    workspace: Path, project: dict[str, Any], examples: dict[str, Any]
) -> tuple[ExampleSets, Artifact, tuple[Aggregate, ...]]:
    """Prepare a log and make example sets of it, with aggregates; what is there is found."""
    whole = Project.model_validate(
        {"workspace": workspace, "pretrain": {"popular": {"model": {"kind": "popular"}}}} | project
    )
    if whole.simulate is not None:
        simulate.into_workspace(whole.simulate, whole.opened())
    log = prepare.run(whole.prepare, whole.opened())
    config = LogExamples.model_validate(examples)
    made = distill.make_examples(config, whole.opened(), "all")
    return ExampleSets.load(made.folder), log, tuple(config.aggregates)


def kuairand(runs: Path) -> Data:
    """What was shown to a user on a day, with honest counts; the label is a long view."""
    means = [{"by": [key], "what": "mean", "feedback": of} for key in ("user", "item") for of in _KUAIRAND]
    counts = [{"by": [key]} for key in ("user", "item")]
    others: list[dict[str, Any]] = [
        {"by": ["user"], "what": "recency"},
        {"by": ["item"], "window": "1d"},
        {"by": ["item"], "what": "age"},
        {"by": ["author_id"], "what": "mean", "feedback": "click"},
        {"by": ["author_id"], "what": "mean", "feedback": "long_view"},
        {"by": ["user", "item"]},
        {"by": ["user", "author_id"]},
        {"by": ["user", "genres"], "what": "mean", "feedback": "long_view"},
        {"by": ["user", "tab"], "what": "mean", "feedback": "long_view"},
    ]
    sets, log, declared = _of_log(
        runs / "kuairand",
        {
            "prepare": {
                "source": {"kind": "kuairand", "path": "${UPNEXT_DATA}/kuairand-pure"},
                "split": {"kind": "global_time", "validation": "1d", "test": "8d"},
            }
        },
        {
            "kind": "log",
            "label": "long_view",
            "window": "1d",
            "most_candidates": 64,
            "aggregates": means + counts + others,
            "ignore": ["feature.user.onehot_feat1"],  # the audit takes it for an aggregate of the future
        },
    )
    # chosen on the validation part: what says who a user or an author is, more than what they do, hurts
    unread = [name for name in sets.features if name.startswith("feature.user") or name in _WHOSE]
    return Data(
        "kuairand",
        "KuaiRand-Pure",
        "trained on the April file, its last day validates, tested on the May file; a set is what was shown to a user"
        " on a day, at most 64, all asked about as the day began; the label is a long view; weights are chosen with"
        " three tenths of the training part",
        [sets],
        {
            "kind": "boosted",
            "trees": 100,
            "leaves": 31,
            "learning_rate": 0.08,
            "least_in_leaf": 500,
            "column_share": 0.4,
            "row_share": 0.5,
            "patience": 10,
            "ignore": unread,
        },
        [{"kind": "label_list", "weight": 0.3}],
        members=3,
        num_folds=2,
        student={"kind": "mlp", "hidden": [32], "width": 4, "ignore": unread},
        training={"epochs": 8, "patience": 2, "learning_rate": 5e-3, "tokens_per_batch": 4096},
        choosing=0.3,
        log=log,
        aggregates=declared,
    )


_WHOSE = ["feature.item.author_id", "feature.item.upload_day"]
_KUAIRAND = ("click", "long_view", "like", "played")


def simulated(runs: Path) -> Data:
    """Lists of ten that a simulated service showed, more than a million impressions; the label is a click."""
    aggregates: list[dict[str, Any]] = [
        *({"by": [key], "what": "mean", "feedback": "click"} for key in ("user", "item", "creator")),
        *({"by": ["user", key], "what": "mean", "feedback": "click"} for key in ("creator", "genres", "item")),
        *({"by": ["user", key]} for key in ("creator", "genres", "item")),
        {"by": ["user", "item"], "what": "recency"},
        {"by": ["user", "genres"], "what": "mean", "feedback": "played"},
        {"by": ["item"], "what": "mean", "feedback": "played"},
        {"by": ["item"], "window": "1d"},
        {"by": ["item"], "what": "age"},
    ]
    service = {"num_users": 10_000, "num_items": 2000, "num_events": 1_250_000, "organic_share": 0.1}
    sets, log, declared = _of_log(
        runs / "simulated",
        {
            "simulate": service,
            "prepare": {
                "source": {"kind": "simulated"},
                "views": {"shown": "click >= 0"},
                "split": {"kind": "global_time", "validation": "1d", "test": "2d"},
            },
        },
        {"kind": "log", "view": "shown", "label": "click", "aggregates": aggregates},
    )
    return Data(
        "simulated",
        f"simulated, {len(sets.label):,} impressions",
        "lists of ten, and what was played organically, alone; tested on the last two days, the day before validates;"
        " the label is a click; each member of the teacher is trained on a quarter of the training part; weights are"
        " chosen with a tenth of it",
        [sets],
        {
            "kind": "boosted",
            "trees": 100,
            "leaves": 31,
            "learning_rate": 0.15,
            "least_in_leaf": 100,
            "column_share": 0.5,
            "patience": 10,
        },
        [{"kind": "label_list", "weight": 0.1}],
        members=3,
        num_folds=2,
        share=0.25,
        student={"kind": "mlp", "hidden": [32], "width": 4},
        training={"epochs": 2, "patience": 2, "learning_rate": 1e-2, "tokens_per_batch": 4096},
        choosing=0.1,
        log=log,
        aggregates=declared,
    )


DATA: dict[str, Callable[[Path], Data]] = {"kuairand": kuairand, "mq2008": mq2008, "simulated": simulated}
