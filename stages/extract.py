"""extract: activations of the frozen backbone for each view, into data/features; samples of the views, data/views."""

from thaw.stage import run_stage

if __name__ == "__main__":
    run_stage("extract")
