"""The learning rate, by hand."""

import pytest

from upnext.training.schedule import warmup_cosine


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.25),  # the first step already learns
        (1, 0.5),
        (2, 0.75),
        (3, 1.0),
        (4, 1.0),  # cos 0 = 1
        (8, 0.1 + 0.9 * 0.75),  # a third of the way: (1 + cos 60°) / 2 = 3/4
        (10, 0.1 + 0.9 * 0.5),  # half of the way: cos 90° = 0
        (12, 0.1 + 0.9 * 0.25),  # two thirds: (1 + cos 120°) / 2 = 1/4
        (16, 0.1),
        (17, 0.1),
        (9999, 0.1),
    ],
)
def test_four_steps_of_warm_up_then_twelve_of_cosine(step: int, factor: float) -> None:
    assert warmup_cosine(step, 4, 16) == pytest.approx(factor, abs=1e-12)


def test_the_final_factor_is_given() -> None:
    assert warmup_cosine(5, 0, 10, final=0.0) == pytest.approx(0.5)
    assert warmup_cosine(10, 0, 10, final=0.0) == pytest.approx(0.0)
    assert warmup_cosine(5, 0, 10, final=1.0) == 1.0


def test_no_warm_up_starts_at_the_peak() -> None:
    assert warmup_cosine(0, 0, 10) == 1.0


def test_a_run_of_nothing_but_warm_up() -> None:
    assert [warmup_cosine(step, 2, 2) for step in range(2)] == [0.5, 1.0]
    assert warmup_cosine(3, 2, 2) == pytest.approx(0.1)


def test_the_rate_rises_then_never_again() -> None:
    factors = [warmup_cosine(step, 5, 50) for step in range(60)]
    assert factors[:5] == sorted(factors[:5])
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert all(0.1 <= factor <= 1 for factor in factors)
