"""Rank distillation: a teacher, a pointwise teacher, a student alone, and the student taught in every way.

    python benchmarks/distillation.py mq2008 kuairand simulated
    python benchmarks/distillation.py mq2008 --seeds 0 1 2 3 4

The teacher is an ensemble of boosted trees trained on labels and their order; the pointwise one on labels alone. What
it says of the training part is said by teachers that were trained without the users, or queries, in question. The
student is a small network. All of them are calibrated on the validation part. The weight of each way's terms is chosen
there too, with a seed of its own; nothing is chosen on the test part. Two orders that no model was trained for are what
gains are gains over: a random one, and that of the best single feature, the one with the highest NDCG on the validation
part, rising or falling. Rows go to `docs/results/distillation-NAME.json`, a figure with Student's interval over the
seeds, and beside it the difference to the student alone, paired by seed. What was computed is kept in `--runs`, and a
run that was killed goes on.
"""

import argparse
import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, before torch is loaded

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distillation_data import DATA, Data
from numpy.typing import NDArray
from quality import RESULTS
from record import commit, machine

from upnext.base.artifacts import Artifact
from upnext.base.batches import FlatColumn
from upnext.base.example_sets import ExampleSets
from upnext.evaluation.distilled import METRICS, set_figures, set_ndcg
from upnext.events.log import EventLog
from upnext.events.split import TEST, TRAIN, VALIDATION
from upnext.features.aggregates import Aggregate
from upnext.fitting.calibration import scale_and_shift
from upnext.fitting.costs import parameters_of, percentiles_ms, seconds_of_answers, size_of
from upnext.fitting.distillation import DistillConfig, OverFeatures, fit_student, scores_of
from upnext.fitting.folds import FoldsConfig, mean_scores, out_of_fold
from upnext.metrics.intervals import over_seeds
from upnext.pipeline.latency import Served
from upnext.training.loop import Start

Row = dict[str, Any]
Scores = NDArray[np.float64]

LABEL = {"kind": "label"}
ALONE, FEATURE = "student alone", "best single feature"
WAYS: dict[str, list[dict[str, Any]]] = {
    ALONE: [],
    "+ score distillation": [{"kind": "scores", "form": "cross_entropy"}],
    "+ differences": [{"kind": "differences"}],
    "+ pair probabilities": [{"kind": "pair_probabilities"}],
    "+ list probabilities": [{"kind": "list_probabilities"}],
    "+ ranks": [{"kind": "ranks"}],
    "+ scores and differences": [{"kind": "scores", "form": "cross_entropy"}, {"kind": "differences"}],
    "+ label pairs": [{"kind": "label_pairs"}],
    "+ label list": [{"kind": "label_list"}],
}
"""What is added to the cross-entropy of the labels."""
WEIGHTS = (0.3, 1.0, 3.0)
"""Of the terms that are added; chosen on the validation part."""
_CHOOSING = 1000
"""The seed that weights are chosen with."""


def main() -> None:
    """Measure, write the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation"), help="where what is computed is kept")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.names:
        data, folder = DATA[name](asked.runs / "data"), asked.runs / name
        folder.mkdir(parents=True, exist_ok=True)
        chosen = kept(folder / "weights.json", partial(choose_weights, data))
        runs = [kept(folder / f"{seed}.json", partial(one_seed, data, seed, chosen)) for seed in asked.seeds]
        cost = kept(folder / "costs.json", partial(costs, data))
        rows = as_rows(data, runs, asked.seeds, chosen, cost)
        (RESULTS / f"distillation-{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
        show(rows)


def kept(path: Path, compute: Callable[[], Any]) -> Any:
    """What was computed before, or what is computed now and kept."""
    if not path.is_file():
        found = json.dumps(compute())
        path.with_suffix(".part").write_text(found)
        path.with_suffix(".part").replace(path)
    return json.loads(path.read_text())


@dataclass(frozen=True)
class Taught:
    """A fold's examples with what the teacher says of all of them, and its figures and cost."""

    sets: ExampleSets
    said: FlatColumn
    rows: dict[str, Row]


