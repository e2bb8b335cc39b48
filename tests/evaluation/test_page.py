"""The page of a report: its sections, what is said in words, what is escaped, and how large it may become."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.test_render import Page, figures, pages, plots, report
from upnext.evaluation.examples import Example
from upnext.evaluation.insights import Insights
from upnext.evaluation.report import Report, versions, write_figures

EVIL = "<script>alert('a')</script> & \"b\""


def segment(dimension: str, name: str, model: str, value: float | None, users: int = 40) -> dict[str, Any]:
    ends = (None, None) if value is None else (value - 0.01, value + 0.01)
    row = {"dimension": dimension, "segment": name, "model": model, "metric": "ndcg", "k": 10, "value": value}
    return row | {"low": ends[0], "high": ends[1], "cases": 1234, "users": users}


def difference(model: str, value: float, half: float) -> dict[str, Any]:
    key = {"model": model, "baseline": "popular", "metric": "ndcg", "k": 10}
    return key | {"value": value, "low": value - half, "high": value + half}


def example(**changes: Any) -> Example:
    some: dict[str, Any] = {
        "why": "A hit: sasrec has what was chosen among its first 5",
        "user": "u7",
        "when": "2025-02-01 10:57 UTC",
        "context": {"surface": "home"},
        "num_before": 9,
        "history": ["Old", "New"],
        "num_chosen": 7,
        "chosen": [("Film", {"sasrec": 2.0, "popular": 8.5}), ("Other", {"sasrec": 1234.0, "popular": None})],
        "lists": {"sasrec": [("First", False), ("Film", True)], "popular": [("First", False)]},
    }
    return Example(**(some | changes))


def popularity(model: str | None, first: float) -> dict[str, Any]:
    shares = [first, *[(1 - first) / 9] * 9]
    return {"model": model, "k": 10, "shares": shares, "gini": 0.5, "coverage": 0.25, "popularity_rank": 17.0}


def whole(**changes: Any) -> Report:
    some: dict[str, Any] = {
        "differences": [difference("sasrec", 0.07, 0.01), difference("recently_popular", -0.01, 0.02)],
        "segments": [
            segment("History", name, model, value, users)
            for name, value, users in (("cold: 0 to 4", 0.2, 40), ("heavy: 9 or more", 0.1, 40), ("long: 5", None, 3))
            for model in ("popular", "sasrec", "oracle")
        ],
        "segment_notes": {"History": "Events before the request"},
        "popularity": [popularity(None, 0.4), popularity("popular", 1.0), popularity("sasrec", 0.6)],
        "examples": [example()],
    }
    return report(
        insights=Insights(**(some | changes)), settings={"prepare": {"view": "watched"}}, made_with={"Upnext": "9.9"}
    )


def section(page: str, name: str) -> str:
    return page.split(f'<section id="{name}">')[1].split("</section>")[0]


def text_of(source: str) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", source).replace("&nbsp;", " "))


def test_the_contents_lead_to_every_section_and_to_nothing_else(tmp_path: Path) -> None:
    _, page = pages(tmp_path, whole())
    links = re.findall(r'<li><a href="#([^"]+)">', page)
    assert links == re.findall(r'<section id="([^"]+)">', page)
    assert links[:5] == ["quality", "against-the-baseline", "segments", "popularity", "example-users"]
    Page(page)


def test_what_is_empty_has_no_section(tmp_path: Path) -> None:
    for page in pages(tmp_path, report()):
        for heading in (
            "Against the baseline",
            "Difference to",
            "Segments",
            "Popularity",
            "Example users",
            "Made with",
        ):
            assert heading not in page
    bare = report(rows=[], curves={}, models={}, audit=[], protocol={})
    _, page = pages(tmp_path, bare)
    assert "<section" not in page
    assert "<li>" not in page


def test_the_summary_says_whether_it_is_clear_and_for_whom(tmp_path: Path) -> None:
    markdown, page = pages(tmp_path, whole())
    said = (
        "The difference, 0.070 [0.060, 0.080], is clear. By length of history it is highest for cold: 0 to 4 events"
        " (0.200) and lowest for heavy: 9 or more (0.100)."
    )
    assert said in markdown.splitlines()[2]
    assert said in text_of(page.split('class="summary">')[1].split("</p>")[0])
    unclear = whole(differences=[difference("sasrec", 0.07, 0.08)], segments=[])
    assert pages(tmp_path, unclear)[0].splitlines()[2].endswith("The difference, 0.070 [-0.010, 0.150], is not clear.")


def test_differences_are_called_clear_where_the_interval_leaves_out_zero(tmp_path: Path) -> None:
    rows = [difference("a", 0.02, 0.01), difference("b", -0.02, 0.01), difference("c", 0.01, 0.01)]
    for page in pages(tmp_path, whole(differences=rows)):
        assert "a is clearly better than popular: NDCG@10 +0.0200 [+0.0100, +0.0300]." in page
        assert "b is clearly worse than popular: NDCG@10 −0.0200 [−0.0300, −0.0100]." in page
        assert "c is not clearly different from popular" in page
    table = section(pages(tmp_path, whole())[1], "against-the-baseline")
    assert "Difference to popular" in table
    assert "−0.0100 [−0.0300, +0.0100]" in text_of(table)


def test_segments_are_a_table_and_a_plot_and_small_ones_say_so(tmp_path: Path) -> None:
    markdown, page = pages(tmp_path, whole())
    part = section(page, "segments")
    assert "cold: 0 to 4 1,234 40 0.2000 [0.190, 0.210] 0.2000 [0.190, 0.210] 0.2000" in text_of(part)
    assert text_of(part).count("too few users") == 3 + 1  # a cell per model, and the plot
    assert "Events before the request" in part
    assert "Filled: sasrec; hollow, below: popular." in part
    assert "| long: 5 | 1,234 | 3 | too few users | too few users | too few users |" in markdown
    nothing = whole(segments=[segment("History", name, "sasrec", None, 3) for name in ("cold", "heavy")])
    assert plots(section(pages(tmp_path, nothing)[1], "segments")) == []


def test_nobody_is_best_at_nothing(tmp_path: Path) -> None:
    rows = [segment("Chosen item", "new: 0", model, 0.0) for model in ("popular", "sasrec")]
    rows += [segment("Chosen item", "head: 9", model, value) for model, value in (("popular", 0.1), ("sasrec", 0.0))]
    part = section(pages(tmp_path, whole(segments=rows))[1], "segments")
    assert Page(part).bold == ["0.1000"]


def test_popularity_is_told_in_words_a_plot_and_a_table(tmp_path: Path) -> None:
    markdown, page = pages(tmp_path, whole())
    part = section(page, "popularity")
    assert "60% of what sasrec recommends is from the most popular tenth of the catalogue; of what" in text_of(part)
    assert len(plots(part)) == 2
    assert "what people chose 40.0% 17 0.500 25.0%" in text_of(part)
    assert "| sasrec | 60.0% | 17 | 0.500 | 25.0% |" in markdown
    unknown = popularity("sasrec", 0.5) | {"shares": [None] * 10, "popularity_rank": None, "gini": None}
    part = section(pages(tmp_path, whole(popularity=[popularity(None, 0.4), unknown]))[1], "popularity")
    assert plots(part) == []
    assert "sasrec – – – 25.0%" in text_of(part)


def test_examples_show_history_lists_marked_hits_and_ranks(tmp_path: Path) -> None:
    part = section(pages(tmp_path, whole())[1], "example-users")
    assert "User u7, 2025-02-01 10:57 UTC, surface home" in part
    assert "9 events before; the last 2, latest last Old New" in text_of(part)
    assert re.findall(r'<li class="hit">([^<]+)</li>', part) == ["Film&nbsp;✓"]
    said = text_of(part)
    assert "Film (sasrec: rank 2; popular: rank 8.5)" in said
    assert "Other (sasrec: rank 1,234; popular: not ranked)" in said
    assert "and 5 more" in said
    assert "Drawn with a fixed seed, not picked" in said
    new = whole(examples=[example(num_before=0, history=[], when="", context={}, num_chosen=2)])
    said = text_of(section(pages(tmp_path, new)[1], "example-users"))
    assert "User u7 0 events before sasrec recommends" in said
    assert "more" not in said


def test_titles_contexts_and_segments_are_text(tmp_path: Path) -> None:
    evil = example(
        why=EVIL,
        user=EVIL,
        context={EVIL: EVIL},
        history=[EVIL],
        chosen=[(EVIL, {EVIL: 1.0})],
        lists={EVIL: [(EVIL, True)]},
    )
    rows = [segment(EVIL, name, "sasrec", 0.1) for name in (EVIL, "b")]
    found = whole(examples=[evil], segments=rows, segment_notes={EVIL: EVIL})
    found = replace(found, settings={EVIL: {EVIL: EVIL}}, made_with={EVIL: EVIL})
    markdown, page = pages(tmp_path, found)
    assert "script" not in Page(page).tags
    assert "<script" not in markdown
    assert page.count("&lt;script&gt;") >= 14


def test_versions_seeds_and_configurations_are_told(tmp_path: Path) -> None:
    models = report().models
    models["sasrec"]["config"]["training"] = models["popular"]["config"]["training"] = {"seed": 41}
    markdown, page = pages(tmp_path, replace(whole(), models=models))
    part = section(page, "cost-and-configuration")
    assert "Made with Upnext 9.9." in part
    assert "Configuration of prepare" in part
    assert text_of(part).count(" 41 ") == 1 + 2  # the table has the trained model's alone, the configurations both
    assert "- **Upnext**: 9.9" in markdown
    assert set(versions()) == {"Upnext", "Python", "NumPy", "PyTorch"}


def test_every_figure_is_written_as_json(tmp_path: Path) -> None:
    found = whole()
    write_figures(tmp_path, found)
    for name, rows in (
        ("metrics", found.rows),
        ("differences", found.insights.differences),
        ("segments", found.insights.segments),
        ("popularity", found.insights.popularity),
    ):
        assert json.loads((tmp_path / f"{name}.json").read_text()) == rows


@pytest.mark.parametrize("num_models", [8])
def test_a_large_report_stays_below_a_megabyte_and_a_half(tmp_path: Path, num_models: int) -> None:
    names = [f"model-{number:02}" for number in range(num_models)]
    rows = [row for k in (10, 50) for name in names for row in figures(name, 0.1, k=k)]
    found = whole(
        segments=[
            segment(f"Context {dimension}", f"value {value}", name, 0.1)
            for dimension in range(14)
            for value in range(8)
            for name in names
        ],
        popularity=[popularity(None, 0.4), *[popularity(name, 0.5) for name in names]],
        examples=[example(history=["x" * 80] * 5)] * 6,
    )
    curves = {name: report().curves["sasrec"] for name in names}
    found = replace(found, rows=rows, curves=curves, models=dict.fromkeys(names, report().models["sasrec"]))
    _, page = pages(tmp_path, found)
    assert len(page.encode()) < 1_500_000
    assert len(plots(section(page, "segments"))) == 12
    assert len(plots(section(page, "popularity"))) == 6
