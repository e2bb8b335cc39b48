"""The pages of a report: `report.md` to read anywhere, and `report.html`, one file that asks the network for nothing.

Models come in one order everywhere: the best NDCG at the first k first, the oracle last.
"""

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upnext.evaluation.plots import Dot, draw_curves, draw_intervals, scale_end
from upnext.evaluation.report import Report

__all__ = ["write_report"]

_ORACLE = "oracle"
_BASELINES = ("popular", "recently_popular")
_METRICS = {"hr": "HR", "ndcg": "NDCG", "mrr": "MRR", "recall": "Recall", "coverage": "Coverage"}
_TREATMENTS = {True: "history removed from the ranking", False: "history kept in the ranking"}
_COSTS = {"parameters": "Parameters", "epochs": "Epochs", "seconds": "Seconds", "events_per_s": "Events/s"}
_NOT_CURVES = ("epoch", "step", "seconds", "events_per_s")
_NOTHING = "–"


def write_report(folder: Path, report: Report) -> None:
    """Write a report as `report.md` and `report.html` into an existing folder.

    The same report gives the same bytes. Figures that are NaN are shown as a dash, and intervals that are missing not
    at all. The best figure of a column is bold (all of those that print alike); the oracle does not compete.
    """
    figures = _Figures(report)
    (folder / "report.md").write_text(_markdown(report, figures), encoding="utf-8")
    (folder / "report.html").write_text(_page(report, figures), encoding="utf-8")


@dataclass(frozen=True)
class _Cell:
    value: str
    interval: str
    is_best: bool


@dataclass(frozen=True)
class _Table:
    heading: str
    note: str
    columns: list[str]
    lines: dict[str, list[_Cell]]


class _Figures:
    """The report's rows by what they measure, and the order of models and of k."""

    def __init__(self, report: Report) -> None:
        self._rows = {(row["model"], row["history_removed"], row["metric"], row["k"]): row for row in report.rows}
        self.ks = list(dict.fromkeys(row["k"] for row in report.rows))
        primary = report.primary_history_removed
        others = [removed for _, removed, _, _ in self._rows if removed != primary]
        self.treatments = list(dict.fromkeys([primary, *others]))
        names = list(dict.fromkeys(row["model"] for row in report.rows))

        def rank(name: str) -> tuple[bool, float]:
            value = self.get(name, primary, "ndcg", self.ks[0])[0]
            return name == _ORACLE, math.inf if math.isnan(value) else -value

        self.models = sorted(names, key=rank)

    def get(self, model: str, removed: bool, metric: str, k: int) -> tuple[float, float | None, float | None]:
        """A value, NaN where there is none, and the ends of its interval, None where there is none."""
        row = self._rows.get((model, removed, metric, k), {})
        value, low, high = (row.get(name) for name in ("value", "low", "high"))
        if value is None or low is None or high is None or math.isnan(low + high):
            low = high = None
        return math.nan if value is None else float(value), low, high

    def dots(self, removed: bool, metric: str, k: int) -> list[Dot]:
        """One metric of every model that has it, ready to draw."""
        found = [(name, *self.get(name, removed, metric, k)) for name in self.models]
        best = max((value for name, value, _, _ in found if name != _ORACLE and not math.isnan(value)), default=None)
        return [
            Dot(name, value, low, high, "oracle" if name == _ORACLE else "best" if value == best else "model")
            for name, value, low, high in found
            if not math.isnan(value)
        ]

    def table(self, removed: bool, k: int) -> _Table:
        """Models by metrics."""
        rows = [row for (_, treatment, _, row_k), row in self._rows.items() if (treatment, row_k) == (removed, k)]
        metrics = [metric for metric in _METRICS if any(row["metric"] == metric for row in rows)]
        columns = [self._column(removed, metric, k) for metric in metrics]
        counts = [f"{row[count]:,} {count}" for row in rows[:1] for count in ("cases", "users") if count in row]
        return _Table(
            f"The first {k}" if k > 1 else "The first place",
            ", ".join([_TREATMENTS[removed], *counts]),
            [f"{_METRICS[metric]}@{k}" for metric in metrics],
            {name: [column[row] for column in columns] for row, name in enumerate(self.models)},
        )

    def _column(self, removed: bool, metric: str, k: int) -> list[_Cell]:
        found = [self.get(name, removed, metric, k) for name in self.models]
        widths = [high - low for _, low, high in found if low is not None and high is not None]
        digits = 3 if min(widths, default=1.0) >= 0.005 else 4  # more where three would hide the width
        values = [_number(value, 4) for value, _, _ in found]
        rivals = [float(text) for name, text in zip(self.models, values, strict=True) if name != _ORACLE != _NOTHING != text]
        cells = []
        for name, text, (_, low, high) in zip(self.models, values, found, strict=True):
            is_best = name != _ORACLE and text != _NOTHING and float(text) == max(rivals)
            cells.append(_Cell(text, "" if low is None else f"[{_number(low, digits)}, {_number(high, digits)}]", is_best))
        return cells