def choose_weights(data: Data) -> dict[str, float]:
    """The weight of each way: the best mean of NDCG less log-loss over the validation parts."""
    some = [some_of(sets, data.choosing) for sets in data.folds[: data.chosen_in]]
    parts = [(taught(data, sets, _CHOOSING, with_control=False), part_of(sets, VALIDATION)) for sets in some]
    chosen = {}
    for way, added in WAYS.items():
        if not added:
            continue
        worth = {}
        for weight in WEIGHTS:
            found = [
                set_figures(held, scores_of(model, held), are_logits=True)
                for part, held in parts
                for model, _ in [student(data, part, added, weight, _CHOOSING)]
            ]
            worth[weight] = float(np.mean([one["ndcg"] - one["log_loss"] for one in found]))
        chosen[way] = max(worth, key=lambda weight: worth[weight])
        print(f"{data.name}: {way}: {chosen[way]:g} of {worth}", flush=True)
    return chosen


def some_of(sets: ExampleSets, share: float) -> ExampleSets:
    """A share of the training part's sets, drawn, and all others."""
    drawn = np.random.default_rng(_CHOOSING).random(len(sets)) < share
    return sets.take(np.flatnonzero(drawn | (sets.part != TRAIN)))


def part_of(sets: ExampleSets, which: int) -> ExampleSets:
    """The sets of one part."""
    return sets.take(np.flatnonzero(sets.part == which))


def best_feature(held: ExampleSets, tested: ExampleSets) -> Scores:
    """What the number says of the test part that orders the validation part best, rising or falling; calibrated there.

    What was not observed of it counts as its mean.
    """
    best, scores, said = -1.0, np.zeros(0), np.zeros(0)
    for name, column in held.features.items():
        if column.values.dtype.kind != "f" or not column.observed.any():
            continue
        mean = column.values[column.observed].mean(dtype=np.float64)
        known = [np.where(of.observed, of.values, mean) for of in (column, tested.features[name])]
        for sign in (1, -1):
            ndcg = float(np.nanmean(set_ndcg(held, sign * known[0])))
            if ndcg > best:
                best, scores, said = ndcg, sign * known[0], sign * known[1]
    scale, shift = scale_and_shift(scores, held.is_positive)
    return scale * said + shift


def one_seed(data: Data, seed: int, weights: dict[str, float]) -> dict[str, dict[str, float]]:
    """The figures of everybody on the test parts, means over the folds."""
    everybody: dict[str, list[Row]] = {}
    for sets in data.folds:
        part, tested = taught(data, sets, seed, with_control=True), part_of(sets, TEST)
        found = part.rows | {FEATURE: measured(best_feature(part_of(sets, VALIDATION), tested), tested, 0.0)}
        for way, added in WAYS.items():
            model, seconds = student(data, part, added, weights.get(way, 0.0), seed)
            found[way] = measured(scores_of(model, tested), tested, seconds)
        for who, row in found.items():
            everybody.setdefault(who, []).append(row)
        print(f"{data.name} seed {seed}: " + ", ".join(f"{w} {r['ndcg']:.4f}" for w, r in found.items()), flush=True)
    return {
        who: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} for who, rows in everybody.items()
    }


def taught(data: Data, sets: ExampleSets, seed: int, with_control: bool) -> Taught:
    """Train the teachers: of every fold, of the whole training part, and the pointwise one."""
    rows: dict[str, Row] = {}
    columns, started, tested = [], time.process_time(), part_of(sets, TEST)
    for number in range(data.members):

        def fit(chosen: NDArray[np.int64], fold: int | None, number: int = number) -> OverFeatures:
            return member(data, sets, chosen, data.teacher_order, 10 * seed + number)

        folds = FoldsConfig(count=data.num_folds, seed=seed)
        columns.append(out_of_fold(folds, sets, fit, lambda model, asked: scores_of(model, sets.take(asked))))
    said = mean_scores(columns)
    heard = said.values[sets.candidates_of(np.flatnonzero(sets.part == TEST))]
    rows["teacher"] = measured(heard, tested, time.process_time() - started)
    if with_control:
        started, given = time.process_time(), np.flatnonzero(sets.part == TRAIN)
        control = [member(data, sets, given, [], 10 * seed + number) for number in range(data.members)]
        scores = np.mean([scores_of(model, tested) for model in control], axis=0)
        rows["pointwise teacher"] = measured(scores, tested, time.process_time() - started)
    return Taught(sets, said, rows)


