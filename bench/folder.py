"""Images a second and peak memory of the stage preprocess on a folder: photographs of 500 x 375, and small images.

    python -m bench.folder                                     # 20,000 photographs to 160 pixels, 200,000 images of 32
    python -m bench.folder --photos 2000 --small 20000 --folder /data/bench-images

All files are distinct. They are made once, in folders of their own below `--folder`, and kept. Each is read in a
separate process, from the listing to data/processed. Seconds are those of the clock, and those of the processor, which
other work on the machine changes little.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench import common

CLASSES = 20
# Side that is stored, by kind.
SIDES = {"photos": 160, "small": 32}


def main() -> None:
    parser = argparse.ArgumentParser(description="images a second and peak memory of preprocess on a folder")
    parser.add_argument("--photos", type=int, default=20_000, help="number of photographs (20,000)")
    parser.add_argument("--small", type=int, default=200_000, help="number of small images (200,000)")
    parser.add_argument("--folder", type=Path, default=Path("downloads/bench-folder"), help="of the images")
    parser.add_argument("--output", type=Path, default=Path("bench/results/folder.json"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(arguments.one, arguments.folder)))
        return
    runs = {}
    for kind, count in (("photos", arguments.photos), ("small", arguments.small)):
        if count:
            root = arguments.folder.resolve() / f"{kind}-{count}"
            make(root, count, {"photos": photograph, "small": small}[kind])
            runs[kind] = common.apart("bench.folder", "--one", kind, "--folder", root)
            print(kind, runs[kind], flush=True)
    common.write(arguments.output, {"machine": common.machine("pillow", "numpy"), "runs": runs})


def make(root: Path, count: int, draw: Callable[[int], Any]) -> None:
    """Write the images that are not there yet, JPEG files of quality 90 in class folders."""
    for number in range(count):
        file = root / f"class{number % CLASSES:02}" / f"{number:06}.jpg"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            draw(number).save(file, quality=90)


def photograph(number: int):
    """An image of 500 x 375 pixels that compresses as a photograph does: smooth areas, edges and grain."""
    from PIL import Image

    generator = np.random.default_rng(number)
    image = Image.fromarray(generator.integers(0, 256, (9, 12, 3), np.uint8)).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    patches = Image.fromarray(generator.integers(0, 256, (30, 40, 3), np.uint8)).resize(
        (500, 375), Image.Resampling.BOX
    )
    grain = _grain()[number % 50 : number % 50 + 375, number % 37 : number % 37 + 500]
    mixed = np.asarray(Image.blend(image, patches, 0.25), np.int16) + grain
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


@cache
def _grain() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 8, (425, 537, 3)).astype(np.int16)


def small(number: int):
    """An image of 32 x 32 pixels."""
    from PIL import Image

    colours = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(colours).resize((32, 32), Image.Resampling.BICUBIC)


def run(kind: str, root: Path) -> dict[str, Any]:
    """Speed, memory and sizes of preprocess on one folder."""
    from thaw.config.schema import Dataset
    from thaw.data.folder import store_folder
    from thaw.datasets import DATASETS
    from thaw.runtime.memory import PeakMemory

    side, source = SIDES[kind], DATASETS["folder"].source
    section = Dataset(
        name="folder", url=None, sha256=None, path=str(root), files=str(root), image_size=side, max_pixels=10**8,
        strict=True, limit=None, per_class=None, classes=None, val_fraction=0.1, test_fraction=0.1, seed=0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        started = time.perf_counter()
        files = source.scan(root).files
        listing = time.perf_counter() - started
        with PeakMemory() as memory:
            started, before = time.perf_counter(), _processor_seconds()
            store_folder(section, source)
            seconds, processor = time.perf_counter() - started, _processor_seconds() - before
        written = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    megabytes = sum((root / listed.file).stat().st_size for listed in files) / 1e6
    return {
        "images": len(files),
        "megabytes": round(megabytes, 1),
        "side": side,
        "seconds": round(seconds, 1),
        "seconds_of_listing": round(listing, 2),
        "images_a_second": round(len(files) / seconds, 1),
        "processor_seconds": round(processor, 1),
        "images_a_processor_second": round(len(files) / processor, 1),
        "peak_gb": round(memory.gb, 3),
        "written_gb": round(written / 1e9, 3),
    }


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
