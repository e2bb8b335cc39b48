"""The pages of a report: `report.md` to read anywhere, and `report.html`, one file that asks the network for nothing.

Models come in one order everywhere: the best NDCG at the first k first, the oracle last.
"""

import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from upnext.evaluation.plots import COLORS, Dot, curve_figures, interval_figure, printable
from upnext.evaluation.report import Report

__all__ = ["write_report"]

_ORACLE = "oracle"
_BASELINES = ("popular", "recently_popular")
_METRICS = {"hr": "HR", "ndcg": "NDCG", "mrr": "MRR", "recall": "Recall", "coverage": "Coverage"}
_TREATMENTS = {True: "History removed from the ranking", False: "History kept in the ranking"}
_COSTS = {"parameters": "Parameters", "epochs": "Epochs", "seconds": "Seconds", "events_per_s": "Events/s"}
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
            f"Top {k}",
            ", ".join([_TREATMENTS[removed], *counts]),
            [f"{_METRICS[metric]}@{k}" for metric in metrics],
            {name: [column[row] for column in columns] for row, name in enumerate(self.models)},
        )

    def _column(self, removed: bool, metric: str, k: int) -> list[_Cell]:
        found = [self.get(name, removed, metric, k) for name in self.models]
        widths = [high - low for _, low, high in found if low is not None and high is not None]
        digits = 3 if min(widths, default=1.0) >= 0.005 else 4  # more where three would hide the width
        values = [_number(value, 4) for value, _, _ in found]
        rivals = {value for name, value in zip(self.models, values, strict=True) if name != _ORACLE} - {_NOTHING}
        best = max(rivals, key=float, default=None)
        return [
            _Cell(
                value,
                "" if low is None else f"[{_number(low, digits)}, {_number(high, digits)}]",
                name != _ORACLE and value == best,
            )
            for name, value, (_, low, high) in zip(self.models, values, found, strict=True)
        ]


def _summary(report: Report, figures: _Figures) -> str:
    """Say in one sentence who is best, how far above the better popularity baseline, and what the oracle reaches."""
    dots = figures.dots(report.primary_history_removed, "ndcg", figures.ks[0]) if figures.ks else []
    models = [dot for dot in dots if dot.role != "oracle"]
    if not models:
        return "Nothing was evaluated."
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

    def shown(name: str, key: str) -> str:
        value = report.models[name].get(key)
        return _number(value, 1 if key == "seconds" and (value or 0) < 100 else 0)

    return [_COSTS[key] for key in keys], {name: [shown(name, key) for key in keys] for name in names}


# --- Markdown --------------------------------------------------------------------------------------------------------


def _markdown(report: Report, figures: _Figures) -> str:
    blocks = [f"# {_plain(report.title)}", _plain(_summary(report, figures))]
    for removed in figures.treatments:
        if removed != report.primary_history_removed:
            blocks.append(f"## {_TREATMENTS[removed]}")
        for k in figures.ks:
            table = figures.table(removed, k)
            lines = [[_plain(_label(name)), *map(_markdown_cell, cells)] for name, cells in table.lines.items()]
            level = "##" if removed == report.primary_history_removed else "###"
            blocks += [f"{level} {table.heading}", f"{table.note}.", _markdown_table(["Model", *table.columns], lines)]
    blocks += ["## Protocol", _markdown_list(report.protocol.items())]
    findings = ((f"{finding['level']}: {finding['check']}", finding["message"]) for finding in report.audit)
    blocks += ["## Audit", _markdown_list(findings)]
    blocks += ["## Log", _markdown_list((name.replace("_", " "), value) for name, value in report.log.items())]
    columns, costs = _costs(report, figures)
    if columns:
        lines = [[_plain(name), *line] for name, line in costs.items()]
        blocks += ["## Cost", _markdown_table(["Model", *columns], lines)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _markdown_cell(cell: _Cell) -> str:
    return f"**{cell.value}** {cell.interval}" if cell.is_best else f"{cell.value} {cell.interval}"


def _markdown_table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cell.strip() for cell in line) + " |" for line in [header, rule, *lines])


