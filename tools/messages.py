"""docs/messages.md: the messages of invalid parameters, from the cases of tests/config/test_params.py. Start at `page`.

python -m tools.messages > docs/messages.md
"""

import copy

from tests.config.test_params import BAD, MISSING, Bad, composed, get, refusal

# Cases shown for each parameter: the page stays readable, and the tests try all.
CASES = 2

HEAD = """# Messages of invalid parameters

An invalid value is refused in one line before any work: by `thaw check KEY=VALUE`, and by every stage, which first
checks all of `params.yaml`. Made by `python -m tools.messages` from the cases of the tests.

| value | message |
|---|---|
"""


def message(bad: Bad) -> str:
    """The message of one invalid value."""
    raw = composed(*bad.base)
    *above, name = bad.key.split(".")
    section = get(raw, ".".join(above)) if above else raw
    if bad.value is MISSING:
        del section[name]
    else:
        section[name] = copy.deepcopy(bad.value)
    return refusal(raw)


def page() -> str:
    shown: dict[str, int] = {}
    lines = []
    for bad in BAD:
        shown[bad.key] = shown.get(bad.key, 0) + 1
        text = message(bad)
        # Paths of this checkout would differ elsewhere.
        if shown[bad.key] <= CASES and "/conf" not in text + repr(bad):
            lines.append(f"| `{_cell(repr(bad))}` | {_cell(text)} |")
    return HEAD + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
