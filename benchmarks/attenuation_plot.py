"""The plot of benchmarks/attenuation.py: gradients, gaps, and quality against the number of layers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from upnext.evaluation.drawing import ACCENT, GROUND, INK, LINE, SOFT, inline, plain_style, standalone

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

WIDTH, HEIGHT = 900, 960
STYLES = ((ACCENT, "-"), (INK, "-"), (INK, "--"), (SOFT, "-"), (SOFT, ":"))


class Watched(Protocol):
    """What was seen of one training, as benchmarks/attenuation.py has it."""

    gradients: dict[str, list[float]]
    losses: list[tuple[float, float, float]]
    worth: list[dict[str, tuple[float, float]]]

    @property
    def best(self) -> int:
        """The epoch with the least validation loss."""
        ...


Found = Mapping[tuple[int, bool], Sequence[Watched]]


def draw(found: Found) -> str:
    """An SVG document of six panels; every line is a mean over seeds."""
    from matplotlib.figure import Figure

    deepest = max(layers for layers, _ in found)
    with plain_style():
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), dpi=72)
        figure.patch.set_visible(False)
        panels = [figure.add_axes(box(row, column)) for row in range(3) for column in range(2)]
        plain, masked, gaps, worths, by_depth, quality = panels
        for axes, is_masked in ((plain, False), (masked, True)):
            gradients(axes, found[deepest, is_masked], deepest)
            titled(axes, f"gradient (RMS), {deepest} layers, {'masked' if is_masked else 'plain'}", "step", columns=2)
        low, high = min(one.get_ylim()[0] for one in (plain, masked)), max(one.get_ylim()[1] for one in (plain, masked))
        for axes in (plain, masked):
            axes.set_ylim(low, high * 8)  # the legend lies above the lines
        gaps_of_losses(gaps, found, deepest)
        titled(gaps, "validation minus training loss", "epoch")
        gaps_of_worth(worths, found, deepest)
        titled(worths, f"gap of what aggregators are worth, {deepest} layers", "epoch")
        of_first_layers(by_depth, found)
        titled(by_depth, "gradient (RMS) of the first layer, a dot per seed", "layers", columns=2)
        of_losses(quality, found)
        titled(quality, "test loss at the best epoch, a dot per seed", "layers; 0 are sums")
        return standalone(inline(figure, "gradient attenuation", {}))


def box(row: int, column: int) -> tuple[float, float, float, float]:
    """Where a panel is, placed by hand: nothing depends on how wide a typeface is."""
    left, bottom, width, height = 62 + 450 * column, 56 + 320 * (2 - row), 372, 226
    return left / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT


def titled(axes: "Axes", title: str, x: str, columns: int = 1) -> None:
    """Say what a panel shows."""
    axes.set_title(title, loc="left", color=INK, fontsize=13)
    axes.set_xlabel(x, color=SOFT, labelpad=4)
    axes.grid(axis="y")
    axes.legend(ncols=columns, fontsize=10, labelcolor=SOFT, facecolor=GROUND, edgecolor=LINE, framealpha=0.9)


def gradients(axes: "Axes", runs: Sequence[Watched], layers: int) -> None:
    """Root mean squares over training, of what is near the output and of aggregators' first and last layers."""
    ends = dict.fromkeys((", layer 1", f", layer {layers}"))
    of_layers = [name for end in ends for name in runs[0].gradients if name.endswith(end)]
    names: list[str] = [name for name in ("output", "joining", "joined history") if name in runs[0].gradients]
    names += sorted(of_layers, key=lambda name: not name.startswith("watched"))[: 5 - len(names)]
    for name, (color, dash) in zip(names, STYLES, strict=False):
        values = np.mean([one.gradients[name] for one in runs], axis=0)
        width = max(1, len(values) // 40)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(np.arange(len(smooth)) + width, smooth, color=color, linestyle=dash, linewidth=1.5, label=name)
    axes.set_yscale("log")


def gaps_of_losses(axes: "Axes", found: Found, deepest: int) -> None:
    """How much larger the ranking loss is on sets of the validation part, by epochs."""
    shown = [(layers, is_masked) for layers in dict.fromkeys((1, deepest)) for is_masked in (False, True)]
    kept = [key for key in shown if key in found]
    for (layers, is_masked), color in zip(kept, (SOFT, SOFT, ACCENT, ACCENT), strict=False):
        values = np.mean([[loss[1] - loss[0] for loss in one.losses] for one in found[layers, is_masked]], axis=0)
        label = f"{layers} layer{'' if layers == 1 else 's'}, {'masked' if is_masked else 'plain'}"
        by_epochs(axes, values, color, is_masked, label)


def gaps_of_worth(axes: "Axes", found: Found, deepest: int) -> None:
    """How much more an aggregator is worth on sets that are trained on, by epochs."""
    of_all = found[deepest, False][0].worth[0]
    aggregators = [name for name in of_all if name not in ("user", "time", "place")]
    for name, color in zip(aggregators, (ACCENT, INK, SOFT), strict=False):
        for is_masked in (False, True):
            runs = found[deepest, is_masked]
            values = np.mean([[worth[name][0] - worth[name][1] for worth in one.worth] for one in runs], axis=0)
            by_epochs(axes, values, color, is_masked, f"{name}, {'masked' if is_masked else 'plain'}")


def by_epochs(axes: "Axes", values: Sequence[float], color: str, is_masked: bool, label: str) -> None:
    """A line with a value per epoch; dashed with masks."""
    epochs = range(1, len(values) + 1)
    axes.plot(epochs, values, color=color, linestyle="--" if is_masked else "-", linewidth=1.5, label=label)


def of_first_layers(axes: "Axes", found: Found) -> None:
    """The mean gradient of each aggregator's first layer, against how many layers there are."""
    layers = sorted({count for count, is_masked in found if is_masked})
    names = [name for name in found[layers[0], False][0].gradients if name.endswith(", layer 1")]
    for name, color in zip(names, (ACCENT, INK, SOFT), strict=False):
        for is_masked in (False, True):
            means = [[float(np.mean(one.gradients[name])) for one in found[count, is_masked]] for count in layers]
            label = f"{name.removesuffix(', layer 1')}, {'masked' if is_masked else 'plain'}"
            with_seeds(axes, layers, means, color, is_masked, label)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 1.6)  # the legend lies above the lines
    axes.set_xticks(layers)


def of_losses(axes: "Axes", found: Found) -> None:
    """The test loss against layers."""
    for is_masked, color in ((False, INK), (True, ACCENT)):
        layers = sorted(count for count, with_masks in found if with_masks is is_masked)
        values = [[one.losses[one.best][2] for one in found[count, is_masked]] for count in layers]
        with_seeds(axes, layers, values, color, is_masked, "masked" if is_masked else "plain")
    axes.set_xticks(sorted({count for count, _ in found}))


def with_seeds(
    axes: "Axes", layers: Sequence[int], values: Sequence[Sequence[float]], color: str, is_masked: bool, label: str
) -> None:
    """A line of means, and a dot per seed; with masks dashed, and a little to the right."""
    at = [count + 0.06 * is_masked for count in layers]
    means = [float(np.mean(of_seeds)) for of_seeds in values]
    axes.plot(at, means, color=color, linestyle="--" if is_masked else "-", linewidth=1.5, label=label)
    for x, of_seeds in zip(at, values, strict=True):
        axes.plot([x] * len(of_seeds), of_seeds, "o", color=color, markersize=3.5)
