"""docs/messages.md: what thaw says to wrong parameters, from the cases of tests/config/test_params.py.

python -m tools.messages > docs/messages.md
"""

import copy

from tests.config.test_params import BAD, MISSING, Bad, composed, get, refusal

# Of each parameter, so that the page stays readable; the tests try all.
CASES = 2

HEAD = """# What thaw says to wrong parameters

Each is refused in one line before any work is done: by `python -m thaw check KEY=VALUE`, and by every stage, which
checks all of `params.yaml` first. Made by `python -m tools.messages` from the cases that the tests try.

| value | message |
|---|---|
"""


def message(bad: Bad) -> str:
    """What is said of one wrong value."""
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
        # Values that are paths of this checkout would differ elsewhere.
        if shown[bad.key] <= CASES and "/conf" not in text + repr(bad):
            lines.append(f"| `{_cell(repr(bad))}` | {_cell(text)} |")
    return HEAD + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
