"""A report as Markdown: every table and every sentence, without plots and example users."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence

from upnext.evaluation.drawing import printable
from upnext.evaluation.report import Report
from upnext.evaluation.tables import (
    TREATMENTS,
    Cell,
    Figures,
    Table,
    costs,
    difference_table,
    feedback_tables,
    next_item_tables,
    popularity_table,
    segment_tables,
    stage_table,
)
from upnext.evaluation.words import summary, verdicts
from upnext.evaluation.worth import importance_tables, uplift_table

__all__ = ["tables_as_markdown", "to_markdown"]


def to_markdown(report: Report, figures: Figures) -> str:
    """Write the whole page."""
    blocks = [f"# {_plain(report.title)}", _plain(summary(report, figures))]
    for removed in figures.treatments:
        is_primary = removed == report.primary_history_removed
        if not is_primary:
            blocks.append(f"## {TREATMENTS[removed]}")
        for k in figures.ks:
            blocks += _table(figures.table(removed, k), "##" if is_primary else "###")
        if is_primary:
            blocks += _more(report, figures)
    blocks += ["## Protocol", _list(report.protocol.items())]
    findings = ((f"{finding['level']}: {finding['check']}", finding["message"]) for finding in report.audit)
    blocks += ["## Audit", _list(findings)]
    blocks += ["## Log", _list((name.replace("_", " "), value) for name, value in report.log.items())]
    cost = costs(report, figures)
    blocks += _table(cost, "##") if cost else []
    blocks += ["## Made with", _list(report.made_with.items())] if report.made_with else []
    return "\n\n".join(block for block in blocks if block) + "\n"


def tables_as_markdown(title: str, facts: Mapping[str, str], tables: Sequence[Table]) -> str:
    """A page of tables alone."""
    blocks = [f"# {_plain(title)}", _list(facts.items()), *(part for table in tables for part in _table(table, "##"))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _more(report: Report, figures: Figures) -> list[str]:
    blocks = []
    difference = difference_table(report)
    if difference:
        blocks += [*_table(difference, "##"), "\n".join(f"- {_plain(text)}" for text in verdicts(report))]
    segments = segment_tables(report, figures)
    if segments:
        blocks.append(f"## Segments, NDCG@{figures.ks[0]}")
        blocks += [block for table in segments for block in _table(table, "###")]
    expected = next_item_tables(report)
    if expected:
        blocks += ["## Next item", *(block for table in expected for block in _table(table, "###"))]
    foreseen = feedback_tables(report)
    if foreseen:
        blocks += ["## Feedback", *(block for table in foreseen for block in _table(table, "###"))]
    uplift = uplift_table(report)
    blocks += ["## Uplift", *_table(uplift, "###")] if uplift else []
    worth = importance_tables(report)
    if worth:
        blocks += ["## Feature importance", *(block for table in worth for block in _table(table, "###"))]
    stages = stage_table(report)
    blocks += ["## Two stages", *_table(stages, "###")] if stages else []
    popularity = popularity_table(report, figures)
    return blocks + (["## Popularity", *_table(popularity, "###")] if popularity else [])


def _table(table: Table, level: str) -> list[str]:
    lines = [[_plain(name), *map(_cell, cells)] for name, cells in table.lines]
    header = [table.first, *map(_plain, table.columns)]
    rule = [":--", *["--:"] * (len(header) - 1)]
    rows = ["| " + " | ".join(cell.strip() for cell in line) + " |" for line in [header, rule, *lines]]
    return [f"{level} {_plain(table.heading)}", f"{_plain(table.note)}." if table.note else "", "\n".join(rows)]


def _cell(cell: Cell) -> str:
    return f"**{cell.value}** {cell.interval}" if cell.is_best else f"{cell.value} {cell.interval}"


def _list(statements: Iterable[tuple[str, str]] | Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- **{_plain(name)}**: {_plain(text)}" for name, text in statements)


def _plain(text: str) -> str:
    """Text in which Markdown and HTML find nothing to interpret; an underscore within a word is left alone."""
    text = html.escape(printable(text), quote=False)
    return re.sub(r"([\\*|]|(?<!\w)_|_(?!\w)|(?<=\])[(\[])", r"\\\1", text)
