"""Which cases of a test are quick: `make test` tries two backbones, `make test-all` the others, too."""

from collections.abc import Iterable

import pytest

# Without BatchNorm, and with it; the others take three to ten times as long to build and to trace.
QUICK = ("cnn", "vgg16")


def by_backbone(cases: Iterable) -> list:
    """Cases for `parametrize`: names of backbones or tuples that start with one; `pytest.param`'s as they are."""
    return [case if hasattr(case, "marks") else _marked(case) for case in cases]


def _marked(case):
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=() if values[0] in QUICK else pytest.mark.slow)
