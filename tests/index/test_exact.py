"""The exact index keeps the contract of all indexes."""

import numpy as np

from tests.index.contract import Array, IndexContract
from upnext.base.protocols import Index
from upnext.index.exact import ExactIndex


class TestExactIndex(IndexContract):
    def make(self, vectors: Array) -> Index:
        return ExactIndex(vectors)


def test_vectors_may_come_in_any_layout() -> None:
    vectors = np.asfortranarray(np.random.default_rng(0).normal(size=(7, 3)))  # float64, column by column
    rows, scores = ExactIndex(vectors).search(np.ones((1, 3), np.float32), 7)  # type: ignore[arg-type]
    assert rows[0].tolist() == np.argsort(-vectors.sum(1)).tolist()
    np.testing.assert_allclose(scores[0], np.sort(vectors.sum(1))[::-1], atol=1e-5)
