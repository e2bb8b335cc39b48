"""States: what the retriever keeps of each user, computed ahead of time and read when the user asks.

A retriever with a lag is made for states of some age. Its release holds one of every user, as of the end of the log;
`refresh` writes newer ones into the live store, under a version that nobody reads until one key names it. So a reader,
in whatever process, finds the old states or the new ones, whole.

s/<user>               a state, in a release's store
v/<version><user>      a state, in the live store
vp/<release>           in the live store: the version that servers of this release read

Shape letters: B users.
"""

import secrets
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from upnext.base.batches import State
from upnext.base.ids import ExternalId, stable_hash
from upnext.base.protocols import Store
from upnext.serving.histories import Histories
from upnext.serving.pasts import Pasts
from upnext.serving.release import Release
from upnext.serving.retrieve import encode, lag_ms

__all__ = ["Refreshed", "is_state", "pack_states", "refresh", "state_key", "user_states"]

_STATE, _VERSION, _POINTER = b"s/", b"v/", b"vp/"
_VERSION_BYTES = 8
_USERS = 2048
"""Users whose states are computed and written together."""
_TOKENS = 8192


class _Stored(msgspec.Struct, frozen=True):
    """A user's state: it knows every event strictly before a moment, and they were so many."""

    until_ms: int
    num_events: int
    tensors: dict[str, tuple[str, list[int], bytes]]
    """By name: the type, the shape, the numbers."""


def state_key(user_id: ExternalId) -> bytes:
    """Where a release's store keeps a user's state."""
    return _STATE + _user(user_id)


def is_state(key: bytes) -> bool:
    """Whether a key of the live store belongs to what `refresh` writes."""
    return key.startswith((_VERSION, _POINTER))


def pack_states(state: State, until_ms: int, counts: NDArray[np.int64]) -> list[bytes]:
    """Each user's state as a value of a store.

    Args:     until_ms: it knows every event strictly before this; counts: (B,) how many these were.
    """
    arrays = {name: tensor.numpy() for name, tensor in state.tensors.items()}
    return [
        msgspec.msgpack.encode(
            _Stored(
                until_ms,
                int(count),
                {
                    name: (array.dtype.str, list(array.shape[1:]), array[row].tobytes())
                    for name, array in arrays.items()
                },
            )
        )
        for row, count in enumerate(counts)
    ]


def user_states(
    release: Release,
    histories: Histories,
    user_ids: Sequence[ExternalId],
    pasts: Pasts,
    time_ms: NDArray[np.int64],
    max_tokens: int | None = None,
) -> tuple[State, NDArray[np.int64]]:
    """The retriever's state of each user: the stored one, where there is one; else it is encoded now.

    Args:     pasts: what each user did before `time_ms` (B,); max_tokens: as in `encode`.
    Returns:  the states, and (B,) the moment strictly before which each knows everything.
    """
    model = release.retriever
    lag = lag_ms(model, release.settings.lag)
    until = time_ms - lag if lag else time_ms
    if not release.stores_states:
        return encode(model, pasts.before(until) if lag else pasts, max_tokens), until
    # A state from after the request would know the future, and one within the release's lag what is to stay unknown.
    latest = (time_ms - release.settings.lag).tolist()
    found = [
        one if one is not None and one.until_ms <= moment else None
        for one, moment in zip(_read(release, histories.live, user_ids), latest, strict=True)
    ]
    stored = np.flatnonzero([one is not None for one in found])
    others = np.flatnonzero([one is None for one in found])
    parts = [_joined([one for one in found if one is not None])] if len(stored) else []
    if len(others):
        parts.append(encode(model, pasts.before(until).of(others), max_tokens))
    until = np.array([one.until_ms if one is not None else moment for one, moment in zip(found, until, strict=True)])
    return State.concatenate(parts).take(torch.from_numpy(np.argsort(np.concatenate([stored, others])))), until


@dataclass(frozen=True)
class Refreshed:
    """How many users' states were computed, and how many refreshed before were still up to date."""

    num_computed: int
    num_kept: int


