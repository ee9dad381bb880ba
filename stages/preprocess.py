"""preprocess: the splits as arrays in data/processed."""

from thaw.stage import main

if __name__ == "__main__":
    main("preprocess", __doc__)
