"""thaw sweep: the experiments of a grid side by side, on this machine or a Ray cluster. Start at `cluster.run_sweep`.

`plan` names the experiments, `cluster` has all of Ray, `work` runs one experiment on its host.
"""
