"""The plots of a report, as SVG to put inside a page: Matplotlib draws, the page gives the colours and the typeface."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from upnext.evaluation.drawing import (
    ACCENT,
    GROUND,
    INK,
    LINE,
    SOFT,
    WIDTH,
    framed,
    inline,
    new_figure,
    plain_style,
    printable,
)

__all__ = ["Dot", "calibration_figure", "curve_figures", "interval_figure", "popularity_figure", "segment_figure"]

_DASHES = ("-", "--", ":", "-.")
_LONGEST_NAME = 20
_LONGEST_SEGMENT = 26
_NOT_DRAWN = ("epoch", "step", "seconds", "events_per_s")


@dataclass(frozen=True)
class Dot:
    """One model's figure; `low` and `high` are None where there is no interval."""

    name: str
    value: float
    low: float | None
    high: float | None
    role: Literal["best", "model", "oracle"]


def interval_figure(dots: Sequence[Dot], metric: str) -> str:
    """Draw one metric of several models as a `<figure>`; without models, nothing."""
    if not dots:
        return ""
    intervals = ", 95 % intervals" if any(dot.low is not None for dot in dots) else ""
    arrow = "; ▸ lies beyond the scale" if any(dot.value > _scale_end(dots) for dot in dots) else ""
    return framed(f"<b>{metric}</b>{intervals}{arrow}", _draw_intervals(dots, f"{metric} of {len(dots)} models"))


def curve_figures(name: str, curve: Sequence[dict[str, Any]]) -> list[str]:
    """Draw a model's training as `<figure>`s: the terms of its loss, and the validation metric that decides.

    Args:     curve: a row per epoch with "epoch", counted from 0, each term as "…_loss", and the metric first among
              the other figures. Epochs are shown counted from 1.
    Returns:  up to two figures; none for what no row holds.
    """
    keys = list(dict.fromkeys(key for row in curve for key in row))
    losses = [key for key in keys if key.endswith("_loss")]
    metrics = [key for key in keys if key not in (*losses, *_NOT_DRAWN)][:1]
    figures = []
    for chosen in (losses, metrics):
        lines = {
            key: [(r["epoch"] + 1, r[key]) for r in curve if math.isfinite(r.get(key, math.nan))] for key in chosen
        }
        lines = {key: line for key, line in lines.items() if line}
        if lines:
            best = max(lines[chosen[0]], key=lambda point: point[1])[0] if chosen is metrics else None
            svg = _draw_curves(list(lines.values()), f"{name}, {', '.join(lines)} by epoch", marked_epoch=best)
            dashes = ("", " (dashed)", " (dotted)", " (dash-dotted)")
            caption = ", ".join(f"<b>{html.escape(key)}</b>{dash}" for key, dash in zip(lines, dashes, strict=False))
            figures.append(framed(f"{caption} by epoch", svg))
    return figures


def segment_figure(name: str, segments: Mapping[str, Sequence[Dot]], metric: str) -> str:
    """Draw one metric by segment as a `<figure>`: up to two models, the first filled, the second hollow below it.

    Args:     segments: top to bottom; a segment without dots keeps its line and says that it is too small.
    """
    from matplotlib.ticker import MaxNLocator

    dots = [dot for found in segments.values() for dot in found]
    if not dots:
        return ""
    labels = [printable(label) for label in segments]
    left = 18 + 7 * min(max(map(len, labels)), _LONGEST_SEGMENT)
    end = 1.04 * max(_high(dot) for dot in dots) or 1.0
    with plain_style():
        figure, axes = new_figure(height=38 * len(labels) + 34, left=left, right=14, bottom=28)
        axes.set_xlim(0, end)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
        axes.grid(axis="x")
        beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center_baseline", "clip_on": False}
        for row, found in enumerate(segments.values()):
            axes.text(-10 / (WIDTH - left - 14), row, f"name{row}", ha="right", color=INK, **beside)
            if not found:
                axes.text(10 / (WIDTH - left - 14), row, "too few users", ha="left", color=SOFT, **beside)
            for dot in found[:2]:
                is_best = dot.role == "best"
                color, y = (ACCENT, row - 0.15) if is_best else (INK, row + 0.15)
                axes.plot([_low(dot), _high(dot)], [y, y], color=color, linewidth=2, solid_capstyle="round")
                fill = color if is_best else GROUND
                axes.plot([dot.value], [y], "o", color=color, markersize=6, markerfacecolor=fill, clip_on=False)
        shown = {f"name{row}": _shortened(label, _LONGEST_SEGMENT) for row, label in enumerate(labels)}
        svg = inline(figure, f"{metric} by {name}", shown)
    return framed(f"<b>{html.escape(printable(name))}</b>", svg)


