"""unfreeze@<phase>: thaw the network down to the phase's cut and train on, into models/<phase>."""

import sys

from thaw.stage import run_stage

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.unfreeze PHASE")
    run_stage(f"unfreeze@{sys.argv[1]}")