def _summary(report: Report, figures: _Figures) -> str:
    """Say in one sentence who is best, how far above the better popularity baseline, and what the oracle reaches."""
    dots = figures.dots(report.primary_history_removed, "ndcg", figures.ks[0]) if figures.ks else []
    models = [dot for dot in dots if dot.role != "oracle"]
    if not models:
        return "No model was evaluated."
    best = models[0]
    kinds = {name: entry.get("config", {}).get("model", {}).get("kind") for name, entry in report.models.items()}
    baselines = [dot for dot in models if kinds.get(dot.name) in _BASELINES]
    text = f"{best.name} reaches NDCG@{figures.ks[0]} {_short(best.value)}"
    if best.low is not None and best.high is not None:
        text += f" [{_short(best.low)}, {_short(best.high)}]"
    if best in baselines:
        text += ": no model is better than this popularity baseline" if len(models) > len(baselines) else ""
    elif baselines:
        which = "the better popularity baseline" if len(baselines) > 1 else "the popularity baseline"
        text += f", {_times(best.value, baselines[0].value)} {which} ({baselines[0].name} {_short(baselines[0].value)})"
    oracles = [dot for dot in dots if dot.role == "oracle"]
    return text + "".join(f"; the oracle reaches {_short(dot.value)}" for dot in oracles) + "."


def _times(value: float, base: float) -> str:
    if base <= 0:
        return "against"
    ratio = value / base
    return f"{ratio:.{2 if ratio < 1.2 else 1 if ratio < 10 else 0}f} times"


def _short(value: float) -> str:
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.5f}"


def _number(value: float | None, digits: int) -> str:
    return _NOTHING if value is None or math.isnan(value) else f"{value:,.{digits}f}"


def _label(model: str) -> str:
    return "oracle (the simulation's truth)" if model == _ORACLE else model


def _costs(report: Report, figures: _Figures) -> tuple[list[str], dict[str, list[str]]]:
    """What each model took, in the order of the tables; columns that no model fills are left out."""
    names = sorted(report.models, key=lambda name: figures.models.index(name) if name in figures.models else math.inf)
    keys = [key for key in _COSTS if any(report.models[name].get(key) is not None for name in names)]
    lines = {}
    for name in names:
        values = [report.models[name].get(key) for key in keys]
        lines[name] = [_number(value, 1 if key == "seconds" and (value or 0) < 100 else 0) for key, value in zip(keys, values, strict=True)]
    return [_COSTS[key] for key in keys], lines


# --- Markdown --------------------------------------------------------------------------------------------------------


def _markdown(report: Report, figures: _Figures) -> str:
    blocks = [f"# {_plain(report.title)}", _plain(_summary(report, figures))]
    for removed in figures.treatments:
        if removed != report.primary_history_removed:
            blocks.append(f"## The other way: {_TREATMENTS[removed]}")
        for k in figures.ks:
            table = figures.table(removed, k)
            lines = [
                [_plain(_label(name)), *(f"**{c.value}** {c.interval}" if c.is_best else f"{c.value} {c.interval}" for c in cells)]
                for name, cells in table.lines.items()
            ]
            level = "##" if removed == report.primary_history_removed else "###"
            blocks += [f"{level} {table.heading}", f"{table.note}.", _markdown_table(["Model", *table.columns], lines)]
    blocks += ["## Protocol", _markdown_list(report.protocol.items())]
    findings = ((f"{finding['level']}: {finding['check']}", finding["message"]) for finding in report.audit)
    blocks += ["## Audit", _markdown_list(findings)]
    blocks += ["## Log", _markdown_list((name.replace("_", " "), value) for name, value in report.log.items())]
    columns, costs = _costs(report, figures)
    if columns:
        blocks += ["## Cost", _markdown_table(["Model", *columns], [[_plain(name), *line] for name, line in costs.items()])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in [header, rule, *lines])


def _markdown_list(statements: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- **{_plain(name)}**: {_plain(text)}" for name, text in statements)


def _plain(text: str) -> str:
    """Text in which Markdown and HTML find nothing to interpret; an underscore within a word is left alone."""
    text = html.escape(_printable(text), quote=False)
    return re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "�" for letter in text)


# --- HTML ------------------------------------------------------------------------------------------------------------