def popularity_figure(name: str, chosen: Sequence[float], shares: Sequence[float], *, is_best: bool) -> str:
    """Draw shares by tenths of the catalogue as a `<figure>`: bars for what people chose, dots for what a model lists.

    Args:     chosen, shares: from the most popular tenth to the least.
    """
    from matplotlib.ticker import MultipleLocator, PercentFormatter

    tenths = list(range(1, len(shares) + 1))
    with plain_style():
        figure, axes = new_figure(height=170, left=52, right=14, bottom=28)
        axes.set_xlim(0.4, len(tenths) + 0.6)
        axes.set_ylim(0, 1.04)
        axes.yaxis.set_major_locator(MultipleLocator(0.25))
        axes.set_xticks(tenths)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="y")
        axes.bar(tenths, chosen, width=0.7, color=LINE)
        color = ACCENT if is_best else INK
        axes.plot(tenths, shares, color=color, linewidth=1.8, marker="o", markersize=5, clip_on=False)
        svg = inline(figure, f"{name}, share by popularity", {})
    return framed(f"<b>{html.escape(printable(name))}</b>", svg)


def calibration_figure(name: str, bins: Sequence[Mapping[str, Any]], error: float) -> str:
    """Draw a reliability curve as a `<figure>`: what came over what was predicted, with intervals, and the diagonal.

    Args:     bins: rows of `calibration_rows` of one model and feedback, at least one; error: the calibration error.
    """
    from matplotlib.ticker import MaxNLocator

    end = 1.04 * max(max(row["predicted"], row["observed"], row["high"] or 0.0) for row in bins) or 1.0
    with plain_style():
        figure, axes = new_figure(height=260, left=52, right=14, bottom=28)
        axes.set_xlim(0, end)
        axes.set_ylim(0, end)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        axes.ticklabel_format(style="plain", useOffset=False)
        axes.grid()
        axes.plot([0, end], [0, end], color=SOFT, linewidth=1.2, linestyle="--")
        for row in bins:
            if row["low"] is not None:
                ends = [row["low"], row["high"]]
                axes.plot([row["predicted"]] * 2, ends, color=ACCENT, linewidth=2, solid_capstyle="round")
        x, y = [row["predicted"] for row in bins], [row["observed"] for row in bins]
        axes.plot(x, y, color=ACCENT, linewidth=1, marker="o", markersize=5, clip_on=False)
        svg = inline(figure, f"{name}, observed by predicted {bins[0]['feedback']}", {})
    return framed(f"<b>{html.escape(printable(name))}</b>, calibration error {error:.4f}", svg)


