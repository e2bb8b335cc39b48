"""The plots of a report, as SVG to put inside a page: Matplotlib draws, the page gives the colours and the typeface.

Colours are drawn as marks (#000001 …) and then become the page's CSS variables, so that one plot reads well on light
and on dark ground. Model names are drawn as marks too: no name can be taken for mathematics or lack a glyph.
"""

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "Dot", "curve_figures", "interval_figure", "printable"]

COLORS = """\
:root {
  color-scheme: light dark;
  --ground: #fbfaf8; --wash: #f0ede8; --ink: #24201c; --soft: #6c665f; --line: #e3dfd9; --accent: #a8481c;
  --ok: #2f6b45; --ok-wash: #e4f0e7; --warning: #97340f; --warning-wash: #fbe5d9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #141317; --wash: #232227; --ink: #eceae6; --soft: #a19d97; --line: #34323a; --accent: #eaa46c;
    --ok: #8fcfa6; --ok-wash: #1d3326; --warning: #ffab85; --warning-wash: #43231a;
  }
}
"""
"""The style sheet of the colours, for the page around the plots."""

_INK, _SOFT, _LINE, _ACCENT, _GROUND = "#000001", "#000002", "#000003", "#000004", "#000005"
_VARIABLES = {_INK: "--ink", _SOFT: "--soft", _LINE: "--line", _ACCENT: "--accent", _GROUND: "--ground"}
_WIDTH = 440  # a plot's own unit is one CSS pixel: two stand side by side, one fills a phone
_DASHES = ("-", "--", ":", "-.")
_LONGEST_NAME = 20
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
    return _framed(f"<b>{metric}</b>{intervals}{arrow}", _draw_intervals(dots, f"{metric} of {len(dots)} models"))


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
            figures.append(_framed(f"{caption} by epoch", svg))
    return figures


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
    with _style():
        figure, axes = _figure(height=30 * len(dots) + 34, left=left, right=58, bottom=28)
        axes.set_xlim(start, end)
        axes.set_ylim(len(dots) - 0.4, -0.6)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
        axes.grid(axis="x")
        beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center_baseline", "clip_on": False}
        for row, dot in enumerate(dots):
            color = {"best": _ACCENT, "model": _INK, "oracle": _SOFT}[dot.role]
            axes.text(-10 / (_WIDTH - left - 58), row, f"name{row}", ha="right", color=color, **beside)
            axes.text(1 + 10 / (_WIDTH - left - 58), row, f"{dot.value:.4f}", ha="left", color=color, **beside)
            if dot.value > end:
                axes.plot([1], [row], ">", color=color, markersize=7, clip_on=False, transform=beside["transform"])
                continue
            axes.plot([_low(dot), _high(dot)], [row, row], color=color, linewidth=2, solid_capstyle="round")
            fill = _GROUND if dot.role == "oracle" else color
            axes.plot([dot.value], [row], "o", color=color, markersize=6, markerfacecolor=fill, clip_on=False)
        return _inline(figure, label, {f"name{row}": name for row, name in enumerate(names)})


def _draw_curves(curves: Sequence[Sequence[tuple[int, float]]], label: str, *, marked_epoch: int | None = None) -> str:
    """Draw values over epochs; the first curve solid, the next ones dashed and dotted.

    Args:     curves: (epoch, value) pairs, at least one in all; label: as for `_draw_intervals`; marked_epoch: where
              the first curve gets a dot and its value in figures.
    Returns:  an `<svg>` element.
    """
    from matplotlib.ticker import MaxNLocator

    epochs = [epoch for curve in curves for epoch, _ in curve]
    first, last = min(epochs), max(epochs)
    with _style():
        figure, axes = _figure(height=200, left=52, right=14, bottom=28)
        axes.set_xlim(first - 0.3, last + 0.3)
        axes.margins(y=0.16)
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.ticklabel_format(style="plain", useOffset=False)
        for number, curve in enumerate(curves):
            x, y = [epoch for epoch, _ in curve], [value for _, value in curve]
            dashes = _DASHES[number % len(_DASHES)]
            axes.plot(x, y, color=_INK, linewidth=1.8, linestyle=dashes, marker=".", markersize=5)
        for epoch, value in curves[0]:
            if epoch == marked_epoch:
                axes.plot([epoch], [value], "o", color=_ACCENT, markersize=8)
                side = "right" if epoch > (first + last) / 2 else "left"
                place: dict[str, Any] = {"xytext": (0, 9), "textcoords": "offset points", "ha": side, "va": "bottom"}
                axes.annotate(f"{value:.4f}", (epoch, value), color=_ACCENT, **place)
        return _inline(figure, label, {})


