"""Sibling groups as a slow loop, to be read beside `upnext.events.log.sibling_groups`."""

from collections.abc import Sequence


def groups(
    user: Sequence[int], time_ms: Sequence[int], request: Sequence[int], *, has_times: bool, request_safe: bool
) -> list[int]:
    """Number the groups of events sorted by (user, time, order).

    Two events of one user are siblings if they have the same time (where times mean something) or the same request
    (-1 is none). A group holds all that lies between two siblings: what is shown with either is hidden from both.
    """
    count = len(user)
    joined = [False] * count  # to the event before
    for i in range(count):
        for j in range(i + 1, count):
            same_time = has_times and time_ms[i] == time_ms[j]
            same_request = request[i] >= 0 and request[i] == request[j]
            if request_safe and user[i] == user[j] and (same_time or same_request):
                joined[i + 1 : j + 1] = [True] * (j - i)
    numbers: list[int] = []
    for is_joined in joined:
        numbers.append(numbers[-1] if is_joined else len(set(numbers)))
    return numbers
