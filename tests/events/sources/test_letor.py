import gzip

import numpy as np
import pytest

from upnext.base.errors import BadData
from upnext.events.sources.letor import LetorSource, read_letor, read_scores

TRAIN = "2 qid:10 1:0.5 3:1 # docid = A\n0 qid:10 2:-1e-3\n\n1 qid:11 1:4 # B\n"
HELD = "0 qid:12 1:1\n1 qid:12 3:2\n"


def written(folder, text, name="train.txt"):
    (folder / name).write_text(text)
    (folder / "held.txt").write_text(HELD)
    with gzip.open(folder / "test.txt.gz", "wt") as file:
        file.write("0 qid:13 1:9\n")
    held = str(folder / "held.txt")
    return LetorSource(train=[str(folder / name)], validation=[held], test=[str(folder / "test.txt.gz")])


def test_queries_become_sets_and_what_is_left_out_is_zero(tmp_path):
    sets = read_letor(written(tmp_path, TRAIN))
    assert sets.name == ["10", "11", "12", "13"]
    assert sets.sizes.tolist() == [2, 1, 2, 1]
    assert sets.part.tolist() == [0, 0, 1, 2]
    assert sets.label.tolist() == [2, 0, 1, 0, 1, 0]
    assert list(sets.features) == ["feature.1", "feature.2", "feature.3"]
    np.testing.assert_allclose(sets.features["feature.1"].values, [0.5, 0, 4, 1, 0, 9])
    np.testing.assert_allclose(sets.features["feature.2"].values, [0, -1e-3, 0, 0, 0, 0])
    assert sets.is_positive.tolist() == [True, False, True, False, True, False]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1 1:0.5", "line 2: '1 1:0.5' has no query"),
        ("x qid:10 1:1", "line 2: the label is 'x'"),
        ("-1 qid:10 1:1", "the label -1 is below 0"),
        ("1 qid:10 2:1 1:1", "'1:1' is no feature"),
        ("1 qid:10 0:1", "'0:1' is no feature"),
        ("1 qid:10 1:nan", "feature 1 is 'nan'"),
        ("1 qid:11 1:1\n0 qid:10 1:1", "line 3: the query '10' comes a second time"),
    ],
)
def test_an_error_names_the_file_and_the_line(tmp_path, line, said):
    with pytest.raises(BadData, match=r"train\.txt line \d") as error:
        read_letor(written(tmp_path, f"0 qid:10 1:1\n{line}\n"))
    assert said in str(error.value)


def test_a_query_of_two_files_is_refused(tmp_path):
    with pytest.raises(BadData, match=r"held\.txt line 1: the query '12' comes a second time"):
        read_letor(written(tmp_path, "0 qid:12 1:1\n"))


def test_features_of_the_query_have_to_be_there(tmp_path):
    source = written(tmp_path, TRAIN).model_copy(update={"request_features": [4]})
    with pytest.raises(BadData, match=r"request_features names 4; .* has the features 1 to 3"):
        read_letor(source)


def test_scores_come_one_a_line(tmp_path):
    sets = read_letor(written(tmp_path, TRAIN))
    file = tmp_path / "scores.txt"
    file.write_text("1\n2\n3\n-4.5\n5\n6\n")
    assert read_scores([str(file)], sets).values.tolist() == [1, 2, 3, -4.5, 5, 6]
    file.write_text("1\n2\n")
    with pytest.raises(BadData, match="2 scores for 6 candidates"):
        read_scores([str(file)], sets)


@pytest.mark.data
def test_mq2008_is_read_whole(data_folder):
    parts = [str(data_folder / "mq2008" / f"S{number}.txt.gz") for number in range(1, 6)]
    sets = read_letor(LetorSource(train=parts[:3], validation=parts[3:4], test=parts[4:]))
    highest, lowest = (of.reduceat(sets.label, sets.first[:-1]) for of in (np.maximum, np.minimum))
    assert (len(sets), len(sets.label), len(sets.features)) == (784, 15_211, 46)
    assert int((highest == 0).sum()) == 220
    assert int((highest > lowest).sum()) == 564


def test_what_no_float32_holds_is_no_number(tmp_path):
    with pytest.raises(BadData, match=r"line 2: feature 1 is '1e39', which is no finite number"):
        read_letor(written(tmp_path, "0 qid:10 1:1\n1 qid:10 1:1e39\n"))
    with pytest.raises(ValueError, match="finite"):
        LetorSource(train=["a"], validation=["b"], test=["c"], relevant=float("nan"))
