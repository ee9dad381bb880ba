"""The stages of dvc.yaml, one module each."""

import shutil
import sys

# Where a disk is full, Python leaves compiled modules cut off, and fails on them when there is room again.
if shutil.disk_usage(__file__).free < 2**24:
    sys.dont_write_bytecode = True
