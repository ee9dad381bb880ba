"""train_head: a new head on the frozen backbone's features, into models/head."""

from thaw.stage import main

if __name__ == "__main__":
    main("train_head", __doc__)
