"""Rank distillation in linear time: against all pairs, how it grows, what float32 costs it, and how students recover.

    python benchmarks/rank_distillation_losses.py [--rounds 31]

* Speed: a loss and its gradient over one set of N candidates, and over 32 of 1,000, as processor time. All forms take
  turns in one process, and a figure is the median over rounds of a ratio within a round. *All pairs* is
  `pair_difference_loss`; *bare* is the least that automatic differentiation needs: no mask, no weights.
* Precision: float32 scores of 1,000 candidates, the teacher's on a level of up to 10,000 above the student's, against
  the same scores in float64; of the loss, and the largest error of the gradient in parts of its largest entry.
* Recovery: gradient descent on 20 sets of 20 free scores that start at -3 times the teacher's, all pairs in the wrong
  order. One step size; losses are scaled so that differences, pairs and lists at g = 1 bend alike where scores are
  equal. Steps until 99 % of pairs are in the teacher's order, and until differences are right to 0.1 (root mean
  square); the median of the sets, lowest and highest. What did not get there in 4,000 steps has no row.

Rows go to docs/results/rank_distillation_losses.json, plots to docs/images/rank-distillation-*.svg.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from record import commit, machine
from torch import Tensor

from upnext.evaluation.drawing import ACCENT, GROUND, INK, LINE, SOFT, inline, new_figure, plain_style, standalone
from upnext.losses.distillation import difference_loss
from upnext.losses.listwise import list_probability_loss
from upnext.losses.pairwise import pair_difference_loss, pair_probability_loss
from upnext.losses.ranks import rank_loss, rank_step_loss

DOCS = Path(__file__).parent.parent / "docs"
LINEAR, PAIRS, BARE, RANKS = "linear", "all pairs", "all pairs, bare", "soft ranks"
SIZES = {
    LINEAR: (100, 1000, 10_000, 100_000, 1_000_000),
    RANKS: (100, 1000, 10_000, 100_000),
    PAIRS: (100, 1000, 2000),
    BARE: (100, 1000, 2000),
}
LEVELS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
STEPS = 4000

Loss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Curve = Sequence[tuple[float, float]]


def main() -> None:
    """Measure all three, write rows and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--docs", type=Path, default=DOCS, help="where `images` and `results` are")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seconds, errors, curves = speed(arguments.rounds), precision(), recovery()
    rows = as_rows(arguments.rounds, [*speed_rows(seconds), *precision_rows(errors), *recovery_rows(curves)])
    (arguments.docs / "results" / "rank_distillation_losses.json").write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['model']:24} {row['variant']:32} {row['metric']:40} {row['value']:g} [{row['low']}, {row['high']}]"
        )
    for name, svg in plots(seconds, errors, curves).items():
        (arguments.docs / "images" / f"rank-distillation-{name}.svg").write_text(svg)


# --- speed -----------------------------------------------------------------------------------------------------------


