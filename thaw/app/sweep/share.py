"""Puts what stages have made onto the DVC remote, with what leads to it, so that other hosts take it from there.

python -m thaw.app.sweep.share STAGE...

`dvc push --run-cache` leaves out metrics that are not in the cache by themselves; what a stage of DVC's run cache is to
be restored from has to be whole.
"""

import sys


def main() -> None:
    from dvc.repo import Repo
    from dvc.stage.cache import RunCacheNotSupported

    with Repo() as repo:
        cache = repo.stage_cache
        for name in sys.argv[1:]:
            stage = repo.stage.get_target(name)
            stage.save_deps()
            made = cache._create_stage(cache._load(stage), wdir=stage.wdir)
            for objects in made.get_used_objs().values():
                repo.cloud.push(objects)
        try:
            cache.push(None)  # last, so that what is found leads to what is there
        except RunCacheNotSupported as error:
            print(f"each host runs these stages: {error}", flush=True)


if __name__ == "__main__":
    main()
