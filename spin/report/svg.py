"""Matplotlib figures as SVG that takes the page's colours and font, in light and dark.

Matplotlib writes fixed colours. Each role is drawn in a placeholder colour of its own, and that is
replaced by a CSS variable afterwards. Ids, metadata and namespaces are dropped or made unique, so many
figures stand in one page and equal inputs give equal bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Final

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK: Final = "#010101"
MUTED: Final = "#020202"
GRID: Final = "#030303"
ACCENT: Final = "#040404"
REAL: Final = "#050505"
GENERATED: Final = "#060606"
PAPER: Final = "#070707"
RAMP: Final = tuple(f"#1010{10 + step}" for step in range(8))  # early to late
_VARIABLES: Final = {
    INK: "ink", MUTED: "muted", GRID: "rule", ACCENT: "accent", REAL: "real", GENERATED: "generated", PAPER: "paper",
    **{colour: f"ramp-{step}" for step, colour in enumerate(RAMP)},
}  # fmt: skip
_LIGHT: Final = {  # of page.css
    "ink": "#171c22", "muted": "#5d6773", "rule": "#dde1e3", "accent": "#12586f", "real": "#12586f",
    "generated": "#b4501f", "paper": "#fdfdfc",
    **{f"ramp-{step}": colour for step, colour in enumerate(
        ("#a9c6d0", "#90b5c2", "#77a4b4", "#5e92a5", "#468095", "#2f6d83", "#1c5a70", "#0c465a"))},
}  # fmt: skip
_STYLE: Final = {
    "svg.fonttype": "none", "font.size": 8.5, "axes.labelsize": 8.5, "text.parse_math": False,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "axes.edgecolor": GRID, "text.color": INK,
    "axes.labelcolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED, "xtick.major.size": 0,
    "ytick.major.size": 0, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "legend.frameon": False, "legend.handlelength": 1.6, "lines.solid_capstyle": "round", "lines.linewidth": 1.5,
    "axes.linewidth": 0.8, "axes.unicode_minus": True,
}  # fmt: skip


class Drawing(Markup):
    """An inline SVG that knows its name and title."""

    name: str
    heading: str


def draw(paint: Callable[[Axes], None], *, name: str, title: str, size: tuple[float, float] = (3.8, 2.35)) -> Drawing:
    """Let `paint` draw on fresh axes and return the inline SVG.

    Args:
        paint: gets the axes.
        name: unique in the page; ids inside the figure derive from it.
        title: what a screen reader says, and the heading inside the figure.
        size: inches.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        layout = ConstrainedLayoutEngine()
        figure = Figure(figsize=size, layout=layout)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        figure.suptitle(title, x=0.005, ha="left", fontsize=9.5, fontweight="bold")
        paint(axes)
        layout.execute(figure)
        figure.set_layout_engine(None)  # else savefig draws all once more, for the layout alone
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    drawing = Drawing(_inline(stream.getvalue(), title))  # noqa: S704 - matplotlib escapes the text it writes
    drawing.name, drawing.heading = name, title
    return drawing


def standalone(drawing: Drawing) -> str:
    """The same figure as a file of its own, in the light colours of the page, with its own font."""
    text = str(drawing)
    for variable, colour in _LIGHT.items():
        text = text.replace(f"var(--{variable})", colour)
    text = text.replace("var(--sans)", "Helvetica, Arial, sans-serif")
    return text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def ramp(position: int, count: int) -> str:
    """Colour of the position-th of count ordered things: the last is the strongest."""
    return RAMP[-1] if count < 2 else RAMP[round(position * (len(RAMP) - 1) / (count - 1))]


def note(axes: Axes, text: str, height: float) -> None:
    """A small remark above a level line, at the right."""
    place = axes.get_yaxis_transform()
    label = axes.annotate(text, (1, height), xycoords=place, xytext=(0, 3), textcoords="offset points", ha="right")
    label.set(fontsize=7.5, color=MUTED)


def _inline(text: str, title: str) -> str:
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>\s*", "", body, flags=re.DOTALL)  # it would style the whole page
    referred = set(re.findall(r"#([\w.-]+)", body))
    body = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in referred else "", body)
    body = body.replace("xlink:href", "href")
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    view = re.search(r'viewBox="[^"]+"', body)
    assert view is not None
    opening = f'<svg {view[0]} role="img" aria-label="{escape(title)}">'
    return re.sub(r"\n\s*", "\n", re.sub(r"^<svg[^>]*>", lambda _: opening, body)).strip()
