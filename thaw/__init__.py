"""Gradual-unfreezing transfer learning of image classifiers; and the trained ones in Python.

>>> import thaw
>>> classifier = thaw.load("models/all")
>>> classifier.classes[classifier.predict("cat.jpg")[0].argmax()]
'cat'

`load` gives a `Classifier`, `features` what its backbone makes of images. An expected failure is a `ThawError`, of one
line. docs/python.md shows each. What is imported here loads no Keras; these names do where they are used.
"""

import shutil
import sys
from typing import TYPE_CHECKING

from thaw.errors import ThawError

if TYPE_CHECKING:
    from thaw.app.classifier import Classifier, UnreadableImage, features, load

__all__ = ["Classifier", "ThawError", "UnreadableImage", "features", "load"]

__version__ = "0.1.0"

# Where a disk is full, Python leaves compiled modules cut off, and fails on them when there is room again.
if shutil.disk_usage(__file__).free < 2**24:
    sys.dont_write_bytecode = True

if not TYPE_CHECKING:

    def __getattr__(name: str):
        """A name of the Python API: every stage imports this package, and needs none of them."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module("thaw.app.classifier"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
