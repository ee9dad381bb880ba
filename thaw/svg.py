"""Curves over all phases of a run, as SVG that follows the page's colours."""

import math
from collections.abc import Sequence
from typing import Any

from thaw.html import Html, element

# In the units of the drawing, which are pixels at the size that the page usually shows it.
_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 12, 34


def curves(history: list[dict[str, Any]], title: str, lines: dict[str, str], zoom: bool = True) -> Html:
    """One drawing: a line for each phase and column, over epochs.

    Args:
        history: rows as thaw.training writes them.
        title: of the vertical axis.
        lines: what to draw: columns of `history`, and the CSS class of each, `solid` or `dotted`.
        zoom: leave the first row, of what has learnt nothing yet, out of the vertical scale.
    """
    phases = list(dict.fromkeys(row["phase"] for row in history))
    known = [row[column] for row in history[1 if zoom else 0 :] for column in lines if row[column] is not None]
    if not known:
        return element("p", f"No {title}: nothing was trained.", class_="note")
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    low, high = (low - margin if zoom else 0), high + margin
    last = max(row["epoch"] for row in history) or 1

    def x(epoch: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * epoch / last, 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low), 1)

    parts = [*_axes(x, y, low, high, last)]
    for number, phase in enumerate(phases):
        rows = [row for row in history if row["phase"] == phase]
        start = x(rows[0]["epoch"])
        parts.append(element("line", x1=start, x2=start, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="start"))
        for column, kind in lines.items():
            # What lies below the scale, the first row, is not drawn.
            points = [
                (row["epoch"], row[column]) for row in rows if row[column] is not None and low <= row[column] <= high
            ]
            drawn = " ".join(f"{x(epoch)},{y(value)}" for epoch, value in points)
            parts.append(element("polyline", points=drawn, class_=f"{kind} phase{number % 8}"))
            if kind == "solid":
                parts += [
                    element(
                        "circle", element("title", f"{phase}, epoch {epoch}: {value:.4g}"),
                        cx=x(epoch), cy=y(value), r=2.4, class_=f"phase{number % 8}",
                    )
                    for epoch, value in points
                ]  # fmt: skip
    label = f"{title} by epoch, phases {', '.join(phases)}; the numbers are in the table of phases"
    drawing = element("svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label)
    return element("figure", element("figcaption", title), drawing, class_="curve")


def _axes(x, y, low: float, high: float, last: int) -> list[Html]:
    found = []
    for value in ticks(low, high):
        found.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(value), y2=y(value), class_="grid"))
        found.append(element("text", f"{value:g}", x=_LEFT - 6, y=y(value) + 3.5, text_anchor="end"))
    for value in ticks(0, last, whole=True):
        found.append(element("text", f"{value:g}", x=x(value), y=_HEIGHT - _BOTTOM + 15, text_anchor="middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return [*found, element("text", "epoch", x=middle, y=_HEIGHT - 3, text_anchor="middle")]


def ticks(low: float, high: float, most: int = 6, whole: bool = False) -> Sequence[float]:
    """Round numbers from low to high, `most` at most."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (power * factor) < most)
    step = max(1.0, step) if whole else step
    return [round(number * step, 10) for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
