"""extract: activations of the frozen backbone for each view, into data/features; samples of the views, data/views."""

from thaw.stage import main

if __name__ == "__main__":
    main("extract", __doc__)
