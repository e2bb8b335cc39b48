"""Lists of aggregates that several models share."""

from pathlib import Path

import pytest

from upnext.base.errors import BadConfig
from upnext.commands.project import Project, load_any_project, load_project

PROJECT = """
workspace = "work"
{shared}

[simulate]

[prepare.source]
kind = "simulated"

[pretrain.popular.model]
kind = "popular"

[rank.trees]
kind = "boosted"
aggregates = {trees}

[rank.youtube]
kind = "youtube"
[rank.youtube.model]
view = "all"
aggregates = "counts"
"""
COUNTS = '[aggregates]\ncounts = [{ by = ["user"] }, { by = ["item"], what = "age" }]'


def write(folder: Path, shared: str = COUNTS, trees: str = '["counts", { by = ["user", "item"] }]') -> Path:
    file = folder / "project.toml"
    file.write_text(PROJECT.format(shared=shared, trees=trees))
    return file


def test_models_read_the_list_that_they_name(tmp_path: Path) -> None:
    for load in (load_project, load_any_project):
        project = load(write(tmp_path))
        assert isinstance(project, Project)
        counts = [one.name for one in project.aggregates["counts"]]
        assert counts == ["user.count", "item.age"]
        assert [one.name for one in project.rank["trees"].aggregates] == [*counts, "user+item.count"]
        assert [one.name for one in project.rank["youtube"].aggregates] == counts


@pytest.mark.parametrize(
    ("shared", "trees", "words"),
    [
        (COUNTS, '"count"', r"project\.toml: aggregates names 'count'; the lists of \[aggregates\] are \['counts'\]"),
        (COUNTS, '["counts", "rates"]', "aggregates names 'rates'"),
        ("", '"counts"', r"aggregates names 'counts'; the lists of \[aggregates\] are \[\]"),
        ("aggregates = 5", '"counts"', r"\[aggregates\] holds lists by name"),
        (COUNTS.replace('"age"', '"aeg"'), "[]", r"aggregates\.counts"),
        (COUNTS, '["counts", "counts"]', "is declared twice"),
    ],
)
def test_bad_lists(tmp_path: Path, shared: str, trees: str, words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        load_project(write(tmp_path, shared, trees))
