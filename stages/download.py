"""download: the archive, verified, into data/raw."""

from thaw.stage import main

if __name__ == "__main__":
    main("download", __doc__)
