"""A report as one page of HTML that asks the network for nothing. What is empty has no section."""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from upnext.evaluation.drawing import COLORS, printable
from upnext.evaluation.examples import Example
from upnext.evaluation.insights import ORACLE
from upnext.evaluation.plots import (
    Dot,
    calibration_figure,
    curve_figures,
    interval_figure,
    popularity_figure,
    segment_figure,
)
from upnext.evaluation.report import Report
from upnext.evaluation.style import FRAME, STYLE
from upnext.evaluation.tables import (
    TREATMENTS,
    Cell,
    Figures,
    Table,
    costs,
    difference_table,
    feedback_tables,
    label,
    next_item_tables,
    popularity_table,
    segment_tables,
    stage_table,
)
from upnext.evaluation.words import popularity_of, summary, verdicts
from upnext.evaluation.worth import importance_tables, uplift_table

__all__ = ["tables_page", "to_html"]

_DRAWN_MODELS, _DRAWN_DIMENSIONS = 6, 12
"""So many models, the best ones, and so many dimensions get a plot of their own; the tables hold all."""


def to_html(report: Report, figures: Figures) -> str:
    """Write the whole page."""
    sections = {heading: [part for part in parts if part] for heading, parts in _sections(report, figures)}
    sections = {heading: parts for heading, parts in sections.items() if parts}
    links = "".join(f'<li><a href="#{_id(heading)}">{_text(heading)}</a></li>' for heading in sections)
    body = [
        _header(report, figures),
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if links else "",
        *(_section(heading, parts) for heading, parts in sections.items()),
    ]
    return FRAME.format(title=_text(report.title), style=COLORS + STYLE, body="\n".join(body))


def tables_page(title: str, facts: Mapping[str, str], tables: Sequence[Table]) -> str:
    """A page of tables alone."""
    body = [
        f"<header><h1>{_text(title)}</h1>",
        _definitions((_text(n), text) for n, text in facts.items()),
        "</header>",
    ]
    body += [_section(table.heading, [_table(table)]) for table in tables]
    return FRAME.format(title=_text(title), style=COLORS + STYLE, body="\n".join(body))


def _header(report: Report, figures: Figures) -> str:
    num_warnings = sum(finding["level"] == "warning" for finding in report.audit)
    alert = f"The audit has {num_warnings} warning{'s' if num_warnings > 1 else ''}"
    text = re.sub(r"(\[[-+\d.]+,) ", r"\1&nbsp;", _text(summary(report, figures)))
    parts = [
        '<header><p class="eyebrow">Evaluation report</p>',
        f"<h1>{_text(report.title)}</h1>",
        f'<p class="summary">{text}</p>',
        f'<p><a class="level warning" href="#audit">{alert}</a></p>' if num_warnings else "",
        '<dl class="facts">',
        *(f"<div><dt>{_text(n.replace('_', ' '))}</dt><dd>{_text(fact)}</dd></div>" for n, fact in report.log.items()),
        "</dl></header>",
    ]
    return "\n".join(part for part in parts if part)


def _sections(report: Report, figures: Figures) -> Iterable[tuple[str, list[str]]]:
    """Headings and parts in reading order; empty parts are left out later."""
    primary = report.primary_history_removed
    tables = {removed: [_table(figures.table(removed, k)) for k in figures.ks] for removed in figures.treatments}
    if figures.ks:
        plots = [interval_figure(figures.dots(primary, "ndcg", k), f"NDCG@{k}") for k in figures.ks]
        yield "Quality", [*tables[primary][:1], _side_by_side(plots), *tables[primary][1:]]
    yield "Against the baseline", _against_the_baseline(report)
    yield "Segments", _segments(report, figures)
    yield "Next item", [_table(table) for table in next_item_tables(report)]
    yield "Feedback", [_table(table) for table in feedback_tables(report)]
    uplift = uplift_table(report)
    yield "Uplift", [_table(uplift)] if uplift else []
    yield "Feature importance", [_table(table) for table in importance_tables(report)]
    yield "Calibration", _calibration(report)
    stages = stage_table(report)
    yield "Two stages", [_table(stages)] if stages else []
    yield "Popularity", _popularity(report, figures)
    yield "Example users", _examples(report.insights.examples)
    yield "Learning curves", _curves(report, figures)
    yield "Protocol", [_definitions((_text(n), text) for n, text in report.protocol.items())]
    findings = (
        (f"{_level(finding['level'])}{_text(finding['check'])}", finding["message"]) for finding in report.audit
    )
    yield "Audit", [_definitions(findings)]
    for removed in figures.treatments if figures.ks else []:
        if removed != primary:
            yield TREATMENTS[removed], tables[removed]
    yield "Cost and configuration", _costs_and_configuration(report, figures)


