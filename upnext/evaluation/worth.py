"""What rankers gain: over those that they extend, and from each of their inputs, as tables."""

from upnext.evaluation.report import Report
from upnext.evaluation.tables import Cell, Table

__all__ = ["importance_tables", "uplift_table"]

_SHOWN_INPUTS = 20


def uplift_table(report: Report) -> Table | None:
    """What models gain over those that they extend: a line per pair."""
    if not report.uplift:
        return None
    lines = []
    for row in report.uplift:
        rise, low, high = (f"{row[key]:+.2%}".replace("-", "−") for key in ("value", "low", "high"))
        accuracies = [Cell(f"{row[key]:.4f}") for key in ("over_value", "of_value")]
        lines.append((f"{row['of']} over {row['over']}", [Cell(rise, f"[{low}, {high}]"), *accuracies]))
    note = "How much the pair accuracy rises, as a share of what it was; users are resampled for both at once"
    return Table("Pair accuracy", note, "Models", ["Uplift", "Before", "After"], lines)


def importance_tables(report: Report) -> list[Table]:
    """What each input is worth to a ranker: a line per input, those that are worth most first."""
    tables = []
    for model in dict.fromkeys(row["model"] for row in report.importance):
        of = {(row["input"], row["output"]): row["value"] for row in report.importance if row["model"] == model}
        outputs = list(dict.fromkeys(output for _, output in of))
        most = {name: max(of.get((name, output), 0.0) for output in outputs) for name, _ in of}
        lines = [
            (
                name,
                [
                    Cell(f"{of[name, output]:.1%}".replace("-", "−") if (name, output) in of else "–")
                    for output in outputs
                ],
            )
            for name in sorted(most, key=lambda one: -most[one])[:_SHOWN_INPUTS]
        ]
        is_network = any(output.startswith(("feedback.", "pairs", "lists")) for output in outputs)
        note = (
            "By how much the loss of held-out candidates rises when an input is that of another candidate or request"
            if is_network
            else "The share of all that the splits of the trees gained"
        )
        tables.append(Table(model, note, "Input", outputs, lines))
    return tables
