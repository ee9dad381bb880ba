"""download: the archive, verified, into data/raw."""

from thaw.stage import run_stage

if __name__ == "__main__":
    run_stage("download")
