"""Calibration in a report: the rows, where they come from, and how the curve is drawn."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.test_page import EVIL, section, whole
from tests.evaluation.test_render import pages, plots
from tests.events.logs import Event, log_of
from upnext.base.protocols import Link
from upnext.evaluation.calibration import calibration_rows
from upnext.evaluation.feedback import Foreseen, feedback_figures
from upnext.evaluation.report import Report, write_figures

ROWS = np.arange(8)
LOG = log_of([Event(user=2 + i % 3, item=1 + i, time=i, played=(None if i == 7 else float(i % 2))) for i in range(8)])


def foreseen() -> dict[str, Foreseen]:
    even, odd = 0.25, 0.75
    predicted = np.where(LOG.rows.item % 2 == 1, even, odd)  # the items 1, 3, … have what was played at 0, 2, …
    order = Foreseen({"score": Link.ORDER_ONLY}, {"score": np.arange(8.0)})
    return {"model": Foreseen({"played": Link.SIGMOID}, {"played": predicted}), "order": order}


def test_a_row_per_bin_of_what_was_observed_and_none_of_what_only_orders():
    rows = calibration_rows(foreseen(), LOG, ROWS, 50)
    assert {row["model"] for row in rows} == {"model"}
    low, high = rows
    assert (low["bin"], low["predicted"], low["observed"]) == (0, 0.25, 0)
    assert (high["bin"], high["predicted"], high["observed"]) == (1, 0.75, 1)
    assert low["share"] + high["share"] == pytest.approx(1)  # of seven: one was not observed
    assert low["share"] == pytest.approx(4 / 7)
    figures = feedback_figures(LOG, ROWS, foreseen()["model"].predicted, {"played": 0.5}, 20)
    (error,) = (row["value"] for row in figures if row["metric"] == "calibration_error")
    assert error == pytest.approx(0.25)


def curve(model: str, feedback: str, bins: int = 15) -> list[dict[str, Any]]:
    return [
        {
            "model": model,
            "feedback": feedback,
            "bin": number,
            "share": 1 / bins,
            "predicted": number / 20,
            "observed": number / 25,
            "low": None if number == 3 else number / 26,
            "high": None if number == 3 else number / 24,
        }
        for number in range(bins)
    ]


def with_curves(*curves: list[dict[str, Any]]) -> Report:
    rows = [row for rows in curves for row in rows]
    keys = {(row["model"], row["feedback"]): None for row in rows}
    figure = {"metric": "calibration_error", "value": 0.125, "low": 0.125, "high": 0.125}
    feedback = [{"model": model, "feedback": name} | figure for model, name in keys]
    return replace(whole(), calibration=rows, feedback=feedback)


def test_each_model_has_a_curve_per_feedback_and_the_tables_the_error(tmp_path: Path):
    found = with_curves(curve("a", "click"), curve(EVIL, "click"), curve("a", "like"), curve("mean", "like", bins=1))
    markdown, page = pages(tmp_path, found)
    part = section(page, "calibration")
    assert len(plots(part)) == 3  # a constant has a dot, and no curve
    assert part.count("<b>a</b>, calibration error 0.1250") == 2
    assert EVIL not in page
    assert "Calibration error" in markdown
    assert "0.1250" in markdown
    assert 'id="calibration"' not in pages(tmp_path, whole())[1]


def test_the_curve_is_written_as_json(tmp_path: Path):
    found = with_curves(curve("a", "click"))
    write_figures(tmp_path, found)
    assert json.loads((tmp_path / "calibration.json").read_text()) == found.calibration


def test_many_curves_leave_the_page_small(tmp_path: Path):
    curves = [curve(f"model-{number}", f"feedback-{name}") for number in range(8) for name in range(4)]
    _, page = pages(tmp_path, with_curves(*curves))
    assert len(plots(section(page, "calibration"))) == 4 * 6
    assert len(section(page, "calibration").encode()) < 400_000