def _against_the_baseline(report: Report) -> list[str]:
    table = difference_table(report)
    if table is None:
        return []
    note = "A difference is called clear where its 95 % interval leaves out 0, each comparison by itself."
    sentences = "".join(f"<li>{_text(sentence)}</li>" for sentence in verdicts(report))
    return [f'<p class="note">{note}</p><ul class="spread">{sentences}</ul>' if sentences else "", _table(table)]


def _segments(report: Report, figures: Figures) -> list[str]:
    tables = segment_tables(report, figures)
    if not tables:
        return []
    k, shown = figures.ks[0], figures.shown
    rows = {
        (row["dimension"], row["segment"], row["model"]): row
        for row in report.insights.segments
        if row["metric"] == "ndcg" and row["value"] is not None
    }
    plots = []
    for table in tables[:_DRAWN_DIMENSIONS]:
        dots = {
            segment: [
                Dot(name, row["value"], row["low"], row["high"], "best" if name == shown[0] else "model")
                for name in shown
                if (row := rows.get((table.heading, segment, name))) is not None
            ]
            for segment, _ in table.lines
        }
        plots.append(segment_figure(table.heading, dots, f"NDCG@{k}"))
    second = f"; hollow, below: {shown[1]}" if len(shown) > 1 else ""
    legend = f"NDCG@{k} with 95 % intervals. Filled: {shown[0]}{second}."
    compact = (_table(table, "wide compact") for table in tables)
    return [f'<p class="note">{_text(legend)}</p>', _side_by_side(plots), *compact]


def _calibration(report: Report) -> list[str]:
    curves: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in report.calibration:
        curves.setdefault(row["feedback"], {}).setdefault(row["model"], []).append(row)
    errors = {
        (row["feedback"], row["model"]): row["value"] for row in report.feedback if row["metric"] == "calibration_error"
    }
    parts = []
    for feedback, models in curves.items():
        told_apart = [name for name, bins in models.items() if len(bins) > 1][:_DRAWN_MODELS]
        plots = [calibration_figure(name, models[name], errors[feedback, name]) for name in told_apart]
        parts += [f"<h3>{_text(feedback)}</h3>", _side_by_side(plots)] if plots else []
    note = (
        "Across: what was predicted, in up to fifteen bins of equally many events. Up: the mean of what came, with 95 %"
        " intervals over users. On the dashed line they agree; the calibration error is the mean distance from it."
    )
    return [f'<p class="note">{note}</p>', *parts] if parts else []


def _popularity(report: Report, figures: Figures) -> list[str]:
    table = popularity_table(report, figures)
    if table is None:
        return []
    shares = {row["model"]: row["shares"] for row in report.insights.popularity if None not in row["shares"]}
    best = [name for name in figures.models if name != ORACLE][:1]
    plots = [
        popularity_figure(name, shares[None], shares[name], is_best=[name] == best)
        for name in [name for name in figures.models if name in shares and name != ORACLE][:_DRAWN_MODELS]
        if None in shares
    ]
    note = (
        "The catalogue in ten parts of equal size, the most popular in training first. Bars: what people chose."
        " Line: what the model recommends."
    )
    sentences = (f"<li>{_text(text)}</li>" for name in figures.shown if (text := popularity_of(report, name)))
    spread = f'<ul class="spread">{"".join(sentences)}</ul>'
    return [spread, f'<p class="note">{note}</p>', _side_by_side(plots), _table(table)]


def _examples(examples: list[Example]) -> list[str]:
    if not examples:
        return []
    note = (
        "Drawn with a fixed seed, not picked: cases are shuffled once, and the first that fits each description is"
        " shown, each user once. Marked in the lists: what was chosen."
    )
    return [f'<p class="note">{note}</p>', *map(_example, examples)]


