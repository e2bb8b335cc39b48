"""What every plot of a report shares: the page's colours, a plain style, and SVG that is part of the page.

Colours are drawn as marks (#000001 …) and then become the page's CSS variables, so that one plot reads well on light
and on dark ground. Names are drawn as marks too: no name can be taken for mathematics or lack a glyph.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "COLORS",
    "GROUND",
    "INK",
    "LINE",
    "SOFT",
    "WIDTH",
    "framed",
    "inline",
    "new_figure",
    "plain_style",
    "printable",
    "standalone",
]

COLORS = """\
:root {
  color-scheme: light dark;
  --ground: #fbfaf8; --wash: #f0ede8; --ink: #24201c; --soft: #6c665f; --line: #e3dfd9; --accent: #a8481c;
  --ok: #2f6b45; --ok-wash: #e4f0e7; --warning: #97340f; --warning-wash: #fbe5d9;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #141317; --wash: #232227; --ink: #eceae6; --soft: #a19d97; --line: #34323a; --accent: #eaa46c;
    --ok: #8fcfa6; --ok-wash: #1d3326; --warning: #ffab85; --warning-wash: #43231a;
  }
}
"""
"""The style sheet of the colours, for the page around the plots."""

INK, SOFT, LINE, ACCENT, GROUND = "#000001", "#000002", "#000003", "#000004", "#000005"
_VARIABLES = {INK: "--ink", SOFT: "--soft", LINE: "--line", ACCENT: "--accent", GROUND: "--ground"}
WIDTH = 440  # a plot's own unit is one CSS pixel: two stand side by side, one fills a phone


def printable(text: str) -> str:
    """Text without what no page can show: control characters and halves of letters."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "�" for letter in text)


def framed(caption: str, svg: str) -> str:
    """A plot under its caption, both HTML."""
    return f"<figure><figcaption>{caption}</figcaption>{svg}</figure>"


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's own defaults and a few of ours, whatever the user's matplotlibrc says; undone at the end."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "upnext",
                "svg.fonttype": "none",
                "font.size": 13,
                "axes.facecolor": "none",
                "axes.edgecolor": LINE,
                "axes.axisbelow": True,
                "axes.spines.left": False,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "grid.color": LINE,
                "xtick.color": LINE,
                "xtick.labelcolor": SOFT,
                "xtick.labelsize": 12,
                "xtick.major.size": 3,
                "ytick.labelcolor": SOFT,
                "ytick.labelsize": 12,
                "ytick.major.size": 0,
            }
        )
        yield


def new_figure(height: int, left: int, right: int, bottom: int) -> "tuple[Figure, Axes]":
    """A figure without pyplot, its axes placed by hand: nothing depends on how wide a typeface is."""
    from matplotlib.figure import Figure

    top = 6
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    box = (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - bottom - top) / height)
    return figure, figure.add_axes(box)


def inline(figure: "Figure", label: str, texts: dict[str, str]) -> str:
    """Write a figure as an element for a page: no namespaces, no metadata, no style sheet, ids of its own."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    source = file.getvalue().decode()
    for mark, variable in _VARIABLES.items():
        source = source.replace(mark, f"var({variable})")
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', source))
    prefix = re.sub(r"\W+", "-", label)
    root = ElementTree.fromstring(source)
    for element in root.iter():
        for child in list(element):
            if _local(child.tag) in ("metadata", "style"):  # a style sheet would reach the whole page
                element.remove(child)
        attributes = {_local(name): value for name, value in element.attrib.items()}
        element.attrib.clear()
        for name, value in attributes.items():
            if name == "id" and value in used:
                element.set(name, f"{prefix}-{value}")
            elif name != "id":
                element.set(name, re.sub(r"^(url\(#|#)(?=\w+\)?$)", rf"\g<1>{prefix}-", value))
        element.tag = _local(element.tag)
        if element.tag == "text":
            element.text = texts.get(element.text or "", element.text)
    view_box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"viewBox": view_box, "role": "img", "aria-label": printable(label)})
    return ElementTree.tostring(root, encoding="unicode")


def standalone(svg: str) -> str:
    """A plot for a page as a document of its own: it brings the page's colours, and a ground to be read on."""
    box = [float(number) for number in (re.search(r'viewBox="([^"]+)"', svg) or ["", "0 0 1 1"])[1].split()]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{box[2]:g}" height="{box[3]:g}" '
    style = f"<style>{COLORS}text {{ font-family: sans-serif; }}</style>"
    ground = '<rect width="100%" height="100%" style="fill: var(--ground)"/>'
    return re.sub(r"^<svg ([^>]*)>", lambda found: f"{head}{found[1]}>{style}{ground}", svg) + "\n"


def _local(name: str) -> str:
    return name.rpartition("}")[2]
