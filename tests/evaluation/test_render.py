"""The report's pages: who is bold, what is escaped, what is said, and that they are whole and the same each time."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from upnext.evaluation.render import write_report
from upnext.evaluation.report import Report

VOID = {"meta", "link", "br"}


def figures(model: str, ndcg: float, *, removed: bool = False, k: int = 10, half: float | None = 0.0036) -> list[dict]:
    """Make one model's rows: HR is twice NDCG, and coverage has no interval."""
    key = {"model": model, "history_removed": removed, "k": k, "cases": 1300, "users": 700}
    rows = [{"metric": "coverage", "value": 0.5, "low": None, "high": None}]
    for metric, value in (("ndcg", ndcg), ("hr", 2 * ndcg)):
        ends = (None, None) if half is None else (value - half, value + half)
        rows.append({"metric": metric, "value": value, "low": ends[0], "high": ends[1]})
    return [key | row for row in rows]


def report(**changes: Any) -> Report:
    """Make a report of four models, two k and both treatments of the history."""
    ndcg = {"popular": 0.05, "recently_popular": 0.04, "sasrec": 0.1234, "oracle": 0.4}
    some: dict[str, Any] = {
        "title": "Evenings",
        "primary_history_removed": False,
        "rows": [
            row
            for removed in (False, True)
            for k in (10, 50)
            for name, value in ndcg.items()
            for row in figures(name, value - 0.01 * removed + k / 1000 - 0.01, removed=removed, k=k)
        ],
        "protocol": {"split": "global time: test 24 h", "request-safe": "on"},
        "log": {"events": "12,345", "trained_items": "678"},
        "audit": [
            {"check": "parts", "level": "ok", "count": 3, "message": "3 train"},
            {"check": "siblings", "level": "warning", "count": 1, "message": "is `request` really one page view?"},
        ],
        "curves": {
            "sasrec": [{"epoch": e, "step": 9 * e, "item_loss": 5.0 - e, "ndcg@10": 0.1 + e / 100} for e in range(4)]
        },
        "models": {
            "popular": {"config": {"model": {"kind": "popular"}}},
            "recently_popular": {"config": {"model": {"kind": "recently_popular"}}},
            "sasrec": {
                "parameters": 45678,
                "epochs": 4,
                "seconds": 12.34,
                "events_per_s": 9876.5,
                "config": {"model": {"kind": "sasrec"}},
            },
        },
    }
    return Report(**(some | changes))


def pages(folder: Path, report: Report) -> tuple[str, str]:
    """Render a report and read its Markdown and its HTML."""
    write_report(folder, report)
    return (folder / "report.md").read_text(encoding="utf-8"), (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Reads a page; every element must be closed where it was opened, and every id is there once."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.bold: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-2:] == ["td", "b"]:
            self.bold.append(data)


def plots(page: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)


def test_the_best_model_is_bold_and_the_oracle_is_last_and_not(tmp_path: Path) -> None:
    markdown, page = pages(tmp_path, report())
    table = markdown.split("## Top 10")[1].split("##")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert [line.split(" |")[0] for line in lines[2:]] == [
        "| sasrec",
        "| popular",
        "| recently_popular",
        "| oracle (the simulation's truth)",
    ]
    assert lines[0] == "| Model | HR@10 | NDCG@10 | Coverage@10 |"
    assert lines[2] == "| sasrec | **0.2468** [0.243, 0.250] | **0.1234** [0.120, 0.127] | **0.5000** |"
    assert lines[3] == "| popular | 0.1000 [0.096, 0.104] | 0.0500 [0.046, 0.054] | **0.5000** |"
    assert lines[5] == "| oracle (the simulation's truth) | 0.8000 [0.796, 0.804] | 0.4000 [0.396, 0.404] | 0.5000 |"
    bold = Page(page).bold
    assert "0.1234" in bold
    assert "0.4000" not in bold
    assert "0.0500" not in bold


def test_the_summary_is_computed_from_the_rows(tmp_path: Path) -> None:
    sentence = (
        "sasrec reaches NDCG@10 0.123 [0.120, 0.127], 2.5 times the better popularity baseline (popular 0.050); "
        "the oracle reaches 0.400."
    )
    markdown, page = pages(tmp_path, report())
    assert markdown.splitlines()[2] == sentence
    assert sentence.replace("[0.120, ", "[0.120,&nbsp;") in page


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"gru": 0.1}, "gru reaches NDCG@10 0.100."),
        (
            {"popular": 0.1, "gru": 0.05},
            "popular reaches NDCG@10 0.100: no model is better than this popularity baseline.",
        ),
        ({"popular": 0.1}, "popular reaches NDCG@10 0.100."),
        (
            {"popular": 0.1, "gru": 0.104},
            "gru reaches NDCG@10 0.104, 1.04 times the popularity baseline (popular 0.100).",
        ),
        ({"popular": 0.0, "gru": 0.1}, "gru reaches NDCG@10 0.100, against the popularity baseline (popular 0.000)."),
        ({"popular": math.nan, "gru": 0.00123}, "gru reaches NDCG@10 0.00123."),
        ({"popular": math.nan}, "Nothing was evaluated."),
        ({}, "Nothing was evaluated."),
    ],
)
def test_the_summary_says_no_more_than_there_is(tmp_path: Path, values: dict[str, float], sentence: str) -> None:
    rows = [row for name, value in values.items() for row in figures(name, value, half=None)]
    markdown, page = pages(tmp_path, report(rows=rows, curves={}))
    assert markdown.splitlines()[2] == sentence
    Page(page)