def member(
    data: Data, sets: ExampleSets, given: NDArray[np.int64], order: Sequence[dict[str, Any]], seed: int
) -> OverFeatures:
    """Train one of the ensemble on its share of the sets that are given; the validation part says when to stop."""
    drawn = given[np.random.default_rng(seed).random(len(given)) < data.share]
    config = of_student(data.teacher | {"seed": seed}, [LABEL, *order])
    some = sets.take(np.union1d(drawn, np.flatnonzero(sets.part == VALIDATION)))
    return fitted(config, some, None, data.aggregates)


def student(
    data: Data, part: Taught, added: Sequence[dict[str, Any]], weight: float, seed: int
) -> tuple[OverFeatures, float]:
    """Train a student in one way; the seconds of the processor that it took."""
    terms = [LABEL, *({"weight": weight} | term for term in added)]
    config = of_student(data.student, terms, data.training | {"seed": seed})
    said = part.said if config.teachers else None
    started = time.process_time()
    return fitted(config, part.sets, said), time.process_time() - started


def of_student(
    shape: dict[str, Any], terms: Sequence[dict[str, Any]], training: dict[str, Any] | None = None
) -> DistillConfig:
    """A configuration, with a teacher where a term listens to one."""
    heard = any(term["kind"] not in ("label", "label_pairs", "label_list") for term in terms)
    named = {"examples": "all", "student": shape, "losses": list(terms)}
    return DistillConfig.model_validate(
        named | ({"teacher": "teacher"} if heard else {}) | ({"training": training} if training else {})
    )


