"""docs/messages.md: the messages of invalid parameters, from the cases of tests/config/test_params.py. Start at `page`.

python -m tools.messages > docs/messages.md
"""

import copy
from collections import Counter

from tests.config.test_params import BAD, MISSING, Bad, composed, get, refusal
from thaw.config.overrides import GROUPS, typed

# Cases shown for each parameter: the page stays readable, and the tests try all.
CASES = 2

HEAD = """# Messages of invalid parameters

An invalid value is refused in one line before any work: by `thaw check KEY=VALUE`, `dvc exp run -S KEY=VALUE` and
every stage, which checks all of `params.yaml`. A shell needs quotes around spaces, brackets and quotes. Made by
`python -m tools.messages` from the cases of the tests.

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


def override(bad: Bad) -> str:
    """The invalid value as it is typed: `+` adds a key that conf/ has not, `~` takes one out."""
    if bad.value is MISSING:
        return f"~{bad.key}"
    *above, name = bad.key.split(".")
    section = get(composed(*bad.base), ".".join(above)) if above else composed(*bad.base)
    return f"{'' if name in section else '+'}{bad.key}={typed(bad.value)}"


def _is_typed(bad: Bad) -> bool:
    """Whether -S can give the value: it takes that of a group for a file's name, and merges into a mapping."""
    *above, name = bad.key.split(".")
    raw = composed(*bad.base)
    there = (get(raw, ".".join(above)) if above else raw).get(name)
    return bad.key not in (*GROUPS, "recipe") and not (isinstance(there, dict) and isinstance(bad.value, dict | list))


def shown() -> list[Bad]:
    """The cases of the page, which all can be typed."""
    counts: Counter[str] = Counter()
    cases = []
    for bad in BAD:
        counts[bad.key] += 1
        # Paths of this checkout would differ elsewhere.
        if counts[bad.key] <= CASES and _is_typed(bad) and "/conf" not in message(bad) + repr(bad):
            cases.append(bad)
    return cases


def page() -> str:
    rows = [f"| `{_cell(' '.join([*bad.base, override(bad)]))}` | {_cell(message(bad))} |" for bad in shown()]
    return HEAD + "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
