"""Aggregates by a loop over every event for every question."""

import math

from upnext.base.views import ALL
from upnext.features.aggregates import Aggregate, Past, Questions


def slow_aggregate(aggregate: Aggregate, past: Past, questions: Questions, question: int) -> float:
    now = int(questions.time_ms[question])
    values, times = [], []
    for event in range(len(past.time_ms)):
        time = int(past.time_ms[event])
        if any(past.keys[name][event] != questions.keys[name][question] for name in aggregate.by) or time >= now:
            continue
        if aggregate.window is not None and time < now - aggregate.window:
            continue
        if aggregate.view != ALL and not past.views[aggregate.view][event]:
            continue
        if aggregate.feedback is not None:
            column = past.feedback[aggregate.feedback]
            if not column.observed[event]:
                continue
            values.append(float(column.values[event]))
        times.append(time)
    if aggregate.what == "count":
        return len(times)
    if not times:
        return math.nan
    if aggregate.what == "mean":
        return sum(values) / len(values)
    return now - (max(times) if aggregate.what == "recency" else min(times))
