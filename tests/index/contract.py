"""What every index promises, held against brute force. An implementation's tests inherit this and build it."""

from typing import Any

import numpy as np
import pytest

from upnext.base.errors import BadBatch
from upnext.base.protocols import Index
from upnext.base.selection import Parts

Array = np.ndarray[Any, Any]


def brute_force(vectors: Array, query: Array, k: int, allowed: Array) -> tuple[list[int], list[float]]:
    """Score every vector, sort by falling score, then by rising row."""
    scores = [sum(float(a) * float(b) for a, b in zip(vector, query, strict=True)) for vector in vectors]
    rows = sorted((row for row in range(len(vectors)) if allowed[row]), key=lambda row: (-scores[row], row))[:k]
    missing = k - len(rows)
    return rows + [-1] * missing, [scores[row] for row in rows] + [-float("inf")] * missing


class IndexContract:
    """Vectors of small integers: products are exact in float32, and many tie."""

    def make(self, vectors: Array) -> Index:
        raise NotImplementedError

    def check(self, V: int, B: int, k: int, density: float | None, shared: bool, seed: int) -> None:
        generator = np.random.default_rng(seed)
        vectors = generator.integers(-1, 2, (V, 3)).astype(np.float32)
        queries = generator.integers(-1, 2, (B, 3)).astype(np.float32)
        allowed = None if density is None else generator.random((1 if shared else B, V)) < density
        rows, scores = self.make(vectors).search(queries, k, allowed)
        assert (rows.shape, scores.shape) == ((B, k), (B, k))
        assert rows.dtype == np.int64
        assert scores.dtype == np.float32
        everywhere = np.ones((B, V), bool) if allowed is None else np.broadcast_to(allowed, (B, V))
        for number in range(B):
            expected = brute_force(vectors, queries[number], k, everywhere[number])
            assert (rows[number].tolist(), scores[number].tolist()) == expected

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("k", [1, 5, 11, 17])
    def test_equals_brute_force_with_ties(self, k: int, seed: int) -> None:
        self.check(V=11, B=3, k=k, density=None, shared=False, seed=seed)

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("k", [1, 5, 17])
    @pytest.mark.parametrize("shared", [True, False])
    def test_equals_brute_force_over_what_is_allowed(self, k: int, shared: bool, seed: int) -> None:
        self.check(V=11, B=3, k=k, density=0.4, shared=shared, seed=seed)

    @pytest.mark.parametrize("density", [None, 0.6])
    @pytest.mark.parametrize(("V", "k"), [(11, 5), (300, 2), (1100, 3)])
    def test_excluded_pairs_are_as_a_mask(self, V: int, k: int, density: float | None) -> None:
        generator = np.random.default_rng(V)
        vectors = generator.integers(-1, 2, (V, 3)).astype(np.float32)
        queries = generator.integers(-1, 2, (4, 3)).astype(np.float32)
        forbidden = generator.random((4, V)) < 0.3
        forbidden[1], forbidden[2] = False, True
        shared = None if density is None else generator.random((1, V)) < density
        index = self.make(vectors)
        numbers, hidden = np.nonzero(forbidden)
        rows, scores = index.search(queries, k, shared, (numbers.astype(np.int64), hidden.astype(np.int64)))
        allowed = ~forbidden if shared is None else ~forbidden & shared
        by_mask = index.search(queries, k, allowed)
        np.testing.assert_array_equal(rows, by_mask[0])
        np.testing.assert_array_equal(scores, by_mask[1])
        for number in range(4):
            assert (rows[number].tolist(), scores[number].tolist()) == brute_force(
                vectors, queries[number], k, allowed[number]
            )

    @pytest.mark.parametrize(
        ("numbers", "hidden", "words"),
        [([0, 1], [2], "one length"), ([1, 0], [0, 0], "do not rise"), ([3], [0], "do not rise"), ([0], [6], "0 … 5")],
    )
    def test_excluded_pairs_that_do_not_fit_are_refused(self, numbers: Any, hidden: Any, words: str) -> None:
        index = self.make(np.ones((6, 4), np.float32))
        with pytest.raises(BadBatch, match=words):
            index.search(np.ones((3, 4), np.float32), 2, None, (np.array(numbers), np.array(hidden)))

    @pytest.mark.parametrize(("V", "k"), [(11, 4), (700, 3), (700, 0)])
    def test_parts_are_as_masks(self, V: int, k: int) -> None:
        generator = np.random.default_rng(V)
        vectors = generator.integers(-1, 2, (V, 3)).astype(np.float32)
        queries = generator.integers(-1, 2, (4, 3)).astype(np.float32)
        forbidden = generator.random((4, V)) < 0.1
        numbers, hidden = (part.astype(np.int64) for part in np.nonzero(forbidden))
        masks = np.stack([generator.random(V) < share for share in (1.0, 0.3, 0.3, 0.01, 0.0)])
        parts = Parts([np.flatnonzero(mask) for mask in masks])
        index = self.make(vectors)
        found = index.search_parts(queries, k, parts, (numbers, hidden))
        assert len(found) == len(masks)
        for mask, (rows, scores) in zip(masks, found, strict=True):
            assert rows.dtype == np.int64
            for number in range(4):
                expected = brute_force(vectors, queries[number], k, mask & ~forbidden[number])
                assert (rows[number].tolist(), scores[number].tolist()) == expected
        for rows, scores in index.search_parts(queries[:0], k, parts):
            assert (rows.shape, scores.shape) == ((0, k), (0, k))

    @pytest.mark.parametrize("rows", [1, 4])
    def test_offsets_are_added_to_the_products_with_the_first_rows(self, rows: int) -> None:
        generator = np.random.default_rng(rows)
        V, known, k = 700, 690, 5
        vectors = generator.integers(-1, 2, (V, 3)).astype(np.float32)
        queries = generator.integers(-1, 2, (4, 3)).astype(np.float32)
        offsets = generator.integers(-3, 4, (rows, known)).astype(np.float32)
        extended = np.concatenate([vectors, np.eye(V, dtype=np.float32)], axis=1)
        full = np.pad(np.broadcast_to(offsets, (4, known)), ((0, 0), (0, V - known)))
        index, parts = self.make(vectors), Parts([np.arange(V), np.arange(0, V, 3)])
        pages = index.search_parts(queries, k, parts, offsets=offsets)
        for found, mask in ((index.search(queries, k, offsets=offsets), None), *zip(pages, parts.sets, strict=True)):
            allowed = np.ones(V, bool) if mask is None else np.isin(np.arange(V), mask)
            for number in range(4):
                one = np.concatenate([queries[number], full[number]])
                assert (found[0][number].tolist(), found[1][number].tolist()) == brute_force(extended, one, k, allowed)

    @pytest.mark.parametrize("shape", [(2, 6), (3, 7)])
    def test_offsets_of_another_shape_are_refused(self, shape: tuple[int, int]) -> None:
        index, queries = self.make(np.ones((6, 4), np.float32)), np.ones((3, 4), np.float32)
        for search in (
            lambda: index.search(queries, 2, offsets=np.zeros(shape, np.float32)),
            lambda: index.search_parts(queries, 2, Parts([np.arange(6)]), offsets=np.zeros(shape, np.float32)),
        ):
            with pytest.raises(BadBatch, match="offsets have the shape"):
                search()

    def test_parts_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(BadBatch, match="row 6; this index has 0 … 5"):
            self.make(np.ones((6, 4), np.float32)).search_parts(np.ones((1, 4), np.float32), 2, Parts([np.array([6])]))

    @pytest.mark.parametrize("shared", [True, False])
    def test_nothing_allowed_finds_nothing(self, shared: bool) -> None:
        self.check(V=5, B=3, k=2, density=0.0, shared=shared, seed=0)

    @pytest.mark.parametrize(("V", "B", "k"), [(0, 2, 3), (4, 0, 2), (1, 1, 1), (4, 2, 0)])
    def test_empty_and_smallest_shapes(self, V: int, B: int, k: int) -> None:
        self.check(V=V, B=B, k=k, density=None, shared=False, seed=0)
        self.check(V=V, B=B, k=k, density=0.5, shared=False, seed=1)

    def test_the_best_row_of_a_vector_is_itself(self) -> None:
        vectors = np.eye(7, dtype=np.float32)
        rows, scores = self.make(vectors).search(vectors, 1)
        assert rows[:, 0].tolist() == list(range(7))
        assert scores[:, 0].tolist() == [1.0] * 7

    def test_permuting_queries_permutes_answers(self) -> None:
        generator = np.random.default_rng(3)
        index = self.make(generator.normal(size=(11, 4)).astype(np.float32))
        queries = generator.normal(size=(5, 4)).astype(np.float32)
        allowed = generator.random((5, 11)) < 0.6
        order = np.array([3, 0, 4, 1, 2])
        rows, scores = index.search(queries, 4, allowed)
        permuted_rows, permuted_scores = index.search(queries[order], 4, allowed[order])
        np.testing.assert_array_equal(permuted_rows, rows[order])
        np.testing.assert_allclose(permuted_scores, scores[order], atol=1e-5)

    def test_searching_changes_neither_queries_nor_mask(self) -> None:
        index = self.make(np.eye(4, dtype=np.float32))
        queries, allowed = np.ones((2, 4), np.float32), np.array([[True, False, True, False]])
        index.search(queries, 3, allowed)
        assert (queries == 1).all()
        assert allowed.tolist() == [[True, False, True, False]]

    @pytest.mark.parametrize("shape", [(2, 3), (2, 5), (4,), (0, 3), (1, 2, 4)])
    def test_queries_of_another_width_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(BadBatch, match="width 4"):
            self.make(np.ones((6, 4), np.float32)).search(np.ones(shape, np.float32), 2)

    @pytest.mark.parametrize("shape", [(3, 5), (3, 7), (2, 6), (4, 6), (6,), (1, 5)])
    def test_masks_of_another_shape_are_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(BadBatch, match="allowed has the shape"):
            self.make(np.ones((6, 4), np.float32)).search(np.ones((3, 4), np.float32), 2, np.ones(shape, bool))
