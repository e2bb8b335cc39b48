"""`upnext scaling`: points are trained once and measured on the same cases; bad asks are told."""

import json
import math
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.end_to_end.test_argus import ARGUS
from tests.end_to_end.test_tiny_project import PROJECT, succeed, upnext, write_log
from upnext.base.artifacts import Workspace

ASKED = ("--model", "argus", "--sizes", "1x8,2x16", "--lengths", "2,4,8", "--at-length", 4, "--cases", 30)


TOWERS = """
[finetune.towers]
from = "argus"
kind = "pairwise"
width = 8
lag = "2d"
window = "2d"
utility = { played = 1.0 }
[finetune.towers.training]
epochs = 2
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scaling")
    later = [
        f"{user},{'abcdefghijkl'[(user + step) % 12]},{1_700_000_000 + step * 86_400 + user * 60},home,{played}\n"
        for user in range(40)
        for step, played in zip(range(10, 20), (0.9, 0.1, 0.8, 0.7, 0.2) * 2, strict=True)
    ]
    write_log(folder / "log.csv", "".join(later))
    text = PROJECT.format(folder=folder).replace('"1d"', '"4d"')  # so that each part has events to compare
    (folder / "project.toml").write_text(text + ARGUS + TOWERS)
    succeed("prepare", folder / "project.toml")
    succeed("scaling", folder / "project.toml", *ASKED, "--ablations")
    return folder


def written(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "work" / "scaling" / "scaling.json").read_text())
    return found


def test_every_point_is_one_training_of_the_size_and_length_it_says(run: Path) -> None:
    rows = written(run)["rows"]
    series = {row["point"]: row["series"] for row in rows}
    assert series == {
        "1x8-4": ["size"],
        "2x16-4": ["size", "length"],
        "2x16-2": ["length"],
        "2x16-8": ["length"],
        "2x16-4-watched": ["view"],
    }
    workspace = Workspace(run / "work")
    for row in rows:
        manifest = workspace.current(f"model-argus-{row['point']}", "model").manifest
        settings = manifest["config"]["model"]
        size = (settings["layers"], settings["width"], settings["max_length"], settings["view"])
        assert size == (row["layers"], row["width"], row["length"], row["view"])
        assert manifest["metrics"]["parameters"] == row["parameters"]
        per_layer = 12 * row["width"] ** 2 + 13 * row["width"]
        assert row["encoder_parameters"] == row["layers"] * per_layer + 2 * row["width"]


def test_figures_are_of_the_same_cases_and_lines_go_through_them(run: Path) -> None:
    found = written(run)
    assert {row["part"] for row in found["rows"]} == {"validation", "test"}
    metrics = {row["metric"] for row in found["rows"]}
    assert metrics == {"nip_loss", "ndcg@10", "log_loss.played", "fp_loss"}
    for part in ("validation", "test"):
        losses = [r for r in found["rows"] if (r["part"], r["metric"]) == (part, "nip_loss")]
        assert len({row["targets"] for row in losses}) == 1
        assert all(0 < row["low"] <= row["value"] <= row["high"] < 2 * math.log(12) for row in losses)
        lengths = [row for row in losses if "length" in row["series"]]
        (line,) = (
            one for one in found["lines"] if (one["series"], one["part"], one["metric"]) == ("length", part, "nip_loss")
        )
        slope, intercept = np.polyfit([math.log2(row["length"]) for row in lengths], [r["value"] for r in lengths], 1)
        assert line["slope"] == pytest.approx(slope)
        assert line["intercept"] == pytest.approx(intercept)
        assert line["points"] == 3


def test_pages_and_plots(run: Path) -> None:
    folder = run / "work" / "scaling"
    page = (folder / "scaling.html").read_text()
    assert page.count("<svg") == 8  # two losses, two axes, two parts
    assert "http" not in page.replace("http-equiv", "")
    assert "2x16-4-watched" in page
    assert "| 1x8-4 | all | " in (folder / "scaling.md").read_text()
    names = {"nip-size.svg", "nip-length.svg", "fp-size.svg", "fp-length.svg"}
    assert {path.name for path in folder.glob("*.svg")} == names
    for name in names:
        root = ElementTree.parse(folder / name).getroot()  # whole XML, to be shown by itself
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert float(root.attrib["width"]) > 300


def test_ablations_of_fine_tuning(run: Path) -> None:
    rows = written(run)["fine_tuning"]
    assert {row["variant"] for row in rows} == {"as configured", "no pretraining", "half the epochs"}
    assert {row["towers"] for row in rows} == {"towers"}
    accuracy = [row for row in rows if row["metric"] == "pair_accuracy"]
    assert len(accuracy) == 3
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in accuracy)
    workspace = Workspace(run / "work")
    settings = {
        name: workspace.current(f"model-{name}", "model").manifest["config"]
        for name in ("towers", "towers-no-pretraining", "towers-half-the-epochs")
    }
    assert [one["pretrained"] for one in settings.values()] == [True, False, True]
    assert [one["training"]["epochs"] for one in settings.values()] == [2, 2, 1]
    folder = run / "work" / "scaling"
    assert "| towers | no pretraining | " in (folder / "scaling.md").read_text()
    assert "half the epochs" in (folder / "scaling.html").read_text()


def test_what_is_trained_is_not_trained_again(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "work", tmp_path / "work")
    before = {path.name for path in (tmp_path / "work" / "artifacts").iterdir()}
    setting = ("--set", f"workspace={tmp_path / 'work'}")
    succeed("scaling", run / "project.toml", *ASKED, "--ablations", "--out", tmp_path / "out", *setting)
    assert {path.name for path in (tmp_path / "work" / "artifacts").iterdir()} == before
    again = json.loads((tmp_path / "out" / "scaling.json").read_text())
    assert again["rows"] == written(run)["rows"]
    longer = (*ASKED[:5], "2,4,8,10", *ASKED[6:])
    succeed("scaling", run / "project.toml", *longer, *setting)
    new = {path.name.split("-")[0] for path in (tmp_path / "work" / "artifacts").iterdir() if path.name not in before}
    assert new == {"model", "point"}
    assert len(list((tmp_path / "work" / "artifacts").iterdir())) == len(before) + 2


def test_sasrec_has_a_size_too(run: Path, tmp_path: Path) -> None:
    asked = ("--model", "sasrec", "--sizes", "1x8", "--lengths", "2,4", "--out", tmp_path)
    succeed("scaling", run / "project.toml", *asked)
    found = json.loads((tmp_path / "scaling.json").read_text())
    assert {row["metric"] for row in found["rows"]} == {"nip_loss", "ndcg@10"}
    assert {line["series"] for line in found["lines"]} == {"length"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sizes", "2x"), "'2x' is no size; write layers x width, such as 2x64"),
        (("--sizes", "0x64"), "'0x64' is no size"),
        (("--sizes", "2x64,,3x64"), "an entry is empty"),
        (("--sizes", "1x200"), "width 200 is no multiple of heads 3"),
        (("--lengths", "eight"), "'eight' is no number of events"),
        (("--lengths", "2000000"), "less than or equal to 1000000"),
        (("--model", "bert"), "--model bert: [pretrain] has ['argus', 'popular', 'sasrec']"),
        (("--model", "popular"), "a popular model has no size that is scaled; choose one of ['sasrec', 'argus']"),
        (("--at-size", "7x7"), "--at-size and --at-length choose among --sizes"),
        (("--at-length", "5"), "--at-size and --at-length choose among --sizes"),
    ],
)
def test_bad_asks_are_explained_before_anything_is_trained(run: Path, arguments: tuple[str, str], words: str) -> None:
    before = {path.name for path in (run / "work" / "artifacts").iterdir()}
    asked = {"--model": "argus", "--sizes": "1x8", "--lengths": "4"} | {arguments[0]: arguments[1]}
    done = upnext("scaling", run / "project.toml", *(word for pair in asked.items() for word in pair))
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert {path.name for path in (run / "work" / "artifacts").iterdir()} == before


def test_which_of_two_models_has_to_be_said(run: Path) -> None:
    done = upnext("scaling", run / "project.toml", "--sizes", "1x8", "--lengths", "4")
    assert done.returncode == 2
    assert "say with --model which of ['sasrec', 'argus'] to scale" in " ".join(done.stderr.split())


def test_ablations_need_views(tmp_path: Path) -> None:
    write_log(tmp_path / "log.csv")
    text = (PROJECT.format(folder=tmp_path) + ARGUS).replace('watched = "played >= 0.5"', "")
    (tmp_path / "project.toml").write_text(text.replace('view = "watched"\n', ""))
    succeed("prepare", tmp_path / "project.toml")
    done = upnext("scaling", tmp_path / "project.toml", *ASKED, "--ablations")
    assert done.returncode == 2
    assert "the log has none; name some in [prepare.views]" in " ".join(done.stderr.split())
