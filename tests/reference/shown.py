"""Sets of candidates with their pasts, event by event."""

from upnext.events.log import EventLog


def slow_sets(log: EventLog, rows: list[int], window_ms: int | None) -> dict[tuple[int, ...], list[int]]:
    """Per set, named by the rows of its candidates: the rows that it may know."""
    time_ms, user, group = log.rows.time_ms.tolist(), log.rows.user.tolist(), log.groups.tolist()
    begins = {g: min(n for n in range(len(log)) if group[n] == g) for g in set(group)}
    sets: dict[tuple[int, int], list[int]] = {}
    for row in rows:
        asked = time_ms[begins[group[row]]]
        number = group[row] if window_ms is None else asked // window_ms
        sets.setdefault((user[row], number), []).append(row)
    known = {}
    for members in sets.values():
        first = members[0]
        begin = begins[group[first]]
        until = time_ms[begin] if window_ms is None else time_ms[begin] // window_ms * window_ms
        known[tuple(members)] = [
            n
            for n in range(len(log))
            if user[n] == user[first] and (n < begin if window_ms is None else n < begin and time_ms[n] < until)
        ]
    return known
