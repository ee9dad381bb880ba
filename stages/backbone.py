"""backbone: the one place where weights come from, into models/backbone."""

from thaw.stage import run_stage

if __name__ == "__main__":
    run_stage("backbone")
