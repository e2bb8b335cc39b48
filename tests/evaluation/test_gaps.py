import numpy as np
import pytest

from upnext.evaluation.gaps import gaps
from upnext.metrics.intervals import paired_difference

USERS = np.repeat(np.arange(40), 5)


def test_by_hand() -> None:
    losses = {"a": np.array([1.0, 3.0]), "b": np.array([2.0, 1.0]), "oracle": np.zeros(2)}
    rows = gaps(losses, np.array([3.0, 1.0]), np.array([0, 1]), "like", 50)
    # a: (3 + 3) / 4, b: (6 + 1) / 4; of the oracle nothing is said
    assert [(row["model"], row["feedback"], row["metric"], row["value"]) for row in rows] == [
        ("b", "like", "behind", 0.25)
    ]
    assert (rows[0]["low"], rows[0]["high"]) == (-2.0, 1.0)  # b - a of the one user, of the other


def test_what_makes_users_hard_for_all_cancels() -> None:
    g = np.random.default_rng(0)
    hard = g.exponential(5, 40)[USERS]
    losses = {"worse": hard + 0.1 + 0.05 * g.random(200), "better": hard + 0.05 * g.random(200)}
    (row,) = gaps(losses, np.ones(200), USERS, "like", 300)
    expected = paired_difference(losses["worse"], losses["better"], USERS, num_samples=300)
    assert (row["value"], row["low"], row["high"]) == pytest.approx((expected.value, expected.low, expected.high))
    assert 0.08 < row["low"] < row["high"] < 0.12


@pytest.mark.parametrize("models", [[], ["a"], ["a", "oracle"]])
def test_nobody_is_behind_alone(models: list[str]) -> None:
    assert gaps(dict.fromkeys(models, np.ones(200)), np.ones(200), USERS, "like", 10) == []
