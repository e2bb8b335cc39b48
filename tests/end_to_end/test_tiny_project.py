"""The whole path through the command line, on a log small enough for a test."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from upnext.base.artifacts import Artifact, Workspace
from upnext.cli import main

PROJECT = """
workspace = "{folder}/work"

[prepare.source]
kind = "table"
path = "{folder}/log.csv"
user = "user"
item = "item"
time = "time"
time_unit = "s"
contexts = ["surface"]
[prepare.source.feedback]
played = "fraction"

[prepare.views]
watched = "played >= 0.5"

[prepare.split]
kind = "global_time"
validation = "1d"
test = "1d"

[pretrain.sasrec.model]
kind = "sasrec"
view = "watched"
width = 8
layers = 1
max_length = 10
[pretrain.sasrec.training]
epochs = 2

[pretrain.popular.model]
kind = "popular"
view = "watched"

[evaluate]
view = "watched"
k = [3]
bootstrap_samples = 50

[publish]
retriever = "sasrec"
popular = "popular"
view = "watched"
exclude_history = false
"""


def write_log(path: Path, extra: str = "") -> None:
    """Forty users who walk around twelve items for ten days; every third event was hardly played."""
    lines = ["user,item,time,surface,played"]
    for user in range(40):
        for step in range(10):
            time_s = 1_700_000_000 + step * 86_400 + user * 60
            played = 0.1 if (user + step) % 3 == 0 else 0.9
            lines.append(f"{user},{'abcdefghijkl'[(user + step) % 12]},{time_s},home,{played}")
    path.write_text("\n".join(lines) + "\n" + extra)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_log(tmp_path / "log.csv")
    file = tmp_path / "project.toml"
    file.write_text(PROJECT.format(folder=tmp_path))
    return file


@dataclass
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def upnext(*arguments: object) -> Done:
    """Run the command line in this process: the same code, without the imports of a new one."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["upnext", *map(str, arguments)])
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as exit_:
            main()
    return Done(int(exit_.value.code or 0), stdout.getvalue(), stderr.getvalue())


def succeed(*arguments: object) -> str:
    done = upnext(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def artifacts(project: Path) -> set[str]:
    return {path.name for path in (project.parent / "work" / "artifacts").iterdir()}


def test_from_a_csv_to_recommendations(project):
    output = succeed("run", project, "--until", "publish")
    for line in ("prepare", "pretrain sasrec", "pretrain popular", "evaluate", "publish", "untrained items", "ndcg"):
        assert line in output
    workspace = Workspace(project.parent / "work")
    for name in ("log", "model-sasrec", "model-popular", "report", "release"):
        Artifact.open(workspace.current(name, name.split("-")[0]).folder, verify=True)
    rows = json.loads((workspace.current("report", "report").folder / "metrics.json").read_text())
    assert {row["metric"] for row in rows} >= {"hr", "recall", "ndcg", "mrr", "coverage"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows if row["low"] is not None)
    for page in ("report.md", "report.html"):
        assert "sasrec" in (workspace.current("report", "report").folder / page).read_text()

    answer = json.loads(succeed("recommend", project.parent / "work", "--user", "7", "-k", "2", "--json"))
    assert answer["user_id"] == 7  # the log's ids are integers and stay integers
    assert answer["is_known"]
    assert [len(row["items"]) for row in answer["rows"]] == [2, 2]
    assert "For you" in succeed("recommend", project.parent / "work", "--user", "nobody")


def test_a_second_run_makes_nothing_new_and_a_change_only_what_depends_on_it(project):
    succeed("run", project, "--until", "publish")
    first = artifacts(project)
    succeed("run", project, "--until", "publish")
    assert artifacts(project) == first
    succeed("run", project, "--until", "publish", "--set", "pretrain.sasrec.model.width=4")
    new = artifacts(project) - first
    assert sorted(name.split("-")[0] for name in new) == ["model", "release", "report"]
    write_log(project.parent / "log.csv", extra="99,a,1700000100,home,0.9\n")
    succeed("prepare", project)
    assert sorted(name.split("-")[0] for name in artifacts(project) - first - new) == ["log"]


def test_each_stage_runs_alone(project):
    for stage in ("prepare", "pretrain", "evaluate", "publish"):
        assert stage in succeed(stage, project)


def test_the_same_seed_trains_the_same_model(project):
    succeed("run", project, "--until", "pretrain")
    workspace = Workspace(project.parent / "work")
    first = (workspace.current("model-sasrec", "model").folder / "weights.safetensors").read_bytes()
    shutil.rmtree(project.parent / "work")
    succeed("run", project, "--until", "pretrain")
    assert (workspace.current("model-sasrec", "model").folder / "weights.safetensors").read_bytes() == first


def test_leave_last_out_on_an_order_only_log(tmp_path):
    (tmp_path / "log.txt").write_text("".join(f"{u} {1 + (u + s) % 7}\n" for u in range(30) for s in range(5)))
    file = tmp_path / "project.toml"
    file.write_text(
        f"""
workspace = "{tmp_path}/work"
[prepare.source]
kind = "sasrec"
path = "{tmp_path}/log.txt"
[prepare.split]
kind = "leave_last_out"
[pretrain.popular.model]
kind = "popular"
[evaluate]
k = [2]
[publish]
retriever = "popular"
"""
    )
    output = succeed("run", file, "--until", "publish")
    assert "30 train" not in output
    assert "90 train, 30 validation, 30 test" in output
    assert "removed from the ranking" in output
    answer = json.loads(succeed("recommend", tmp_path / "work", "-u", "3", "--json"))
    seen = {1 + (3 + step) % 7 for step in range(5)}
    assert not seen & {item["item_id"] for item in answer["rows"][0]["items"]}


def fail(project: Path, stage: str, *arguments: object) -> str:
    """Run a command that must fail as the user's error: exit code 2, no traceback, nothing half-written."""
    before = artifacts(project) if (project.parent / "work" / "artifacts").is_dir() else set()
    done = upnext(stage, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    after = artifacts(project) if (project.parent / "work" / "artifacts").is_dir() else set()
    assert after == before
    return " ".join(done.stderr.split())


def test_an_unknown_key_is_named_with_those_allowed(project):
    message = fail(project, "run", project, "--set", "prepare.sorce=1")
    assert "unknown key 'prepare.sorce'" in message
    assert "source, split" in message


def test_a_missing_column_is_named_with_those_there_are(project):
    message = fail(project, "prepare", project, "--set", "prepare.source.item=itme")
    assert "'itme'" in message
    assert "log.csv" in message
    assert "its columns: user, item, time, surface, played" in message


def test_an_unparsable_time_is_named_with_its_row(project):
    write_log(project.parent / "log.csv", extra="1,a,yesterday,home,0.5\n")
    message = fail(project, "prepare", project)
    for word in ("log.csv", "row 401", "'time'", "'yesterday'"):
        assert word in message


def test_a_stage_without_what_it_reads_says_what_to_run(project):
    message = fail(project, "pretrain", project)
    assert "holds no 'log' yet" in message
    assert "first run `upnext run FILE.toml --until prepare`" in message
    succeed("prepare", project)
    assert "holds no 'model-sasrec' yet" in fail(project, "evaluate", project)
    assert "there is no workspace" in fail(project, "recommend", project.parent / "nowhere", "-u", "1")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("publish.retriever=none", "publish.retriever is 'none'; the models are ['popular', 'sasrec']"),
        ("prepare.views.watched=played > half", "cannot be read at 'played > half'"),
        ("prepare.views.watched=liked == 1", "reads 'liked'; the log has the numeric columns ['played']"),
        ("prepare.split.test=2 fortnights", "'2 fortnights' is no duration"),
        ("prepare.split.test=100d", "leaves nothing to train"),
        ("pretrain.sasrec.model.width=0", "greater than or equal to 1"),
        ("pretrain.sasrec.model.view=seen", "no view 'seen'"),
        ("pretrain.sasrec.model.kind=sasrek", "sasrek"),
        ("evaluate.view=seen", "no view 'seen'"),
        ("evaluate.k=[0]", "greater than or equal to 1"),
        ("publish.view=seen", "no view 'seen'"),
        ("publish.hide=dislike == 1", "reads 'dislike'; the log has ['played']"),
        ("workspace", "write key=value"),
    ],
)
def test_a_bad_setting_is_explained(project, setting, words):
    done = upnext("run", project, "--until", "publish", "--set", setting)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stdout + done.stderr
    folder = project.parent / "work" / "artifacts"
    assert not list(folder.glob(".*"))


