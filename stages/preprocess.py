"""preprocess: the splits as arrays in data/processed."""

from thaw.stage import run_stage

if __name__ == "__main__":
    run_stage("preprocess")