def _example(example: Example) -> str:
    context = [f"{name} {value}" for name, value in example.context.items()]
    about = ", ".join([f"User {example.user}", *filter(None, [example.when]), *context])
    before = f"{example.num_before:,} event{'' if example.num_before == 1 else 's'} before"
    before += f"; the last {len(example.history)}, latest last" if len(example.history) > 1 else ""
    history = f"<ul>{''.join(_item(title, False) for title in example.history)}</ul>" if example.history else ""
    columns = f"<div><h4>{_text(before)}</h4>{history}</div>" + "".join(
        f"<div><h4>{_text(name)} recommends</h4>"
        f"<ol>{''.join(_item(title, is_hit) for title, is_hit in titles)}</ol></div>"
        for name, titles in example.lists.items()
    )
    chosen = "".join(f"<p>{_text(title)} {_ranks(ranks)}</p>" for title, ranks in example.chosen)
    if example.num_chosen > len(example.chosen):
        chosen += f'<p class="note">and {example.num_chosen - len(example.chosen):,} more</p>'
    return (
        f'<article class="example"><h3>{_text(example.why)}</h3><p class="note">{_text(about)}</p>'
        f'<div class="lists">{columns}</div><div class="chosen"><h4>Then chose</h4>{chosen}</div></article>'
    )


def _item(title: str, is_hit: bool) -> str:
    return f'<li class="hit">{_text(title)}&nbsp;✓</li>' if is_hit else f"<li>{_text(title)}</li>"


def _ranks(ranks: dict[str, float | None]) -> str:
    said = (f"{name}: {'not ranked' if rank is None else f'rank {rank:,g}'}" for name, rank in ranks.items())
    return f'<span class="note">({_text("; ".join(said))})</span>'


def _curves(report: Report, figures: Figures) -> list[str]:
    drawn = {name: curve_figures(name, report.curves[name]) for name in figures.models if name in report.curves}
    curves = [f"<h3>{_text(name)}</h3>{_side_by_side(found)}" for name, found in drawn.items() if found]
    note = (
        "The loss on the training part, and the metric on validation cases that decides when to stop."
        " The dot marks the epoch whose weights were kept."
    )
    return [f'<p class="note">{note}</p>', *curves] if curves else []


def _costs_and_configuration(report: Report, figures: Figures) -> list[str]:
    table = costs(report, figures)
    parts = [_table(table)] if table else []
    settings = {name: entry["config"] for name, entry in report.models.items() if "config" in entry}
    for name, config in (report.settings | settings).items():
        shown = json.dumps(config, indent=2, ensure_ascii=False)
        parts.append(
            f"<details><summary>Configuration of {_text(name)}</summary><pre>{html.escape(shown)}</pre></details>"
        )
    versions = ", ".join(f"{name} {version}" for name, version in report.made_with.items())
    return [*parts, f'<p class="note">Made with {_text(versions)}.</p>' if versions else ""]


def _text(text: str) -> str:
    return html.escape(printable(text))


def _id(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _section(heading: str, parts: list[str]) -> str:
    return "\n".join([f'<section id="{_id(heading)}"><h2>{_text(heading)}</h2>', *parts, "</section>"])


def _definitions(statements: Iterable[tuple[str, str]]) -> str:
    """A list of terms, which are HTML, and what they mean, which is text."""
    items = [(term, re.sub("`([^`]+)`", r"<code>\1</code>", _text(text))) for term, text in statements]
    if not items:
        return ""
    return f'<dl class="terms">{"".join(f"<div><dt>{term}</dt><dd>{text}</dd></div>" for term, text in items)}</dl>'


def _level(level: str) -> str:
    return f'<span class="level {_text(level)}">{_text(level)}</span>'


def _table(table: Table, style: str = "wide") -> str:
    """A table in a frame of its own, which scrolls where the page is narrow."""
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in table.columns)
    body = "".join(
        f'<tr class="{"oracle" if name == label(ORACLE) else "model"}"><th scope="row">{_text(name)}</th>'
        f"{''.join(f'<td>{_cell(cell)}</td>' for cell in cells)}</tr>"
        for name, cells in table.lines
    )
    note, described = _text(table.note), _text(table.note or table.heading)
    return (
        f'<h3>{_text(table.heading)}</h3><p class="note">{note}</p>'
        f'<div class="{style}" tabindex="0" role="region" aria-label="{described}"><table><thead><tr>'
        f'<th scope="col">{_text(table.first)}</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(cell: Cell) -> str:
    tag = "b" if cell.is_best else "span"
    return f"<{tag}>{cell.value}</{tag}>" + (f" <small>{cell.interval}</small>" if cell.interval else "")


def _side_by_side(plots: list[str]) -> str:
    return f'<div class="plots">{"".join(plots)}</div>' if any(plots) else ""