def _markdown_list(statements: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- **{_plain(name)}**: {_plain(text)}" for name, text in statements)


def _plain(text: str) -> str:
    """Text in which Markdown and HTML find nothing to interpret; an underscore within a word is left alone."""
    text = html.escape(printable(text), quote=False)
    return re.sub(r"([\\*|]|(?<!\w)_|_(?!\w)|(?<=\])[(\[])", r"\\\1", text)


# --- HTML ------------------------------------------------------------------------------------------------------------


def _page(report: Report, figures: _Figures) -> str:
    num_warnings = sum(finding["level"] == "warning" for finding in report.audit)
    alert = f"The audit has {num_warnings} warning{'s' if num_warnings > 1 else ''}"
    summary = re.sub(r"(\[[\d.]+,) ", r"\1&nbsp;", _text(_summary(report, figures)))
    parts = [
        '<header><p class="eyebrow">Evaluation report</p>',
        f"<h1>{_text(report.title)}</h1>",
        f'<p class="summary">{summary}</p>',
        f'<p><a class="level warning" href="#audit">{alert}</a></p>' if num_warnings else "",
        '<dl class="facts">',
        *(f"<div><dt>{_text(n.replace('_', ' '))}</dt><dd>{_text(fact)}</dd></div>" for n, fact in report.log.items()),
        "</dl></header>",
    ]
    for removed in figures.treatments if figures.ks else []:
        tables = [_quality_table(figures.table(removed, k)) for k in figures.ks]
        if removed == report.primary_history_removed:
            plots = [interval_figure(figures.dots(removed, "ndcg", k), f"NDCG@{k}") for k in figures.ks]
            parts.append(_section("Quality", *tables[:1], _side_by_side(plots), *tables[1:]))
        else:
            parts.append(_section(_TREATMENTS[removed], *tables))
    drawn = {name: curve_figures(name, report.curves[name]) for name in figures.models if name in report.curves}
    curves = [f"<h3>{_text(name)}</h3>{_side_by_side(found)}" for name, found in drawn.items() if found]
    note = '<p class="note">The dot marks the epoch whose weights were kept.</p>'
    parts.append(_section("Learning curves", note, *curves) if curves else "")
    parts.append(_section("Protocol", _definitions((_text(n), text) for n, text in report.protocol.items())))
    findings = (
        (f"{_level(finding['level'])}{_text(finding['check'])}", finding["message"]) for finding in report.audit
    )
    parts.append(_section("Audit", _definitions(findings)))
    parts.append(_section("Cost", *_cost_parts(report, figures)) if report.models else "")
    body = "\n".join(part for part in parts if part)
    return _FRAME.format(title=_text(report.title), style=COLORS + _STYLE, body=body)


def _text(text: str) -> str:
    return html.escape(printable(text))


def _section(heading: str, *parts: str) -> str:
    name = heading.lower().replace(" ", "-")
    return "\n".join([f'<section id="{name}"><h2>{_text(heading)}</h2>', *filter(None, parts), "</section>"])


def _definitions(statements: Iterable[tuple[str, str]]) -> str:
    """A list of terms, which are HTML, and what they mean, which is text."""
    items = ((term, re.sub("`([^`]+)`", r"<code>\1</code>", _text(text))) for term, text in statements)
    return f'<dl class="terms">{"".join(f"<div><dt>{term}</dt><dd>{text}</dd></div>" for term, text in items)}</dl>'


def _level(level: str) -> str:
    return f'<span class="level {_text(level)}">{_text(level)}</span>'


def _quality_table(table: _Table) -> str:
    def shown(cell: _Cell) -> str:
        tag = "b" if cell.is_best else "span"
        return f"<{tag}>{cell.value}</{tag}>" + (f" <small>{cell.interval}</small>" if cell.interval else "")

    lines = {name: [shown(cell) for cell in cells] for name, cells in table.lines.items()}
    return f"<h3>{_text(table.heading)}</h3>" + _html_table(table.columns, lines, table.note)


def _html_table(columns: list[str], lines: dict[str, list[str]], note: str) -> str:
    """A table in a frame of its own, which scrolls where the page is narrow; cells are HTML."""
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in columns)
    body = [
        f'<tr class="{"oracle" if name == _ORACLE else "model"}"><th scope="row">{_text(_label(name))}</th>'
        f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in lines.items()
    ]
    return (
        f'<p class="note">{_text(note)}</p><div class="wide" tabindex="0" role="region" aria-label="{_text(note)}">'
        f'<table><thead><tr><th scope="col">Model</th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _side_by_side(plots: list[str]) -> str:
    return f'<div class="plots">{"".join(plots)}</div>' if any(plots) else ""


def _cost_parts(report: Report, figures: _Figures) -> list[str]:
    columns, costs = _costs(report, figures)
    note = "What training took; models that are counted have no such figures"
    parts = [_html_table(columns, costs, note)] if columns else []
    for name in costs:
        if "config" in report.models[name]:
            config = json.dumps(report.models[name]["config"], indent=2, ensure_ascii=False)
            parts.append(
                f"<details><summary>Configuration of {_text(name)}</summary><pre>{html.escape(config)}</pre></details>"
            )
    return parts


_FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}: evaluation</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """\
:root { font: 400 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
*, *::before, *::after { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); -webkit-text-size-adjust: 100%; }
main { max-width: 62rem; margin: 0 auto; padding: clamp(1.5rem, 5vw, 4rem) clamp(1rem, 4vw, 2.5rem); }
h1, h2, h3, p, dl, dd, figure { margin: 0; }
h1 { font-size: clamp(1.9rem, 5vw, 2.6rem); line-height: 1.15; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; letter-spacing: -0.01em; line-height: 1.3; }
h3 { margin-top: 2rem; font-size: 1rem; overflow-wrap: anywhere; }
section { margin-top: 3.5rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
b { font-weight: 650; }
.eyebrow, .note, figcaption, thead th, .facts dt { color: var(--soft); font-size: 0.875rem; }
.summary { margin: 1rem 0; max-width: 44rem; font-size: clamp(1.1rem, 2.6vw, 1.3rem); text-wrap: pretty; }
.facts { display: flex; flex-wrap: wrap; gap: 1rem 2.75rem; margin-top: 1.75rem; }
.facts dd { font-size: 1.3rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.wide { margin-top: 0.5rem; overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.6rem 0 0.6rem 1.25rem; text-align: right; vertical-align: top; }
th { font-weight: 400; }
th:first-child { min-width: 8.5rem; overflow-wrap: anywhere; }
th:first-child { position: sticky; left: 0; padding-left: 0; background: var(--ground); text-align: left; }
td, thead th { white-space: nowrap; }
td b { color: var(--accent); }
td small { display: block; color: var(--soft); font-size: 0.75rem; line-height: 1.3; }
tbody tr { border-top: 1px solid var(--line); }
tbody .oracle { border-top: 2px solid var(--soft); color: var(--soft); }
.plots { display: grid; gap: 1.5rem 3rem; margin-top: 1rem; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.plots figure { min-width: 0; }
.plots svg { display: block; width: 100%; max-width: 34rem; margin-top: 0.5rem; overflow: visible; }
h3 + .plots { margin-top: 0.25rem; }
svg text { font-family: inherit !important; font-variant-numeric: tabular-nums; }
.terms { margin-top: 0.75rem; }
.terms > div { display: grid; grid-template-columns: 18rem 1fr; gap: 0 1.5rem; padding: 0.6rem 0; }
.terms > div + div { border-top: 1px solid var(--line); }
.terms dt { display: flex; gap: 0.6rem; align-items: baseline; color: var(--soft); }
.level { display: inline-block; min-width: 4.5rem; flex: none; padding: 0 0.5rem; border-radius: 0.35rem; }
.level { background: var(--wash); color: var(--ink); font-size: 0.8125rem; text-align: center; }
.level.ok { background: var(--ok-wash); color: var(--ok); }
.level.warning { background: var(--warning-wash); color: var(--warning); }
details { margin-top: 0.75rem; }
summary { cursor: pointer; color: var(--soft); }
pre { margin: 0.5rem 0 0; padding: 1rem; overflow-x: auto; border-radius: 0.5rem; background: var(--wash); }
pre, code { font: 0.8125rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
@media (max-width: 40rem) {
  .terms > div { grid-template-columns: 1fr; gap: 0.15rem; }
  th, td { padding-left: 0.9rem; }
}
@media print { figure, tr, .terms > div { break-inside: avoid; } }
"""
