"""Charts of the curves over all phases of a run, as SVG in the page's colours. Start at `draw_curves`."""

import io
from typing import Any
from xml.etree import ElementTree

from thaw.figures.style import PHASES
from thaw.network.history import best_row, by_phase

# matplotlib writes colours as numbers. Each stands for a variable of the page, which differs for light and dark pages.
_SOFT, _RULE, *_PHASES = (f"#{number:06x}" for number in range(1, 3 + len(PHASES)))
_VARIABLES = {_SOFT: "soft", _RULE: "rule"} | {color: f"p{number}" for number, color in enumerate(_PHASES)}
# Number of phase colours: --p0 and on in the page.
COLORS = len(_PHASES)

_SOLID: dict[str, Any] = {"marker": "o", "markersize": 4}
_DOTTED: dict[str, Any] = {"marker": "x", "markersize": 3.5, "markeredgewidth": 0.8, "linestyle": (0, (0.6, 2))}
_KEPT: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "linestyle": "none"}
_TEXT: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
}
# Ticks are these times a power of ten.
_STEPS = [1, 2, 5, 10]

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


def draw_curves(
    history: list[dict[str, Any]], title: str, solid: str, dotted: str | None = None, zoom: bool = True
) -> str | None:
    """Draw one or two columns of a history over epochs, each phase in its colour, with a ring at the epoch it kept.

    Args:
        history: rows of all phases, as thaw.training writes them.
        title: the quantity on the vertical axis.
        solid: the column that is a solid line with dots.
        dotted: the column that is a dotted line with crosses.
        zoom: leave the first row, before any training, out of the vertical scale; otherwise the scale starts at 0.

    Returns:
        An svg element, the same bytes for the same history; None where nothing was trained.
    """
    import matplotlib
    from matplotlib.figure import Figure

    styles = {solid: _SOLID} | ({dotted: _DOTTED} if dotted else {})
    values = [row[column] for row in history[zoom:] for column in styles if row[column] is not None]
    if not values:
        return None
    low, high = _limits(values, zoom)
    phases = by_phase(history)
    tooltips: dict[str, list[str]] = {}
    # Identifiers are salted hashes: they must differ between two charts on one page.
    with matplotlib.rc_context(_TEXT | {"svg.hashsalt": title}):
        figure = Figure(figsize=(5, 3.2), layout="constrained", facecolor="none")
        axes = figure.subplots()
        _set_up(axes, max(row["epoch"] for row in history), low, high)
        for number, (phase, rows) in enumerate(phases.items()):
            axes.axvline(rows[0]["epoch"], color=_SOFT, alpha=0.45, linewidth=1, linestyle=(0, (2, 3)), clip_on=False)
            for column, style in styles.items():
                points = [(row["epoch"], row[column]) for row in rows if row[column] is not None]
                # The first row may lie off the scale.
                points = [(epoch, value) for epoch, value in points if low <= value <= high]
                line, color = f"{phase}, {column}", _PHASES[number % COLORS]
                axes.plot(*zip(*points, strict=True), color=color, linewidth=1.6, clip_on=False, gid=line, **style)
                tooltips[line] = [f"{phase}, epoch {epoch}: {value:.4g}" for epoch, value in points]
            kept = best_row(rows)
            if kept[solid] is not None and low <= kept[solid] <= high:
                axes.plot(kept["epoch"], kept[solid], color=_PHASES[number % COLORS], clip_on=False, **_KEPT)
        drawing = io.StringIO()
        figure.savefig(drawing, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    label = f"{title} by epoch, phases {', '.join(phases)}; the numbers are in the table of phases"
    return _inline(drawing.getvalue(), label, tooltips)


def _limits(values: list[float], zoom: bool) -> tuple[float, float]:
    """The ends of the vertical scale: a margin around the values, or 0 and a margin above them."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return low - margin if zoom else 0, high + margin


def _set_up(axes, last: int, low: float, high: float) -> None:
    """Axes of epochs from 0 to the last, and of values, in the page's colours: a grid and no frame."""
    from matplotlib.ticker import MaxNLocator

    axes.set(facecolor="none", xlim=(0, last or 1), ylim=(low, high))
    axes.set_xlabel("epoch", color=_SOFT)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=_SOFT)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=_STEPS, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color=_RULE, clip_on=False)


def _inline(document: str, label: str, tooltips: dict[str, list[str]]) -> str:
    """An svg element for the page, from matplotlib's SVG document.

    Args:
        label: a description for screen readers.
        tooltips: texts of each line's markers, by the line's identifier.
    """
    root = ElementTree.fromstring(document)
    root.attrib |= {"role": "img", "aria-label": label}
    for group in root.iter(f"{{{_SVG}}}g"):
        # Charts share identifiers of their parts (axes_1); a page may have each only once.
        texts = tooltips.get(group.attrib.pop("id", ""), [])
        for marker, text in zip(group.iter(f"{{{_SVG}}}use") if texts else [], texts, strict=True):
            ElementTree.SubElement(marker, f"{{{_SVG}}}title").text = text
    svg = ElementTree.tostring(root, encoding="unicode")
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    return svg
