"""evaluate: the final model on the test split, into metrics/evaluate.json and plots/tables."""

from thaw.stage import run_stage

if __name__ == "__main__":
    run_stage("evaluate")
