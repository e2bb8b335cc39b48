"""The tutorial and the README: their Python runs from top to bottom, and the outputs they show are what comes out."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import upnext
from upnext.simulation.settings import SimulationConfig
from upnext.simulation.world import simulate

ROOT = Path(__file__).parent.parent.parent


def run_page(text: str) -> tuple[dict[str, Any], int]:
    """Run a page's Python blocks in one namespace; a block of text right below one is its output.

    Returns:  the names that the page made, and how many outputs were compared.
    """
    names: dict[str, Any] = {}
    compared = 0
    blocks = r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?"
    for match in re.finditer(blocks, text, flags=re.DOTALL | re.MULTILINE):
        line = text[: match.start()].count("\n") + 1
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile("\n" * line + match[1], "page", "exec"), names)
        if match[2] is not None:
            assert output.getvalue() == match[2]
            compared += 1
    return names, compared


def test_the_tutorial_runs_and_shows_what_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names, compared = run_page((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    assert compared == 5
    recommended: pl.DataFrame = names["recommended"]
    assert recommended["rank"].to_list() == [1, 2, 3, 4, 5] * 2  # what the page says of it
    assert recommended["is_known"].to_list() == [True] * 5 + [False] * 5
    assert names["ndcg"]["model"].to_list() == ["popular", "sasrec"]
    assert names["ndcg"]["low"][1] > names["ndcg"]["high"][0]
    assert {path.name for path in tmp_path.iterdir()} == {"my-model"}


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    simulation = simulate(SimulationConfig(num_users=100, num_items=80, num_events=4000, days=10))
    simulation.events.write_parquet("events.parquet")
    names, _ = run_page((ROOT / "README.md").read_text(encoding="utf-8"))
    assert upnext.load("my-model").recommend(["nobody"], k=3).height == 3
    assert names["model"].config.model.width == 32


def test_the_test_of_the_tutorial_notices_a_stale_output():
    run_page("```python\nprint(1)\n```\n\n```text\n1\n```\n")
    with pytest.raises(AssertionError):
        run_page("```python\nprint(1)\n```\n\n```text\n2\n```\n")
    with pytest.raises(NameError):
        run_page("```python\nprint(undefined)\n```\n")