def _page(report: Report, figures: _Figures) -> str:
    primary = report.primary_history_removed
    warnings = sum(finding["level"] == "warning" for finding in report.audit)
    plural = "s" if warnings > 1 else ""
    parts = [
        '<header><p class="eyebrow">Evaluation report</p>',
        f"<h1>{_text(report.title)}</h1>",
        f'<p class="summary">{_text(_summary(report, figures))}</p>',
        f'<p class="alert"><a href="#audit">The audit has {warnings} warning{plural}</a></p>' if warnings else "",
        _facts(report.log),
        "</header>",
    ]
    for removed in figures.treatments:
        title = "Quality" if removed == primary else "The other way: " + _TREATMENTS[removed]
        tables = [_html_table(figures.table(removed, k)) for k in figures.ks]
        plots = [_interval_plot(figures.dots(removed, "ndcg", k), k) for k in figures.ks] if removed == primary else []
        parts += [f"<section><h2>{title}</h2>", *tables[:1], _grid(plots), *tables[1:], "</section>"]
    curves = [_curve_plots(name, report) for name in figures.models if report.curves.get(name)]
    if any(curves):
        parts += ["<section><h2>Learning curves</h2>", *curves, "</section>"]
    parts += ["<section><h2>Protocol</h2>", _definitions(report.protocol), "</section>"]
    parts += ['<section id="audit"><h2>Audit</h2>', _findings(report.audit), "</section>"]
    parts += [_cost_section(report, figures)]
    return _FRAME.format(title=_text(report.title), style=_STYLE, body="\n".join(part for part in parts if part))


def _text(text: str) -> str:
    return html.escape(_printable(text))


def _facts(facts: dict[str, str]) -> str:
    items = [f"<div><dt>{_text(name.replace('_', ' '))}</dt><dd>{_text(text)}</dd></div>" for name, text in facts.items()]
    return f'<dl class="facts">{"".join(items)}</dl>' if items else ""


def _definitions(statements: dict[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{_text(name)}</dt><dd>{_text(text)}</dd>' for name, text in statements.items())}</dl>"


def _findings(findings: list[dict[str, Any]]) -> str:
    items = [
        f'<dt><span class="level {_text(finding["level"])}">{_text(finding["level"])}</span> {_text(finding["check"])}</dt>'
        f"<dd>{_text(finding['message'])}</dd>"
        for finding in findings
    ]
    return f"<dl>{''.join(items)}</dl>"


def _html_table(table: _Table) -> str:
    lines = []
    for name, cells in table.lines.items():
        figures = [
            f"<td><{'b' if cell.is_best else 'span'}>{cell.value}</{'b' if cell.is_best else 'span'}>"
            + (f" <small>{cell.interval}</small>" if cell.interval else "") + "</td>"
            for cell in cells
        ]
        lines.append((name, "".join(figures)))
    return f"<h3>{_text(table.heading)}</h3>" + _grid_table(table.columns, lines, table.note)


def _grid_table(columns: list[str], lines: Iterable[tuple[str, str]], note: str) -> str:
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in columns)
    body = [
        f'<tr{" class=oracle" if name == _ORACLE else ""}><th scope="row">{_text(_label(name))}</th>{cells}</tr>'
        for name, cells in lines
    ]
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{_text(note)}"><table><caption>{_text(note)}</caption>'
        f'<thead><tr><th scope="col">Model</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _grid(plots: list[str]) -> str:
    return f'<div class="plots">{"".join(plots)}</div>' if any(plots) else ""


def _interval_plot(dots: list[Dot], k: int) -> str:
    if not dots:
        return ""
    dots = [Dot(_printable(dot.name), dot.value, dot.low, dot.high, dot.role) for dot in dots]
    note = "; the arrow lies beyond the scale" if any(dot.value > scale_end(dots) for dot in dots) else ""
    intervals = " with 95 % intervals" if any(dot.low is not None for dot in dots) else ""
    svg = draw_intervals(dots, f"NDCG@{k} of {len(dots)} models")
    return f"<figure><figcaption><b>NDCG@{k}</b>{intervals}{note}</figcaption>{svg}</figure>"


def _curve_plots(name: str, report: Report) -> str:
    """Two plots: the terms of the loss, and the validation metric that decides, its best epoch marked (from 1)."""
    curve = report.curves[name]
    keys = list(dict.fromkeys(key for row in curve for key in row))
    losses = [key for key in keys if key.endswith("_loss")]
    metrics = [key for key in keys if key not in (*losses, *_NOT_CURVES)][:1]
    plots = []
    for chosen, is_metric in ((losses, False), (metrics, True)):
        lines = [[(row["epoch"] + 1, row[key]) for row in curve if math.isfinite(row.get(key, math.nan))] for key in chosen]
        if not any(lines):
            continue
        best = max(lines[0], key=lambda point: point[1])[0] if is_metric and lines[0] else None
        svg = draw_curves(lines, f"{_printable(name)}: {', '.join(chosen)} by epoch", marked_epoch=best)
        what = ", ".join(f"{key} ({style})" for key, style in zip(chosen, ("solid", "dashed", "dotted"))) if len(chosen) > 1 else chosen[0]
        plots.append(f"<figure><figcaption><b>{_text(what)}</b> by epoch</figcaption>{svg}</figure>")
    return f"<h3>{_text(name)}</h3>{_grid(plots)}" if plots else ""