def test_the_installed_command_reports_a_user_error_with_exit_code_2(project):
    command = Path(sys.executable).with_name("upnext")
    arguments = [command, "run", project, "--set", "nonsense"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --set nonsense: write key=value")


def test_a_stage_that_the_project_lacks_is_refused(project):
    for arguments in (["run", project, "--until", "simulate"], ["simulate", project]):
        done = upnext(*arguments)
        assert done.returncode == 2
        assert "no table [simulate]" in done.stderr
    assert not (project.parent / "work").exists()
    assert "is no stage" in upnext("run", project, "--until", "nonsense").stderr


def test_views_follow_the_models(project):
    text = project.read_text().replace('[evaluate]\nview = "watched"', "[evaluate]")
    project.write_text(text.replace('popular = "popular"\nview = "watched"', 'popular = "popular"'))
    assert text != project.read_text()
    succeed("run", project, "--until", "publish")
    report = Workspace(project.parent / "work").current("report", "report").folder / "report.md"
    assert "events of the view 'watched'" in report.read_text()
    done = upnext("run", project, "--until", "evaluate", "--set", "pretrain.popular.model.view=all")
    assert done.returncode == 2
    assert "the models read different views" in done.stderr
    assert "evaluate.view" in done.stderr


def test_a_model_of_another_split_is_not_evaluated(project):
    succeed("run", project, "--until", "publish")
    succeed("prepare", project, "--set", "prepare.split.test=2d")
    for stage in ("evaluate", "publish"):
        message = fail(project, stage, project)
        assert "'model-sasrec' was made from log-" in message
        assert "run the stage that makes it again" in message


def test_a_damaged_artifact_is_made_again(project):
    succeed("run", project, "--until", "publish")
    workspace = Workspace(project.parent / "work")
    segment = workspace.current("log", "log").folder / "log" / "segment-000000.arrow"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-1000] + bytes(1000))
    assert "was changed after it was written; run the stage again" in fail(project, "pretrain", project)
    succeed("run", project, "--until", "publish")
    assert segment.read_bytes() == whole


def test_what_the_log_lacks_is_refused_before_training(project):
    for setting in ("evaluate.view=seen", "publish.hide=dislike == 1", "publish.actions.play={ liked = 1 }"):
        done = upnext("run", project, "--set", setting)
        assert done.returncode == 2, done.stdout
        assert "pretrain" not in done.stdout


def test_settings_without_effect_are_refused(project):
    message = fail(project, "run", project, "--set", "pretrain.popular.training.epochs=3")
    assert "'training' has no effect: a popular model is counted" in message
