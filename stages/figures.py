"""figures: charts and grids of images, from tables and saved views, into plots/figures."""

from thaw.stage import run_stage

if __name__ == "__main__":
    run_stage("figures")
