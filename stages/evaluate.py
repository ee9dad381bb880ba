"""evaluate: the final model on the test split, into metrics/evaluate.json and plots/tables."""

from thaw.stage import main

if __name__ == "__main__":
    main("evaluate", __doc__)
