"""The page of a scaling run: plots of losses against size and history length, the lines through them, every figure."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from upnext.evaluation.drawing import (
    ACCENT,
    COLORS,
    INK,
    SOFT,
    framed,
    inline,
    new_figure,
    plain_style,
    printable,
    standalone,
)
from upnext.evaluation.style import FRAME, STYLE

__all__ = ["files_of", "plots_of", "scaling_markdown", "scaling_page"]

Row = Mapping[str, Any]

_AXES = {
    "size": ("encoder_parameters", "parameters of the encoder"),
    "length": ("length", "history, events"),
}
_TUNED = "Ablations of fine-tuning, test part"
_METRICS = {"nip_loss": "Next-item loss", "fp_loss": "Feedback loss"}


def plots_of(rows: Sequence[Row], lines: Sequence[Row], part: str) -> dict[str, str]:
    """Draw each loss against each axis, for one part of the split: file stem -> SVG as an element of a page."""
    found = {}
    for metric, title in _METRICS.items():
        for series, (key, said) in _AXES.items():
            some = sorted((row for row in _of(rows, part, metric) if series in row["series"]), key=lambda row: row[key])
            line = next((one for one in _of(lines, part, metric) if one["series"] == series), None)
            if line is not None:
                stem = f"{metric.removesuffix('_loss')}-{series}"
                found[stem] = _draw(some, line, key, f"{title}, {part} part, against {said}")
    return found


def _draw(points: Sequence[Row], line: Row, key: str, label: str) -> str:
    """Points with their intervals, on a logarithmic scale, and the line through them."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    x = [float(point[key]) for point in points]
    scale = math.log10 if key == "encoder_parameters" else math.log2
    with plain_style():
        figure, axes = new_figure(height=220, left=60, right=24, bottom=44)
        axes.set_xscale("log")
        axes.set_xlim(min(x) / 1.6, max(x) * 1.6)
        axes.margins(y=0.2)
        axes.grid(axis="y")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        axes.xaxis.set_major_locator(FixedLocator(x))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(x, [_short(value) for value in x])
        ends = [min(x) / 1.3, max(x) * 1.3]
        axes.plot(ends, [line["intercept"] + line["slope"] * scale(at) for at in ends], color=SOFT, linewidth=1.4)
        for at, point in zip(x, points, strict=True):
            if point["low"] is not None:
                axes.plot([at, at], [point["low"], point["high"]], color=INK, linewidth=1.4)
            axes.plot([at], [point["value"]], "o", color=ACCENT, markersize=7)
        axes.set_xlabel(label.rpartition("against ")[2], color=SOFT, labelpad=6)
        return inline(figure, label, {})


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.1f} M"
    return f"{value / 1e3:.0f} k" if value >= 1e4 else f"{value:g}"


def scaling_page(
    title: str, rows: Sequence[Row], lines: Sequence[Row], notes: Sequence[str], tuned: Sequence[Row] = ()
) -> str:
    """One page of HTML that asks the network for nothing."""
    sections = []
    for part in dict.fromkeys(row["part"] for row in rows):
        figures = [
            framed(html.escape(f"{_METRICS[line['metric']]}: {_said(line)}"), svg)
            for (svg, line) in zip(plots_of(rows, lines, part).values(), _in_order(lines, part), strict=True)
        ]
        table = _html_table(*_cells(rows, part), f"Every point, {part} part")
        sections.append(
            f"<section><h2>{html.escape(part.capitalize())} part</h2>"
            f'<div class="plots">{"".join(figures)}</div>{table}</section>'
        )
    if tuned:
        table = _html_table(*_tuned_cells(tuned), _TUNED)
        sections.append(f"<section><h2>{_TUNED}</h2>{table}</section>")
    said = "".join(f"<li>{html.escape(printable(note))}</li>" for note in notes)
    body = (
        f'<header><p class="eyebrow">Scaling run</p><h1>{html.escape(printable(title))}</h1>'
        f'<ul class="spread">{said}</ul></header>{"".join(sections)}'
    )
    return FRAME.format(title=html.escape(printable(title)), style=COLORS + STYLE, body=body)


