"""figures: charts and grids of images, from tables and saved views, into plots/figures."""

from thaw.stage import main

if __name__ == "__main__":
    main("figures", __doc__)
