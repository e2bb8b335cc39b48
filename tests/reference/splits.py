"""Splits as slow loops, to be read beside `upnext.events.split`."""

from collections.abc import Sequence

TRAIN, VALIDATION, TEST, UNUSED = 0, 1, 2, 3


def global_time(time_ms: Sequence[int], *, gap: int, validation: int, test: int) -> list[int]:
    """The last `test` milliseconds of the log test, those before validate, the gap before them is unused."""
    parts = []
    for time in time_ms:
        before_end = max(time_ms) - time  # 0 for the last event
        if before_end < test:
            parts.append(TEST)
        elif before_end < test + validation:
            parts.append(VALIDATION)
        elif before_end < test + validation + gap:
            parts.append(UNUSED)
        else:
            parts.append(TRAIN)
    return parts


def leave_last_out(user: Sequence[int], is_target: Sequence[bool]) -> list[int]:
    """Each user's last target tests, the one before validates; nothing from there on trains."""
    parts = [TRAIN] * len(user)
    for somebody in set(user):
        rows = [row for row in range(len(user)) if user[row] == somebody]
        targets = [row for row in rows if is_target[row]]
        if len(targets) < 3:
            continue
        for row in rows:
            if row >= targets[-2]:
                parts[row] = UNUSED
        parts[targets[-2]], parts[targets[-1]] = VALIDATION, TEST
    return parts