def _draw_intervals(dots: Sequence[Dot], label: str) -> str:
    """Draw a line per model: a dot at its value, a whisker over its interval, and the value in figures.

    Args:     dots: top to bottom, at least one; label: what a screen reader says, and the prefix of the ids.
    Returns:  an `<svg>` element.
    """
    from matplotlib.ticker import MaxNLocator

    names = [_shortened(dot.name) for dot in dots]
    left = 18 + 7 * max(len(name) for name in names)
    end = _scale_end(dots)
    start = min(_low(dot) for dot in dots)
    start = 0.0 if start < 0.5 * end else start - 0.15 * (end - start)
    with plain_style():
        figure, axes = new_figure(height=30 * len(dots) + 34, left=left, right=58, bottom=28)
        axes.set_xlim(start, end)
        axes.set_ylim(len(dots) - 0.4, -0.6)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
        axes.grid(axis="x")
        beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center_baseline", "clip_on": False}
        for row, dot in enumerate(dots):
            color = {"best": ACCENT, "model": INK, "oracle": SOFT}[dot.role]
            axes.text(-10 / (WIDTH - left - 58), row, f"name{row}", ha="right", color=color, **beside)
            axes.text(1 + 10 / (WIDTH - left - 58), row, f"{dot.value:.4f}", ha="left", color=color, **beside)
            if dot.value > end:
                axes.plot([1], [row], ">", color=color, markersize=7, clip_on=False, transform=beside["transform"])
                continue
            axes.plot([_low(dot), _high(dot)], [row, row], color=color, linewidth=2, solid_capstyle="round")
            fill = GROUND if dot.role == "oracle" else color
            axes.plot([dot.value], [row], "o", color=color, markersize=6, markerfacecolor=fill, clip_on=False)
        return inline(figure, label, {f"name{row}": name for row, name in enumerate(names)})


def _draw_curves(curves: Sequence[Sequence[tuple[int, float]]], label: str, *, marked_epoch: int | None = None) -> str:
    """Draw values over epochs; the first curve solid, the next ones dashed and dotted.

    Args:     curves: (epoch, value) pairs, at least one in all; label: as for `_draw_intervals`; marked_epoch: where
              the first curve gets a dot and its value in figures.
    Returns:  an `<svg>` element.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = [epoch for curve in curves for epoch, _ in curve]
    first, last = min(epochs), max(epochs)
    with plain_style():
        figure, axes = new_figure(height=200, left=52, right=14, bottom=28)
        axes.set_xlim(first - 0.3, last + 0.3)
        axes.margins(y=0.16)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.ticklabel_format(style="plain", useOffset=False)
        for number, curve in enumerate(curves):
            x, y = [epoch for epoch, _ in curve], [value for _, value in curve]
            dashes = _DASHES[number % len(_DASHES)]
            axes.plot(x, y, color=INK, linewidth=1.8, linestyle=dashes, marker=".", markersize=5)
        for epoch, value in curves[0]:
            if epoch == marked_epoch:
                axes.plot([epoch], [value], "o", color=ACCENT, markersize=8)
                side = "right" if epoch > (first + last) / 2 else "left"
                place: dict[str, Any] = {"xytext": (0, 9), "textcoords": "offset points", "ha": side, "va": "bottom"}
                axes.annotate(f"{value:.4f}", (epoch, value), color=ACCENT, **place)
        return inline(figure, label, {})


def _scale_end(dots: Sequence[Dot]) -> float:
    """Where the scale ends: at the largest end of an interval, with some room.

    An oracle far beyond the models is left outside, where it would press their intervals into points.
    """
    ends = [_high(dot) for dot in dots if dot.role != "oracle"] or [_high(dot) for dot in dots]
    largest = max(ends, default=0.0)
    near = [_high(dot) for dot in dots if dot.role == "oracle" and _high(dot) <= 1.5 * largest]
    return 1.04 * max([largest, *near]) or 1.0


def _low(dot: Dot) -> float:
    return dot.value if dot.low is None or math.isnan(dot.low) else dot.low


def _high(dot: Dot) -> float:
    return dot.value if dot.high is None or math.isnan(dot.high) else dot.high


def _shortened(name: str, longest: int = _LONGEST_NAME) -> str:
    name = printable(name)
    return name if len(name) <= longest else name[: longest - 1] + "…"
