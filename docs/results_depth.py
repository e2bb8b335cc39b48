"""The tables of gradient attenuation, from the rows of benchmarks/attenuation.py."""

from collections.abc import Sequence
from typing import Any

from result_lines import table, way

__all__ = ["ATTENUATION", "attenuation_section"]

ATTENUATION = "attenuation"
_GRADIENTS = ("output", "joining", "joined history")
_REQUEST = ("user", "time", "place")

Row = dict[str, Any]


def attenuation_section(rows: list[Row]) -> list[str]:
    """Quality against layers, then gradients, then what each sub-model is worth and does not hold."""
    of = {(row["variant"], row["metric"]): row for row in rows}
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    settings = rows[0]["settings"]
    return [
        "## Gradient attenuation",
        "",
        "A main model whose two aggregators have no layer (sums), or several of self-attention, trained without masks",
        f"(*plain*) and with them (*masked*, w₁ = {settings['weight']}, rate {settings['rate']}). The loss is that of",
        "all feedback on the test part, at the epoch that is best on the validation part; the gap is how far the",
        "validation part's loss is above that of trained sets. In brackets Student's 95 % interval over seeds;",
        "differences are paired by seed.",
        "",
        "![Gradients, gaps and losses](images/attenuation.svg)",
        "",
        *_quality(of, variants),
        "",
        "Gradients, as root mean squares over parameters, means over training, in units of 10⁻⁴:",
        "",
        *_gradients(of, variants),
        "",
        "What a sub-model is worth: how much the validation part's loss grows where its input is another request's;",
        "and its gap, by how much it is worth more on trained sets. Both times 1,000, at the best epoch:",
        "",
        *_worth(of, variants),
        "",
        *way(rows[0]),
        "",
    ]


def _quality(of: dict[tuple[str, str], Row], variants: Sequence[str]) -> list[str]:
    plain = [name for name in variants if name.endswith(", plain")]
    header = ["Layers", "Test loss, plain", "masked", "masked − plain", "Best epoch, plain", "masked"]
    lines = []
    for name in plain:
        masked = name.replace(", plain", ", masked")
        cells = [(name, "test_loss"), (masked, "test_loss"), (masked, "test_loss, against plain")]
        shown = [_cell(of.get(cell), 4, is_signed="against" in cell[1]) for cell in cells]
        shown += [_mean(of.get((one, "best epoch")), 1) for one in (name, masked)]
        gaps = [(name, "gap at the end"), (masked, "gap at the end"), (masked, "gap at the end, against plain")]
        shown += [_cell(of.get(cell), 3, is_signed="against" in cell[1]) for cell in gaps]
        lines.append((name.removesuffix(", plain"), *shown))
    return table([*header, "Gap at the end, plain", "masked", "masked − plain"], lines)


def _gradients(of: dict[tuple[str, str], Row], variants: Sequence[str]) -> list[str]:
    aggregators = _aggregators(of)
    header = [*_GRADIENTS, *(f"{name}, {end} layer" for name in aggregators for end in ("first", "last"))]
    lines = []
    for variant in variants:
        last = variant.split()[0]
        layers = [f"{name}, layer {end}" for name in aggregators for end in (1, last)]
        cells = [of.get((variant, f"gradient of {name}")) for name in [*_GRADIENTS, *layers]]
        lines.append((variant, *(_mean(cell, 2, 1e4) for cell in cells)))
    return table(["", *header], lines)


def _worth(of: dict[tuple[str, str], Row], variants: Sequence[str]) -> list[str]:
    names = [*_aggregators(of), *_REQUEST]
    header = [f"{name}: {what}" for name in names for what in ("worth", "gap")]
    lines = [
        (
            variant,
            *(_mean(of.get((variant, f"{what} of {name}")), 1, 1e3) for name in names for what in ("worth", "gap")),
        )
        for variant in variants
    ]
    return table(["", *header], lines)


def _aggregators(of: dict[tuple[str, str], Row]) -> list[str]:
    """Their names, in the order of the rows."""
    found = (metric.removeprefix("worth of ") for _, metric in of if metric.startswith("worth of "))
    return list(dict.fromkeys(name for name in found if name not in _REQUEST))


def _cell(row: Row | None, digits: int, *, is_signed: bool = False) -> str:
    """A mean with its interval over seeds."""
    if row is None:
        return "–"
    shown = [f"{row[key]:{'+' * is_signed}.{digits}f}" for key in ("value", "low", "high") if row[key] is not None]
    return shown[0] + (f" [{shown[1]}, {shown[2]}]" if len(shown) == 3 else "")


def _mean(row: Row | None, digits: int, scale: float = 1.0) -> str:
    """A mean alone."""
    return "–" if row is None else f"{row['value'] * scale:.{digits}f}"