def bare(student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs without mask and weights."""
    d = teacher - student
    return (d[:, :, None] - d[:, None, :]).square().sum() / 2, mask.sum()


LOSSES: dict[str, Loss] = {LINEAR: difference_loss, RANKS: rank_loss, PAIRS: pair_difference_loss, BARE: bare}


def speed(rounds: int) -> dict[tuple[str, int, int], NDArray[np.float64]]:
    """Processor seconds of (loss, sets, candidates), one per round; the first rounds warm up and are left out."""
    cases = [(name, 1, size) for name, sizes in SIZES.items() for size in sizes]
    cases += [(name, 32, 1000) for name in (LINEAR, PAIRS, BARE)]
    found: dict[tuple[str, int, int], list[float]] = {case: [] for case in cases}
    generator = torch.Generator().manual_seed(0)
    for _ in range(rounds + 2):
        for name, sets, size in cases:
            student, teacher = torch.randn(2, sets, size, generator=generator)
            work = sets * size * (size if name in (PAIRS, BARE) else 1)
            mask, times = torch.ones(sets, size).bool(), min(20, max(3, 5_000_000 // work)) if sets == 1 else 2
            student.requires_grad_()
            taken = []
            for _ in range(times):
                start = time.process_time()
                torch.autograd.grad(LOSSES[name](student, teacher, mask)[0], student)
                taken.append(time.process_time() - start)
            found[name, sets, size].append(float(np.median(taken)))
    return {case: np.array(some[2:]) for case, some in found.items()}


def speed_rows(seconds: Mapping[tuple[str, int, int], NDArray[np.float64]]) -> list[dict[str, Any]]:
    rows = []
    for sets in (1, 32):
        for slow in (PAIRS, BARE):
            ratio = seconds[slow, sets, 1000] / seconds[LINEAR, sets, 1000]
            variant = f"{sets} set{'s' if sets > 1 else ''} of 1,000"
            rows.append(row("difference_loss", variant, f"time of {slow} / time", ratio))
    for name, model in ((LINEAR, "difference_loss"), (RANKS, "rank_loss")):
        for size in (size for size in SIZES[name] if size > 10_000):
            ratio = seconds[name, 1, size] / seconds[name, 1, size // 10]
            rows.append(row(model, f"1 set of {size:,}", f"time / time of {size // 10:,}", ratio))
    return rows


# --- precision -------------------------------------------------------------------------------------------------------


def expanded(student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """N Σ d² - (Σ d)²."""
    d = teacher - student
    return d.shape[1] * d.square().sum() - d.sum().square(), mask.sum()


def centred(student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """N Σ (d - mean d)², in the precision of the scores."""
    d = teacher - student
    return d.shape[1] * (d - d.mean()).square().sum(), mask.sum()


FORMS: dict[str, Loss] = {
    "difference_loss": difference_loss,
    "centred, float32": centred,
    "expanded, float32": expanded,
}


def precision() -> dict[tuple[str, str], Curve]:
    """Of (form, "loss" or "gradient"): relative errors by level."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    student, teacher = torch.randn(2, 1, 1000, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, 1000).bool()
    for level in LEVELS:
        high = teacher + level
        exact, slope = with_gradient(centred, student.double(), high.double(), mask)
        for name, form in FORMS.items():
            loss, own = with_gradient(form, student, high, mask)
            off = ((own.double() - slope).abs().max() / slope.abs().max()).item()
            found.setdefault((name, "loss"), []).append((level, abs(loss / exact - 1)))
            found.setdefault((name, "gradient"), []).append((level, off))
    return {case: tuple(points) for case, points in found.items()}


def with_gradient(loss: Loss, student: Tensor, teacher: Tensor, mask: Tensor) -> tuple[float, Tensor]:
    leaf = student.clone().requires_grad_()
    value, _ = loss(leaf, teacher, mask)
    return value.item(), torch.autograd.grad(value, leaf)[0]


def precision_rows(errors: Mapping[tuple[str, str], Curve]) -> list[dict[str, Any]]:
    return [
        row(name, f"level of {level:,.0f}", f"relative error of the {part}", np.array([error]))
        for (name, part), points in errors.items()
        for level, error in points
        if level in (1.0, 100.0, 10_000.0)
    ]


# --- recovery --------------------------------------------------------------------------------------------------------

NUM, SIZE = 20, 20


def students() -> dict[str, tuple[Loss, float]]:
    """Each loss, and what it is multiplied by; a step is of 1 / N."""
    found: dict[str, tuple[Loss, float]] = {"differences / 8": (difference_loss, 1 / 8)}
    for g in (0.25, 1.0, 4.0):
        found[f"pairs, g = {g:g}, times g"] = (partial(pair_probability_loss, temperature=g), 1.0)
    for g in (0.25, 4.0):
        hot = partial(pair_probability_loss, temperature=g, temperature_power=2)
        found[f"pairs, g = {g:g}, times g²"] = (hot, 1.0)
    found["lists, g = 1"] = (list_probability_loss, SIZE / 4 * SIZE)
    found["steps of ranks"] = (rank_step_loss, 1.0)
    for width in (1.0, 20.0):
        found[f"soft ranks, width {width:g}"] = (partial(rank_loss, width=width), (width / SIZE) ** 2 * SIZE)
    return found


def recovery() -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """By loss: (STEPS + 1, sets) share of pairs in order, and root mean square error of differences."""
    teacher = 2 * torch.randn(NUM, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask, upper = torch.ones(NUM, SIZE).bool(), torch.ones(SIZE, SIZE).triu(1).bool()
    right = (teacher[:, :, None] - teacher[:, None, :])[:, upper]
    found = {}
    for name, (loss, factor) in students().items():
        scores, ordered, errors = -3 * teacher, [], []
        for _ in range(STEPS + 1):
            own = (scores[:, :, None] - scores[:, None, :])[:, upper]
            ordered.append(((own * right) > 0).double().mean(1).numpy())
            errors.append((own - right).square().mean(1).sqrt().numpy())
            scores = scores - factor / SIZE * with_gradient(loss, scores, teacher, mask)[1]
        found[name] = np.array(ordered), np.array(errors)
    return found


def recovery_rows(curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> list[dict[str, Any]]:
    rows = []
    for name, (ordered, errors) in curves.items():
        said = {"steps to 99 % in order": ordered >= 0.99, "steps to differences right to 0.1": errors <= 0.1}
        for metric, reached in said.items():
            if reached[-1].all():
                rows.append(row(name, "from the wrong order", metric, reached.argmax(0).astype(np.float64)))
    return rows


# --- rows and plots --------------------------------------------------------------------------------------------------


def row(model: str, variant: str, metric: str, values: NDArray[np.float64]) -> dict[str, Any]:
    """The median, and the lowest and the highest of several."""
    value, low, high = (float(f"{one:.4g}") for one in (np.median(values), values.min(), values.max()))
    ends = {"low": low, "high": high} if len(values) > 1 else {"low": None, "high": None}
    return {"model": model, "variant": variant, "metric": metric, "value": value} | ends


def as_rows(rounds: int, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of docs/results."""
    known = {
        "benchmark": "rank_distillation_losses",
        "dataset": "random scores",
        "protocol": f"processor time, {rounds} rounds by turns in one process, median of ratios; recovery of {NUM} sets"
        f" of {SIZE} free scores from -3 times the teacher's, step 1 / N",
        "settings": {"threads": 1},
        "k": None,
        "seeds": 1,
        "minutes": None,
        "command": f"python benchmarks/rank_distillation_losses.py --rounds {rounds}",
        "commit": commit(),
        "machine": machine("1 thread"),
    }
    return [known | one for one in rows]


def plots(
    seconds: Mapping[tuple[str, int, int], NDArray[np.float64]],
    errors: Mapping[tuple[str, str], Curve],
    curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> dict[str, str]:
    """Name -> SVG document."""
    unit = np.median(seconds[LINEAR, 1, 1000])
    times = {name: [(n, np.median(seconds[name, 1, n]) / unit) for n in sizes] for name, sizes in SIZES.items()}
    drawn = ["differences / 8", "pairs, g = 1, times g", "pairs, g = 0.25, times g", "pairs, g = 4, times g"]
    missed = {
        name: [(float(step), 1 - float(curves[name][0][step].mean())) for step in range(1, 101)]
        for name in [*drawn, "steps of ranks"]
    }
    off = {name: [(float(step), float(np.median(curves[name][1][step]))) for step in range(1, 1001)] for name in drawn}
    kept = {name: errors[name, "loss"] for name in FORMS}
    return {
        "speed": draw(times, "candidates", "time, 1 = linear at 1,000", "log"),
        "precision": draw(kept, "level of the teacher's scores", "error of the loss", "log"),
        "order": draw(missed, "steps", "pairs in the wrong order", "linear"),
        "differences": draw(off, "steps", "error of differences", "log", least=1e-4),
    }


STYLES = ((ACCENT, "-"), (INK, "-"), (INK, "--"), (INK, ":"), (SOFT, "-."))


def draw(lines: Mapping[str, Curve], x: str, y: str, scale: str, least: float | None = None) -> str:
    """Lines on a logarithmic axis, told apart by dashes; `least` is the bottom of the other axis."""
    with plain_style():
        figure, axes = new_figure(height=260, left=60, right=14, bottom=44)
        axes.set_xscale("log")
        axes.set_yscale(scale)
        axes.grid(axis="y")
        for (name, points), (color, dash) in zip(lines.items(), STYLES, strict=False):
            axes.plot(*zip(*points, strict=True), color=color, linestyle=dash, linewidth=1.8, label=name)
        axes.set_ylim(bottom=least)
        axes.legend(fontsize=11, labelcolor=SOFT, facecolor=GROUND, edgecolor=LINE, framealpha=1)
        axes.set_xlabel(x, color=SOFT, labelpad=6)
        axes.set_ylabel(y, color=SOFT)
        return standalone(inline(figure, f"{y}, by {x}", {}))


if __name__ == "__main__":
    main()