def fitted(
    config: DistillConfig, sets: ExampleSets, said: FlatColumn | None, aggregates: Sequence[Aggregate] = ()
) -> OverFeatures:
    """Train in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        return fit_student(config, sets, said, Path(folder), Start(), list(aggregates))


def measured(scores: Scores, tested: ExampleSets, seconds: float) -> Row:
    """The figures of the test part, that of a random order, and the seconds of the processor that training took."""
    random = float(np.nanmean(set_ndcg(tested, np.zeros(len(scores)))))
    return set_figures(tested, scores, are_logits=True) | {"training_s": seconds, "random_ndcg": random}


def costs(data: Data) -> dict[str, dict[str, float]]:
    """Parameters, bytes, and a processor's milliseconds for a request for 500 candidates whose features are there; of
    a log, also with the features computed as a server does.

    Of both ensembles and a student, asked in turns in one process; students have one shape, whoever teaches them.
    """
    sets = data.folds[0]
    given = np.flatnonzero(sets.part == TRAIN)
    models = {
        "teacher": [member(data, sets, given, data.teacher_order, number) for number in range(data.members)],
        "pointwise teacher": [member(data, sets, given, [], number) for number in range(data.members)],
        ALONE: [fitted(of_student(data.student, [LABEL], data.training), sets, None, data.aggregates)],
    }
    took: dict[str, list[float]] = {who: [] for who in models}
    for _ in range(_TURNS):
        for who, members in models.items():
            took[who] += seconds_of_answers(members, sets, _REQUESTS, time.process_time)
    computed = {} if data.log is None else seconds_served(data.log, models)
    return {
        who: {
            "parameters": float(sum(map(parameters_of, members))),
            "size_kb": sum(map(size_of, members)) / 1000,
        }
        | percentiles_ms(took[who])
        | (percentiles_ms(computed[who], "_computed") if computed else {})
        for who, members in models.items()
    }


def seconds_served(log: Artifact, models: dict[str, list[OverFeatures]]) -> dict[str, list[float]]:
    """How long requests took whose candidates have nothing yet: what a server computes once, and then all members."""
    took: dict[str, list[float]] = {who: [] for who in models}
    with tempfile.TemporaryDirectory() as store:
        events = EventLog.open(log.folder / "log")
        with Served(log.folder, events, Path(store), _REQUESTS) as served:
            for _ in range(_TURNS):
                for who, (first, *others) in models.items():
                    parts = [served.seconds(first, clock=time.process_time)[1]]
                    parts += [served.seconds(other, clock=time.process_time)[0] for other in others]
                    took[who] += np.sum(parts, axis=0).tolist()
    return took


_TURNS, _REQUESTS = 10, 40


def as_rows(
    data: Data, runs: list[dict[str, Row]], seeds: list[int], chosen: dict[str, float], cost: dict[str, Row]
) -> list[Row]:
    """A row per figure of everybody: the mean over seeds, and the difference to the student alone, paired by seed."""
    head: Row = {
        "benchmark": "distillation",
        "dataset": data.dataset,
        "protocol": data.protocol,
        "k": None,
        "minutes": None,
        "seeds": len(seeds),
        "command": f"python benchmarks/distillation.py {data.name} --seeds {' '.join(map(str, seeds))}",
        "commit": commit("benchmarks/distillation.py", "benchmarks/distillation_data.py"),
        "machine": machine("1 thread", packages=("torch", "lightgbm")),
    }
    rows = []
    for who in runs[0]:
        settings = {"weight": chosen[who]} if who in chosen else {}
        runs_of = with_shares(*([run[one] for run in runs] for one in (who, ALONE, FEATURE, "teacher")))
        price = cost.get(who, {})
        for part in ("", "_computed"):
            if (key := f"p50{part}_ms") in price:
                price = price | {f"latency_share{part}": price[key] / cost["teacher"][key]}
        rows += [
            head
            | {"model": who, "variant": data.name, "settings": settings, "metric": metric, "value": value}
            | {"low": None, "high": None, "seeds": 1}
            for metric, value in price.items()
        ]
        for metric in _SHOWN:
            values = np.array([run[metric] for run in runs_of])
            mean = over_seeds(values)
            row = head | {"model": who, "variant": data.name, "settings": settings, "metric": metric}
            row |= {"value": mean.value, "low": mean.low, "high": mean.high, "values": values.tolist()}
            if metric in METRICS:
                difference = over_seeds(values - np.array([run[ALONE][metric] for run in runs]))
                row |= {"difference": [difference.value, difference.low, difference.high]}
            rows.append(row)
    return rows


_SHOWN = (*METRICS, "training_s", "gain_kept", "gain_kept_over_feature", "gap_closed")


def with_shares(found: list[Row], alone: list[Row], feature: list[Row], teacher: list[Row]) -> list[Row]:
    """Add what share of the teacher's gains is kept, over a random order, the best feature's and the student alone.

    A share of the gain of all seeds together: that of one seed may have next to nothing below the line.
    """
    best, before, single = (float(np.mean([one["ndcg"] for one in of])) for of in (teacher, alone, feature))
    return [
        one
        | {
            "gain_kept": (one["ndcg"] - one["random_ndcg"]) / (best - one["random_ndcg"]),
            "gain_kept_over_feature": (one["ndcg"] - single) / (best - single),
            "gap_closed": (one["ndcg"] - student["ndcg"]) / (best - before),
        }
        for one, student in zip(found, alone, strict=True)
    ]


def show(rows: list[Row]) -> None:
    """Print everybody by figures."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    print(f"{'':36}" + " ".join(f"{metric[:11]:>11}" for metric in metrics))
    for who in dict.fromkeys(row["model"] for row in rows):
        of = {row["metric"]: row["value"] for row in rows if row["model"] == who}
        print(f"{who:36}" + " ".join(f"{of.get(metric, np.nan):11.4f}" for metric in metrics))


if __name__ == "__main__":
    main()
