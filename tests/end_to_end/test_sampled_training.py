"""Training from sampled negatives through the command line and the Python API."""

import json

import pytest

import upnext as package
from tests.end_to_end.test_tiny_project import PROJECT, succeed, upnext, write_log
from upnext.base.artifacts import Workspace

LOSS = """
[pretrain.sasrec.loss]
kind = "sampled"
negatives = "mixed"
num_in_batch = 20
num_drawn = 6
temperature = "learned"
[pretrain.sasrec.loss.sketch]
width = 256
"""


@pytest.fixture
def project(tmp_path):
    write_log(tmp_path / "log.csv")
    file = tmp_path / "project.toml"
    file.write_text(PROJECT.format(folder=tmp_path) + LOSS)
    return file


def model_of(project):
    return Workspace(project.parent / "work").current("model-sasrec", "model")


def test_a_sampled_training_is_evaluated_published_and_served_like_any_other(project):
    succeed("run", project, "--until", "publish")
    report = Workspace(project.parent / "work").current("report", "report").folder / "report.md"
    assert "sasrec" in report.read_text()
    model = model_of(project)
    metrics = model.manifest["metrics"]
    assert 0.5 < metrics["temperature"] < 2
    assert metrics["temperature"] != 1
    assert model.manifest["config"]["loss"]["num_drawn"] == 6
    weights = (model.folder / "weights.safetensors").read_bytes()
    answer = json.loads(succeed("recommend", project.parent / "work", "-u", "3", "--json"))
    assert len(answer["rows"][0]["items"]) > 0
    (project.parent / "work" / "current" / "model-sasrec").unlink()
    for path in model.folder.iterdir():
        path.unlink()
    model.folder.rmdir()
    succeed("pretrain", project)
    assert (model_of(project).folder / "weights.safetensors").read_bytes() == weights


def test_another_loss_is_another_model_and_the_full_one_is_the_default(project):
    succeed("run", project, "--until", "pretrain")
    first = model_of(project)
    succeed("pretrain", project, "--set", "pretrain.sasrec.loss.correction=standard")
    assert model_of(project).name != first.name
    file = project.with_name("full.toml")
    file.write_text(PROJECT.format(folder=project.parent))
    succeed("pretrain", file)
    full = model_of(file)
    assert full.manifest["config"]["loss"] == {"kind": "full", "temperature": 1.0}
    assert full.manifest["metrics"]["temperature"] == 1.0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("loss.num_in_batch=20000", "loss.num_in_batch 20000 is above training.tokens_per_batch 6400; lower it"),
        ("loss.negatives=uniform", "num_in_batch has no effect with uniform negatives"),
        ("loss.mask_hits=false", "masks hits"),
        ("loss.sketch.width=100", "100 is no power of two; 128 is the next"),
        ("loss.kind=hinge", "hinge"),
        ("loss.kind=full", "unknown key 'pretrain.sasrec.loss.negatives'"),
        ("loss.temperature=0", "greater than or equal to 0.01"),
    ],
)
def test_a_bad_loss_is_explained_before_anything_is_made(project, setting, words):
    done = upnext("run", project, "--set", f"pretrain.sasrec.{setting}")
    assert done.returncode == 2, done.stdout
    assert words in " ".join(done.stderr.split())
    assert not (project.parent / "work").exists()


def test_a_counted_model_has_no_loss(project):
    done = upnext("run", project, "--set", "pretrain.popular.loss.kind=sampled")
    assert done.returncode == 2
    assert "'loss' has no effect: a popular model is counted" in " ".join(done.stderr.split())


def test_the_python_api_takes_the_same_keys():
    loss = {"kind": "sampled", "negatives": "popularity", "num_drawn": 8}
    assert package.SASRec(loss=loss)
    with pytest.raises(ValueError, match="mask_hits"):
        package.SASRec(loss={"kind": "sampled", "mask_hits": False})
    with pytest.raises(ValueError, match=r"above training\.tokens_per_batch 10"):
        package.SASRec(loss={"kind": "sampled", "num_in_batch": 11}, training={"tokens_per_batch": 10})