def _scale_end(dots: Sequence[Dot]) -> float:
    """Where the scale ends: at the largest end of an interval, with some room.

    An oracle far beyond the models is left outside, where it would press their intervals into points.
    """
    ends = [_high(dot) for dot in dots if dot.role != "oracle"] or [_high(dot) for dot in dots]
    largest = max(ends, default=0.0)
    near = [_high(dot) for dot in dots if dot.role == "oracle" and _high(dot) <= 1.5 * largest]
    return 1.04 * max([largest, *near]) or 1.0


def printable(text: str) -> str:
    """Text without what no page can show: control characters and halves of letters."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "�" for letter in text)


def _framed(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{caption}</figcaption>{svg}</figure>"


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's own defaults and a few of ours, whatever the user's matplotlibrc says; undone at the end."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "upnext",
                "svg.fonttype": "none",
                "font.size": 13,
                "axes.facecolor": "none",
                "axes.edgecolor": _LINE,
                "axes.axisbelow": True,
                "axes.spines.left": False,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "grid.color": _LINE,
                "xtick.color": _LINE,
                "xtick.labelcolor": _SOFT,
                "xtick.labelsize": 12,
                "xtick.major.size": 3,
                "ytick.labelcolor": _SOFT,
                "ytick.labelsize": 12,
                "ytick.major.size": 0,
            }
        )
        yield


def _figure(height: int, left: int, right: int, bottom: int) -> "tuple[Figure, Axes]":
    """A figure without pyplot, its axes placed by hand: nothing depends on how wide a typeface is."""
    from matplotlib.figure import Figure

    top = 6
    figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    box = (left / _WIDTH, bottom / height, (_WIDTH - left - right) / _WIDTH, (height - bottom - top) / height)
    return figure, figure.add_axes(box)


def _inline(figure: "Figure", label: str, texts: dict[str, str]) -> str:
    """Write a figure as an element for a page: no namespaces, no metadata, no style sheet, ids of its own."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    source = file.getvalue().decode()
    for mark, variable in _VARIABLES.items():
        source = source.replace(mark, f"var({variable})")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', source))
    prefix = re.sub(r"\W+", "-", label)
    root = ElementTree.fromstring(source)
    for element in root.iter():
        for child in list(element):
            if _local(child.tag) in ("metadata", "style"):  # a style sheet would reach the whole page
                element.remove(child)
        attributes = {_local(name): value for name, value in element.attrib.items()}
        element.attrib.clear()
        for name, value in attributes.items():
            if name == "id" and value in used:
                element.set(name, f"{prefix}-{value}")
            elif name != "id":
                element.set(name, re.sub(r"^(url\(#|#)(?=\w+\)?$)", rf"\g<1>{prefix}-", value))
        element.tag = _local(element.tag)
        if element.tag == "text":
            element.text = texts.get(element.text or "", element.text)
    view_box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": view_box, "role": "img", "aria-label": printable(label)})
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _low(dot: Dot) -> float:
    return dot.value if dot.low is None or math.isnan(dot.low) else dot.low


def _high(dot: Dot) -> float:
    return dot.value if dot.high is None or math.isnan(dot.high) else dot.high


def _shortened(name: str) -> str:
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
