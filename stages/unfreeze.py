"""unfreeze@<phase>: thaw the network down to the phase's cut and train on, into models/<phase>."""

import sys

from thaw import stage
from thaw.params import Params


def unfreeze(params: Params, name: str) -> float:
    from thaw import phases

    return phases.train(params, name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.unfreeze PHASE")
    stage.run(f"unfreeze@{sys.argv[1]}", lambda params: unfreeze(params, sys.argv[1]), keras=True)