def test_both_treatments_of_the_history_appear(tmp_path: Path) -> None:
    markdown, page = pages(tmp_path, report())
    kept, removed = markdown.split("## History removed from the ranking")
    assert "History kept in the ranking, 1,300 cases, 700 users." in kept
    assert "**0.1134** [0.110, 0.117]" in removed
    assert "**0.1134**" not in kept
    for text in ("History kept in the ranking", "History removed from the ranking", "<b>0.1134</b>"):
        assert text in page
    first = report(primary_history_removed=True)
    assert "**0.1134**" in pages(tmp_path, first)[0].split("## History kept in the ranking")[0]
    one = report(rows=[row for row in report().rows if not row["history_removed"]])
    assert all("removed from" not in text for text in pages(tmp_path, one))


def test_everything_else_appears(tmp_path: Path) -> None:
    for text in pages(tmp_path, report()):
        for figure in (
            "12,345",
            "trained items",
            "global time: test 24 h",
            "45,678",
            "12.3",
            "9,876",
            "warning",
            "siblings",
        ):
            assert figure in text
    assert "The audit has 1 warning<" in text
    assert "<code>request</code>" in text


def test_the_page_is_whole_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    _, page = pages(tmp_path, report())
    tags = Page(page).tags
    assert {"table", "svg", "dl", "style"} <= set(tags)
    assert not {"script", "img", "iframe"} & set(tags)
    assert "http://" not in page
    assert "https://" not in page
    drawn = [ElementTree.fromstring(plot) for plot in plots(page)]
    labels = [plot.get("aria-label") for plot in drawn]
    assert labels == [
        "NDCG@10 of 4 models",
        "NDCG@50 of 4 models",
        "sasrec, item_loss by epoch",
        "sasrec, ndcg@10 by epoch",
    ]
    assert {"sasrec", "0.1234", "oracle", "0.4000"} <= {element.text for element in drawn[0].iter("text")}
    assert "0.1300" in {element.text for element in drawn[3].iter("text")}  # the best epoch


def test_plots_take_their_colours_from_the_page(tmp_path: Path) -> None:
    _, page = pages(tmp_path, report())
    for plot in plots(page):
        colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", plot)) - {"none"}
        assert colors
        for color in colors:
            assert re.fullmatch(r"var\(--\w+\)", color), color
            assert f"{color[4:-1]}: #" in page


def test_names_and_titles_are_text(tmp_path: Path) -> None:
    evil, odd = "<script>alert('a')</script>", "a|b $x^2$ *東京* \x00<&"
    rows = [*figures(odd, 0.2), *figures("sasrec", 0.1)]
    curves = {odd: report().curves["sasrec"]}
    mean = report(
        title=evil,
        rows=rows,
        curves=curves,
        protocol={evil: odd},
        log={odd: evil},
        models={odd: {"config": {evil: odd}}},
    )
    markdown, page = pages(tmp_path, mean)
    assert "script" not in Page(page).tags
    assert "<h1>&lt;script&gt;alert(" in page
    assert "<" not in markdown
    assert r"| a\|b $x^2$ \*東京\* �&lt;&amp; |" in markdown
    drawn = ElementTree.fromstring(plots(page)[0])
    assert "a|b $x^2$ *東京* �<&" in {element.text for element in drawn.iter("text")}


def test_links_in_names_are_not_links(tmp_path: Path) -> None:
    markdown, _ = pages(tmp_path, report(title="[home](https://example.org)"))
    assert markdown.startswith("# [home]\\(https://example.org)\n")


def test_a_narrow_interval_keeps_its_width(tmp_path: Path) -> None:
    markdown, _ = pages(tmp_path, report(rows=figures("sasrec", 0.1234, half=0.0002)))
    assert "**0.1234** [0.1232, 0.1236]" in markdown


def test_missing_intervals_and_figures_are_left_out(tmp_path: Path) -> None:
    rows = [*figures("sasrec", 0.1, half=None), *figures("gru", math.nan, half=math.nan), *figures("oracle", math.nan)]
    markdown, page = pages(tmp_path, report(rows=rows))
    assert "| sasrec | **0.2000** | **0.1000** | **0.5000** |" in markdown
    assert "| gru | – | – | **0.5000** |" in markdown
    for text in (markdown, page):
        assert "nan" not in text
    assert "95 % intervals" not in page


def test_empty_curves_give_no_plot_and_one_epoch_gives_one(tmp_path: Path) -> None:
    rows = figures("sasrec", 0.1)
    empty: list[dict] = [{}, {"sasrec": []}, {"sasrec": [{"epoch": 0, "step": 3, "item_loss": math.nan}]}]
    for curves in empty:
        _, page = pages(tmp_path, report(rows=rows, curves=curves))
        assert len(plots(page)) == 1
        assert "Learning curves" not in page
    _, page = pages(tmp_path, report(rows=rows, curves={"sasrec": [{"epoch": 0, "a_loss": 1.5, "b_loss": 2.5}]}))
    assert len(plots(page)) == 2
    assert "<b>a_loss</b>, <b>b_loss</b> (dashed) by epoch" in page


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    assert pages(tmp_path, report()) == pages(tmp_path, report())


def test_the_settings_of_matplotlib_neither_matter_nor_change(tmp_path: Path) -> None:
    import matplotlib

    before = pages(tmp_path, report())
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path"}):
        assert pages(tmp_path, report()) == before
        assert matplotlib.rcParams["font.size"] == 30
