"""The pages of a report: `report.md` to read anywhere, and `report.html`, one file that works offline."""

from pathlib import Path

from upnext.evaluation.markdown import to_markdown
from upnext.evaluation.page import to_html
from upnext.evaluation.report import Report
from upnext.evaluation.tables import Figures

__all__ = ["write_report"]


def write_report(folder: Path, report: Report) -> None:
    """Write a report as `report.md` and `report.html` into an existing folder.

    The same report gives the same bytes. Figures that are NaN are shown as a dash, and intervals that are missing not
    at all. The best figure of a column is bold (all of those that print alike); the oracle does not compete.
    """
    figures = Figures(report)
    (folder / "report.md").write_text(to_markdown(report, figures), encoding="utf-8")
    (folder / "report.html").write_text(to_html(report, figures), encoding="utf-8")
