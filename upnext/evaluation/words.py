"""What the figures of a report say, in sentences made from them."""

from typing import Any

from upnext.evaluation.report import Report
from upnext.evaluation.tables import Figures, short, signed

__all__ = ["popularity_of", "summary", "verdicts"]


def summary(report: Report, figures: Figures) -> str:
    """Say who is best and by how much, whether that is clear, what the oracle reaches, and for whom it works."""
    dots = figures.dots(report.primary_history_removed, "ndcg", figures.ks[0]) if figures.ks else []
    models = [dot for dot in dots if dot.role != "oracle"]
    if not models:
        return "Nothing was evaluated."
    best = models[0]
    baselines = [dot for dot in models if dot.name in figures.baselines]
    text = f"{best.name} reaches NDCG@{figures.ks[0]} {short(best.value)}"
    if best.low is not None and best.high is not None:
        text += f" [{short(best.low)}, {short(best.high)}]"
    if best in baselines:
        text += ": no model is better than this popularity baseline" if len(models) > len(baselines) else ""
    elif baselines:
        which = "the better popularity baseline" if len(baselines) > 1 else "the popularity baseline"
        text += f", {_times(best.value, baselines[0].value)} {which} ({baselines[0].name} {short(baselines[0].value)})"
    oracles = [dot for dot in dots if dot.role == "oracle"]
    text += "".join(f"; the oracle reaches {short(dot.value)}" for dot in oracles) + "."
    return " ".join([text, *_clearness(report, best.name), *_for_whom(report, best.name)])


def verdicts(report: Report) -> list[str]:
    """Say of each model whether its NDCG differs from the best baseline's: an interval without 0 is a clear one."""
    sentences = []
    for row in report.insights.differences:
        if row["metric"] == "ndcg" and row["value"] is not None and row["low"] is not None:
            relation = {
                1: "is clearly better than",
                0: "is not clearly different from",
                -1: "is clearly worse than",
            }[_sign(row)]
            sentences.append(
                f"{row['model']} {relation} {row['baseline']}: NDCG@{row['k']} {signed(row['value'])}"
                f" [{signed(row['low'])}, {signed(row['high'])}]."
            )
    return sentences


def popularity_of(report: Report, model: str) -> str:
    """Say how much a model recommends of what is popular anyway; empty where nobody knows."""
    shares = {row["model"]: row["shares"][0] for row in report.insights.popularity}
    if shares.get(model) is None or shares.get(None) is None:
        return ""
    return (
        f"{shares[model]:.0%} of what {model} recommends is from the most popular tenth of the catalogue;"
        f" of what people chose, {shares[None]:.0%}."
    )


def _sign(row: dict[str, Any]) -> int:
    return int(row["low"] > 0) - int(row["high"] < 0)


def _clearness(report: Report, best: str) -> list[str]:
    for row in report.insights.differences:
        if (row["model"], row["metric"]) == (best, "ndcg") and row["low"] is not None:
            ends = f"{short(row['value'])} [{short(row['low'])}, {short(row['high'])}]"
            return [
                f"The difference, {ends}, is clear." if _sign(row) > 0 else f"The difference, {ends}, is not clear."
            ]
    return []


def _for_whom(report: Report, best: str) -> list[str]:
    rows = [
        row
        for row in report.insights.segments
        if (row["dimension"], row["model"], row["metric"]) == ("History", best, "ndcg") and row["value"] is not None
    ]
    if len(rows) < 2:
        return []
    low, high = (min(rows, key=lambda row: row["value"]), max(rows, key=lambda row: row["value"]))
    return [
        f"By length of history it is highest for {high['segment']} events ({short(high['value'])})"
        f" and lowest for {low['segment']} ({short(low['value'])})."
    ]


def _times(value: float, base: float) -> str:
    if base <= 0:
        return "against"
    ratio = value / base
    return f"{ratio:.{2 if ratio < 1.2 else 1 if ratio < 10 else 0}f} times"
