"""unfreeze@<phase>: thaw the network down to the phase's cut and train on, into models/<phase>."""

from thaw.stage import main

if __name__ == "__main__":
    main("unfreeze", __doc__)
