"""Gradual-unfreezing transfer learning for CIFAR-10 and CIFAR-100."""

import shutil
import sys

__version__ = "0.1.0"

# Where a disk is full, Python leaves compiled modules cut off, and fails on them when there is room again.
if shutil.disk_usage(__file__).free < 2**24:
    sys.dont_write_bytecode = True