def refresh(
    release: Release,
    live: Store,
    now_ms: int,
    *,
    everyone: bool,
    releases: Collection[str],
    tell: Callable[[int], None] = lambda _: None,
) -> Refreshed:
    """Compute states anew, of users with events that their states do not know or of everyone, for servers to read.

    A kill at any moment leaves the states that were read before; what it wrote is removed by the next call. Only one
    process may be in here.

    Args:     now_ms: the states know everything strictly before it, less the release's lag. releases: whose states are
              worth keeping.
              tell: called with the number of users of each block that is written.
    """
    histories, until_ms = Histories(release, live), now_ms - release.settings.lag
    _remove_unread(live, releases)
    posted = Counter(event.user_id for event in histories.posted())
    # A row that amends an event adds none, and a state that does not know it is as old as one that lacks an event.
    num_amending = posted - Counter(event.user_id for event in histories.new_events())
    users = list(dict.fromkeys([*(release.users.ids if everyone else []), *posted]))
    version, done = secrets.token_bytes(_VERSION_BYTES), Refreshed(0, 0)
    for begin in range(0, len(users), _USERS):
        block = users[begin : begin + _USERS]
        pasts = histories.read_many(block).before(np.array(until_ms))
        known = _read(release, live, block)
        counts = pasts.lengths + np.array([num_amending[user] for user in block], np.int64)
        stale = [
            everyone or one is None or one.num_events != count
            for one, count in zip(known, counts.tolist(), strict=True)
        ]
        chosen = np.flatnonzero(stale)
        values = _carried(
            release, live, version, [user for user, is_stale in zip(block, stale, strict=True) if not is_stale]
        )
        done = Refreshed(done.num_computed + len(chosen), done.num_kept + len(values))
        if len(chosen):
            some = pasts.of(chosen)
            with torch.inference_mode():
                state = encode(release.retriever, some.below(len(release.catalogue)), _TOKENS)
            keys = [_VERSION + version + _user(block[number]) for number in chosen]
            values |= dict(zip(keys, pack_states(state, until_ms, counts[chosen]), strict=True))
        live.put(values)
        tell(len(block))
    if users:
        live.put({_POINTER + release.name.encode(): version})
    return done


def _user(user_id: ExternalId) -> bytes:
    return stable_hash(user_id).to_bytes(8, "big", signed=True)


def _version(release: Release, live: Store | None) -> bytes | None:
    return None if live is None else live.get([_POINTER + release.name.encode()])[0]


def _read(release: Release, live: Store | None, user_ids: Sequence[ExternalId]) -> list[_Stored | None]:
    """Each user's state: the refreshed one, else that of the release, else none."""
    users = [_user(user_id) for user_id in user_ids]
    found = release.histories.get([_STATE + user for user in users])
    if live is not None and (version := _version(release, live)) is not None:
        newer = live.get([_VERSION + version + user for user in users])
        found = [old if new is None else new for new, old in zip(newer, found, strict=True)]
    return [None if one is None else msgspec.msgpack.decode(one, type=_Stored) for one in found]


def _carried(release: Release, live: Store, version: bytes, user_ids: Sequence[ExternalId]) -> dict[bytes, bytes]:
    """What the version that is read now has of some users, as parts of a new one."""
    current = _version(release, live)
    if current is None:
        return {}
    users = [_user(user_id) for user_id in user_ids]
    found = zip(users, live.get([_VERSION + current + user for user in users]), strict=True)
    return {_VERSION + version + user: value for user, value in found if value is not None}


def _remove_unread(live: Store, releases: Collection[str]) -> None:
    """Remove versions that no release reads: those before the current one, and what a kill left."""
    pointers = dict(live.scan(_POINTER))
    gone = [key for key in pointers if key.removeprefix(_POINTER).decode() not in releases]
    live.delete(gone)
    kept = {version for key, version in pointers.items() if key not in gone}
    for first in range(256):  # in parts: they may be many
        keys = [key for key, _ in live.scan(_VERSION + bytes([first]))]
        live.delete([key for key in keys if key[len(_VERSION) :][:_VERSION_BYTES] not in kept])


def _joined(stored: Sequence[_Stored]) -> State:
    """The states of some users, all of one shape."""
    tensors = {}
    for name, (dtype, shape, _) in stored[0].tensors.items():
        numbers = bytearray(b"".join([one.tensors[name][2] for one in stored]))
        tensors[name] = torch.from_numpy(np.frombuffer(numbers, dtype).reshape(len(stored), *shape))
    return State(tensors)
