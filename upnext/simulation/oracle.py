"""The oracle: the scores of a recommender that knows the truth. No model can be better on average.

Shape letters: B requests, V titles, M remembered watches, W watches.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upnext.base.errors import BadBatch, NotFound
from upnext.base.schema import ITEM_ID, USER_ID
from upnext.simulation.files import Truth, read_truth
from upnext.simulation.people import DEVICES, SURFACES
from upnext.simulation.policy import expected_examination, inclusion, policy_probabilities
from upnext.simulation.response import click_rate, expected_response, log_watch_rate
from upnext.simulation.truth import MEMORY, World, sequence_effect, utility
from upnext.simulation.world import Simulation

__all__ = ["Oracle"]

_BLOCK = 512


class Oracle:
    """Knows every title's probability of being the next one watched, before the request is answered."""

    def __init__(self, truth: Truth) -> None:
        self.world: World = truth.world
        self.item_ids: list[str] = truth.item_ids
        """V external ids: the order of the scores."""
        self._watches = truth.watches
        self._user_rows = {user_id: row for row, user_id in enumerate(truth.user_ids)}
        self._offsets = np.searchsorted(truth.watches.user, np.arange(len(truth.user_ids) + 1))

    @classmethod
    def from_folder(cls, folder: Path) -> "Oracle":
        """Read the truth beside a simulated log.

        Raises:   BadArtifact: no truth there, or not one this version can read.
        """
        return cls(read_truth(folder))

    @classmethod
    def from_simulation(cls, simulation: Simulation) -> "Oracle":
        """Take the truth of a simulation in memory."""
        item_ids = simulation.items[ITEM_ID].to_list()
        user_ids = simulation.users[USER_ID].to_list()
        return cls(Truth(simulation.world, simulation.watches, item_ids, user_ids))

    def scores(
        self, user_id: Sequence[str], time_ms: NDArray[np.int64], surface: Sequence[str], device: Sequence[str]
    ) -> NDArray[np.float32]:
        """Compute the log-probability that each title is the next one watched, up to a constant per request.

        Organic (`search`): log softmax(U) + log P(played >= 1/2). Recommended: log P(shown and examined) under the
        logging policy (mean-field) + log P(click | examined) + log P(played >= 1/2).

        Args:     user_id, surface, device: B names each; time_ms: (B,). The user's state is every watch strictly
                  before `time_ms`.
        Returns:  (B, V) float32 in the order of `item_ids`; -inf for titles not yet released.
        Raises:   NotFound: a user that was never simulated.
                  BadBatch: unequal lengths; an unknown surface or device.
        """
        time_ms = np.asarray(time_ms, dtype=np.int64)
        if not len(user_id) == len(time_ms) == len(surface) == len(device):
            raise BadBatch(
                f"the oracle got {len(user_id)} users, {len(time_ms)} times, {len(surface)} surfaces and "
                f"{len(device)} devices; give one of each per request"
            )
        users = self._rows_of(user_id)
        surfaces = _codes(surface, SURFACES, "surface")
        devices = _codes(device, DEVICES, "device")
        memory = self.memory(users, time_ms)
        scores = np.empty((len(users), self.world.num_items), dtype=np.float32)
        for surface_is_list in (False, True):
            chosen = np.flatnonzero((surfaces > 0) == surface_is_list)
            for first in range(0, len(chosen), _BLOCK):
                b = chosen[first : first + _BLOCK]
                scores[b] = self._block(users[b], memory[b], time_ms[b], surfaces[b], devices[b])
        return scores

    def expected_feedback(
        self,
        user_id: Sequence[str],
        time_ms: NDArray[np.int64],
        surface: Sequence[str],
        device: Sequence[str],
        case: NDArray[np.int64],
        item_id: Sequence[str],
    ) -> dict[str, NDArray[np.float64]]:
        """Compute what the truth expects of titles that were shown or searched: click, played, like, dislike.

        A title of a list is examined with the mean over the places where the logging policy would have put it, given
        that it was shown (mean-field); its own place is not known, as a recommender does not know it beforehand.

        Args:     user_id, time_ms, surface, device: B requests, as for `scores`; case: (N,) the request of each title;
                  item_id: N titles.
        Returns:  (N,) float64 each.
        Raises:   NotFound: a user or a title that was never simulated.
        """
        users, items = self._rows_of(user_id), self._items_of(item_id)
        surfaces, devices = _codes(surface, SURFACES, "surface"), _codes(device, DEVICES, "device")
        memory = self.memory(users, time_ms)
        value, click = np.empty(len(items), np.float32), np.ones(len(items), np.float32)
        by_case = np.argsort(case, kind="stable")
        for first in range(0, len(users), _BLOCK):
            b = np.arange(first, min(first + _BLOCK, len(users)))
            asked = by_case[slice(*np.searchsorted(case[by_case], (b[0], b[-1] + 1)))]
            row, item = case[asked] - first, items[asked]
            effect = sequence_effect(self.world, memory[b])
            value[asked] = utility(self.world, users[b], effect, time_ms[b], devices[b])[row, item]
            odds = policy_probabilities(self.world, users[b], effect, time_ms[b], surfaces[b])
            length = self.world.config.list_length
            seen = expected_examination(odds, length)[row, item] / inclusion(odds, length)[row, item]
            click[asked] = np.where(surfaces[b][row] > 0, seen * click_rate(value[asked]), 1.0)
        return expected_response(value, click)

    def memory(self, users: NDArray[np.int64], time_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        """Look up the last M titles that each user watched strictly before a time.

        Args:     users: (B,) rows; time_ms: (B,).
        Returns:  (B, M) int64, newest last, padded in front with V.
        """
        begin, end = self._offsets[users], self._offsets[users + 1]
        before = np.array(
            [
                first + np.searchsorted(self._watches.time_ms[first:last], time, side="left")
                for first, last, time in zip(begin, end, time_ms, strict=True)
            ],
            dtype=np.int64,
        )
        index = before[:, None] + np.arange(-MEMORY, 0)
        items = np.r_[self._watches.item, self.world.num_items]
        return np.where(index >= begin[:, None], items[np.maximum(index, 0)], self.world.num_items)

    def _block(
        self,
        users: NDArray[np.int64],
        memory: NDArray[np.int64],
        time_ms: NDArray[np.int64],
        surface: NDArray[np.int64],
        device: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Score one block whose surfaces are either all organic or all recommended."""
        effect = sequence_effect(self.world, memory)
        value = utility(self.world, users, effect, time_ms, device)
        if surface[0] == 0:
            top = value.max(axis=1, keepdims=True)
            log_chosen = value - top - np.log(np.exp(value - top).sum(axis=1, keepdims=True))
            return np.asarray(log_chosen + log_watch_rate(value), dtype=np.float32)
        odds = policy_probabilities(self.world, users, effect, time_ms, surface)
        with np.errstate(divide="ignore"):
            log_seen = np.log(expected_examination(odds, self.world.config.list_length))
            log_click = np.log(click_rate(value))
        return np.asarray(log_seen + log_click + log_watch_rate(value), dtype=np.float32)

    def _items_of(self, item_id: Sequence[str]) -> NDArray[np.int64]:
        rows = {name: row for row, name in enumerate(self.item_ids)}
        try:
            return np.array([rows[name] for name in item_id], dtype=np.int64)
        except KeyError as error:
            raise NotFound(f"item {error.args[0]!r} was never simulated; ask for one of items.parquet") from None

    def _rows_of(self, user_id: Sequence[str]) -> NDArray[np.int64]:
        try:
            return np.array([self._user_rows[name] for name in user_id], dtype=np.int64)
        except KeyError as error:
            raise NotFound(f"user {error.args[0]!r} was never simulated; ask for one of users.parquet") from None


def _codes(names: Sequence[str], allowed: tuple[str, ...], what: str) -> NDArray[np.int64]:
    codes = {name: code for code, name in enumerate(allowed)}
    try:
        return np.array([codes[name] for name in names], dtype=np.int64)
    except KeyError as error:
        raise BadBatch(f"{what} {error.args[0]!r} is unknown; allowed: {', '.join(allowed)}") from None
