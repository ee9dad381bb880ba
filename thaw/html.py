"""HTML and SVG as Python calls: what is not markup already is escaped."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

_VOID = ("img", "meta", "br", "circle", "line", "rect", "polyline")


class Html(str):
    """Markup, which goes into a page as it is."""


def element(name: str, /, *content: Any, **attributes: Any) -> Html:
    """An element; `class_` is the attribute class, `font_size` font-size. Attributes of None are left out."""
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not content:
        return Html(f"<{name}{named}>" if name in ("img", "meta", "br") else f"<{name}{named}/>")
    return Html(f"<{name}{named}>{join(content)}</{name}>")


def join(content: Iterable[Any], between: str = "") -> Html:
    """Several parts as one; None is left out."""
    return Html(
        html.escape(between).join(
            part if isinstance(part, Html) else html.escape(str(part)) for part in content if part is not None
        )
    )


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]], caption: str, numbers: Iterable[int] = ()) -> Html:
    """A table in a box of its own that scrolls where it is too wide; the first cell of a row names it.

    Args:
        caption: says what it is of, to those who cannot see what stands around it.
        numbers: the columns that hold numbers.
    """
    numbers = set(numbers)

    def cells(kind: str, row: Sequence[Any]) -> Html:
        return join(
            element(
                "th" if kind == "head" or column == 0 else "td",
                cell,
                scope="col" if kind == "head" else "row" if column == 0 else None,
                class_="number" if column in numbers else None,
            )
            for column, cell in enumerate(row)
        )

    return scrolling(
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", cells("head", titles))),
            element("tbody", *(element("tr", cells("body", row)) for row in rows)),
        ),
        caption,
    )


def scrolling(content: Html, label: str) -> Html:
    """A box that scrolls sideways by itself, with the keyboard too."""
    return element("div", content, class_="scroll", tabindex="0", role="region", aria_label=label)


def bar(share: float, kind: str = "") -> Html:
    """A bar of a length between 0 and 1, beside a number that says the same."""
    fill = element("span", style=f"width:{max(0, min(1, share)):.1%}")
    return element("span", fill, class_=f"bar {kind}".strip(), aria_hidden="true")


def image(png: bytes, alt: str) -> Html:
    """A PNG within the page."""
    return element("img", src=f"data:image/png;base64,{base64.b64encode(png).decode()}", alt=alt)