def scaling_markdown(
    title: str, rows: Sequence[Row], lines: Sequence[Row], notes: Sequence[str], tuned: Sequence[Row] = ()
) -> str:
    """The same as Markdown, with the plots as files beside it."""
    blocks = [f"# {title}: scaling", "\n".join(f"* {note}" for note in notes)]
    for part in dict.fromkeys(row["part"] for row in rows):
        table = _markdown_table(*_cells(rows, part))
        fits = "\n".join(f"* {_METRICS[line['metric']]}: {_said(line)}" for line in _in_order(lines, part))
        blocks += [f"## {part.capitalize()} part", table, fits]
    if tuned:
        blocks += [f"## {_TUNED}", _markdown_table(*_tuned_cells(tuned))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown_table(header: list[str], lines: list[list[str]]) -> str:
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


def files_of(rows: Sequence[Row], lines: Sequence[Row], part: str) -> dict[str, str]:
    """The plots of one part as files of their own: name -> SVG document."""
    return {f"{stem}.svg": standalone(svg) for stem, svg in plots_of(rows, lines, part).items()}


def _of(rows: Sequence[Row], part: str, metric: str) -> list[Row]:
    return [row for row in rows if (row["part"], row["metric"]) == (part, metric)]


def _in_order(lines: Sequence[Row], part: str) -> list[Row]:
    """The lines in the order of the plots."""
    return [
        line for metric in _METRICS for series in _AXES for line in _of(lines, part, metric) if line["series"] == series
    ]


def _said(line: Row) -> str:
    x = "log10(parameters)" if line["series"] == "size" else "log2(history)"
    sign = "-" if line["slope"] < 0 else "+"
    fit = f"{line['intercept']:.4f} {sign} {abs(line['slope']):.4f} · {x}"
    if line["points"] == 2:
        return f"{fit} through two points"
    return f"{fit}, r² {line['r2']:.3f}, residual {line['residual']:.4f}, {line['points']} points"


def _cells(rows: Sequence[Row], part: str) -> tuple[list[str], list[list[str]]]:
    """A line per point: what it is, and its figures."""
    some = [row for row in rows if row["part"] == part]
    metrics = list(dict.fromkeys(row["metric"] for row in some))
    header = ["Point", "Reads", "Encoder", "Parameters", "History", "Minutes", *(m.replace("_", " ") for m in metrics)]
    lines = []
    for point in dict.fromkeys(row["point"] for row in some):
        of = {row["metric"]: row for row in some if row["point"] == point}
        first = next(iter(of.values()))
        size = [first["view"], f"{first['encoder_parameters']:,}", f"{first['parameters']:,}", f"{first['length']:,}"]
        lines.append([point, *size, f"{first['minutes']:.1f}", *(_cell(of.get(metric)) for metric in metrics)])
    return header, lines


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    interval = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.4f}{interval}"


def _tuned_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """A line per pair of towers and variant."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    lines = []
    for towers, variant in dict.fromkeys((row["towers"], row["variant"]) for row in rows):
        of = {row["metric"]: row for row in rows if (row["towers"], row["variant"]) == (towers, variant)}
        minutes = next(iter(of.values()))["minutes"]
        lines.append([towers, variant, f"{minutes:.1f}", *(_cell(of.get(metric)) for metric in metrics)])
    return ["Towers", "Fine-tuned", "Minutes", *(metric.replace("_", " ") for metric in metrics)], lines


def _html_table(header: list[str], lines: list[list[str]], label: str) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    body = "".join(
        f'<tr class="model"><th scope="row">{html.escape(line[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in line[1:])
        + "</tr>"
        for line in lines
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(label)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
