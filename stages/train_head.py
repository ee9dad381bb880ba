"""train_head: a new head on the frozen backbone's features, into models/head."""

from thaw.stage import run_stage

if __name__ == "__main__":
    run_stage("train_head")
