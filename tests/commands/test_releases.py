"""Releases: listed with what they are, and the way back, which never leads to a damaged one."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from upnext.base.artifacts import Draft, Workspace
from upnext.base.errors import BadArtifact, NotFound
from upnext.commands.releases import before_current, print_releases, roll_back


def publish(workspace: Workspace, title: str) -> str:
    """Make a release of one small file, and use it."""
    config = {"title": title, "retriever": "r", "popular": None}

    def write(draft: Draft) -> None:
        (draft.folder / "f").write_text(title)

    return workspace.ensure("release", "release", config, [], write).name


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def current(workspace: Workspace) -> str:
    return workspace.in_use()["release"]


def listed(workspace: Workspace) -> dict[str, dict[str, Any]]:
    screen = io.StringIO()
    print_releases(workspace.root, True, Console(file=screen, width=20))
    return {one["name"]: one for one in json.loads(screen.getvalue())["releases"]}


def back(workspace: Workspace, name: str | None = None) -> None:
    roll_back(workspace.root, name, Console(file=io.StringIO()))


def test_rollback_goes_to_the_one_before_and_then_further(workspace: Workspace) -> None:
    one, two, three = (publish(workspace, title) for title in "abc")
    assert workspace.history("release") == [one, two, three]
    assert [name for name, said in listed(workspace).items() if said["is_rollback"]] == [two]
    back(workspace)
    assert (current(workspace), before_current(workspace)) == (two, one)
    back(workspace)
    assert (current(workspace), before_current(workspace)) == (one, None)
    with pytest.raises(NotFound, match="remembers no release before"):
        back(workspace)
    back(workspace, three)  # forward again, by name
    assert (current(workspace), before_current(workspace)) == (three, one)


def test_publishing_the_same_again_adds_nothing_to_the_history(workspace: Workspace) -> None:
    one, two = publish(workspace, "a"), publish(workspace, "b")
    publish(workspace, "b")
    assert workspace.history("release") == [one, two]
    publish(workspace, "a")
    assert workspace.history("release") == [one, two, one]
    back(workspace)
    assert current(workspace) == two


def test_a_damaged_or_unknown_release_is_refused(workspace: Workspace) -> None:
    one, two = publish(workspace, "a"), publish(workspace, "b")
    (workspace.root / "artifacts" / one / "f").write_text("other")
    for name in (None, one):
        with pytest.raises(BadArtifact, match=f"{one} is damaged, so {two} stays current"):
            back(workspace, name)
    for name in ("release-0", "../current", ""):
        with pytest.raises(NotFound, match="holds no release"):
            back(workspace, name)
    assert (current(workspace), workspace.history("release")) == (two, [one, two])
    (workspace.root / "artifacts" / one / "manifest.json").unlink()
    assert "no finished artifact" in listed(workspace)[one]["problem"]


def test_a_workspace_without_a_history_file_and_one_after_a_crash(workspace: Workspace) -> None:
    one, two = publish(workspace, "a"), publish(workspace, "b")
    (workspace.root / "history" / "release").write_text(one)  # the crash came after the pointer was replaced
    assert (workspace.history("release"), before_current(workspace)) == ([one, two], one)
    (workspace.root / "history" / "release").unlink()  # an earlier version kept none
    assert before_current(workspace) is None
    three = publish(workspace, "c")
    assert workspace.history("release") == [two, three]


def test_every_model_of_a_release_is_named(workspace: Workspace) -> None:
    models = [
        workspace.ensure(
            "model", f"model-{name}", {"name": name}, [], lambda draft: draft.metrics.update(best_metric=0.5)
        )
        for name in ("log", "r", "p", "t")
    ]
    config = {"title": "a", "retriever": "r", "popular": "p", "ranker": "t"}
    name = workspace.ensure("release", "release", config, models, lambda draft: None).name
    found = [(model["name"], model["artifact"]) for model in listed(workspace)[name]["models"]]
    assert found == [("r", models[1].name), ("p", models[2].name), ("t", models[3].name)]
    screen = io.StringIO()
    print_releases(workspace.root, False, Console(file=screen, width=80))
    assert "…" not in screen.getvalue()


def test_a_deleted_release_is_passed_over(workspace: Workspace) -> None:
    one, two, _ = (publish(workspace, title) for title in "abc")
    os.rename(workspace.root / "artifacts" / two, workspace.root / "gone")
    back(workspace)
    assert current(workspace) == one


def test_the_list_for_people_and_an_empty_workspace(workspace: Workspace) -> None:
    screen = io.StringIO()
    print_releases(workspace.root, False, Console(file=screen, width=200))
    assert "no releases" in screen.getvalue()
    one, two = publish(workspace, "a"), publish(workspace, "b")
    print_releases(workspace.root, False, Console(file=screen, width=200))
    lines = screen.getvalue().splitlines()
    assert any(one in line and "rollback goes here" in line for line in lines)
    assert any(two in line and "current" in line for line in lines)
    with pytest.raises(BadArtifact, match="there is no workspace"):
        print_releases(workspace.root / "no", False, Console())
