"""The stage `evaluate` on whole projects: its files agree, and a log that lacks something gives no empty sections."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.serving.projects import MARKUP, NUMBERS, Published, publish_project
from upnext.base.artifacts import Workspace
from upnext.base.errors import BadConfig
from upnext.evaluation import segments
from upnext.pipeline import evaluate
from upnext.pipeline.evaluate import EvaluateConfig


def evaluated(published: Published, folder: Path, names: list[str], **settings: Any) -> dict[str, Any]:
    """Evaluate a published project: the report's figures by file, and its page."""
    workspace = Workspace(published.lend(folder))
    report = evaluate.run(EvaluateConfig(k=[3, 10], bootstrap_samples=20, **settings), workspace, names).folder
    figures = {path.stem: json.loads(path.read_text()) for path in report.glob("*.json")}
    return figures | {"page": (report / "report.html").read_text()}


def headings(page: str) -> list[str]:
    return re.findall(r"<section[^>]*><h2>([^<]+)</h2>", page)


def test_segments_add_up_to_the_metrics(tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "FEWEST_USERS", 1)
    found = evaluated(tiny, tmp_path, ["sasrec", "popular-now"])
    total = {
        (row["model"], row["metric"]): row
        for row in found["metrics"]
        if (row["k"], row["history_removed"]) == (3, False)
    }
    rows = [row for row in found["segments"] if row["dimension"] == "Context surface"]
    assert {row["model"] for row in rows} == {"sasrec", "popular-now", "oracle"}
    for model in ("sasrec", "popular-now", "oracle"):
        some = [row for row in rows if (row["model"], row["metric"]) == (model, "ndcg")]
        assert sum(row["cases"] for row in some) == total[model, "ndcg"]["cases"]
        mean = sum(row["value"] * row["cases"] for row in some) / total[model, "ndcg"]["cases"]
        assert mean == pytest.approx(total[model, "ndcg"]["value"])
    (difference,) = (row for row in found["differences"] if row["metric"] == "ndcg")
    assert (difference["model"], difference["baseline"]) == ("sasrec", "popular-now")
    values = [total[name, "ndcg"]["value"] for name in ("sasrec", "popular-now")]
    assert difference["value"] == pytest.approx(values[0] - values[1])
    for row in found["popularity"]:
        assert sum(row["shares"]) == pytest.approx(1)
        if row["model"] is not None:
            assert row["coverage"] == pytest.approx(total[row["model"], "coverage"]["value"])
    losses = {(row["model"], row["dimension"], row["segment"]): row for row in found["next_item"]}
    assert {model for model, _, _ in losses} == {"sasrec", "frequency"}
    whole = losses["sasrec", None, None]
    parts = [
        row for (model, dimension, _), row in losses.items() if (model, dimension) == ("sasrec", "Context surface")
    ]
    assert sum(row["targets"] for row in parts) == whole["targets"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in (whole, *parts) if row["value"] is not None)
    assert headings(found["page"])[:7] == [
        "Quality", "Against the baseline", "Segments", "Next item", "Popularity", "Example users", "Learning curves",
    ]  # fmt: skip
    assert "Context hour" in found["page"]
    assert len(found["page"]) < 1_500_000


def test_a_log_without_times_contexts_and_titles(numbers: Published, tmp_path: Path) -> None:
    found = evaluated(numbers, tmp_path, ["popular"])
    shown = headings(found["page"])
    assert "Example users" in shown
    assert not {"Against the baseline", "Learning curves"} & set(shown)  # one model, and it is counted
    assert "Context" not in found["page"]
    assert " UTC" not in found["page"]
    assert "9007199254740" in found["page"].split("Example users")[-1]  # an id is its own title
    assert found["differences"] == []
    for heading, content in re.findall(r"<h2>([^<]+)</h2>(.*?)</section>", found["page"], flags=re.DOTALL):
        assert re.sub("<[^>]+>", "", content).strip(), heading


def test_titles_that_are_markup_are_shown_as_text(strange: Published, tmp_path: Path) -> None:
    found = evaluated(strange, tmp_path, ["popular"])
    assert "<img" not in found["page"]
    assert (
        MARKUP.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;").replace("'", "&#x27;") in found["page"]
    )


def test_the_unfamiliar_setting(tiny: Published, tmp_path: Path) -> None:
    usual = evaluated(tiny, tmp_path / "usual", ["sasrec", "popular-now"])
    found = evaluated(tiny, tmp_path / "unfamiliar", ["sasrec", "popular-now"], unfamiliar=True)
    assert {row["history_removed"] for row in found["metrics"]} == {True}
    assert "Only items that the user met in no event before count." in found["page"]
    assert "Removed: what the user met before, in any event, is not ranked." in found["page"]
    counts = [{row["cases"] for row in one["metrics"] if row["metric"] == "ndcg"} for one in (usual, found)]
    assert 0 < max(counts[1]) < min(counts[0])
    with pytest.raises(ValidationError, match="leave out remove_history = false"):
        EvaluateConfig(unfamiliar=True, remove_history=False)


def test_unfamiliar_without_anything_new_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user,item\n" + "1,2\n1,2\n1,2\n3,4\n3,4\n3,4\n3,2\n3,2\n3,2\n")
    published = publish_project(tmp_path, NUMBERS)
    with pytest.raises(BadConfig, match="no event of the view 'all' with an item that its user had not met"):
        evaluate.run(EvaluateConfig(unfamiliar=True), Workspace(published.workspace), ["popular"])
