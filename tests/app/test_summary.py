"""The summary of a run that has not been started: against the networks' own counts, and what a run of them takes."""

import math
import time
from pathlib import Path

import pytest
from PIL import Image

from bench.runs import recipes
from tests.config.test_params import composed
from tests.helpers.examples import data, example_images, extraction, run
from tests.helpers.speed import by_backbone
from thaw.app.summary import (
    BLOCK_COLUMNS,
    DEPTH_COLUMNS,
    Counts,
    block_rows,
    build_untrained,
    count_images,
    cut_of_each_depth,
    depth_rows,
    describe_images,
    estimate_seconds,
    phase_row,
    planned_cuts,
    planned_phase,
)
from thaw.backbones import BACKBONES
from thaw.config.load import check_params
from thaw.config.schedule import chain_of, phase_section
from thaw.config.schema import Params
from thaw.extraction.extract import extract_features
from thaw.stage import TABLES
from thaw.training.loop import train_network


def chosen(*overrides: str) -> Params:
    return check_params(composed(*overrides), TABLES)


MOBILENET = ("backbone=mobilenetv2", "backbone.alpha=0.35", "backbone.image_size=96", "backbone.weights=none")


@pytest.mark.parametrize("name", by_backbone(BACKBONES))
def test_blocks_are_listed_from_the_head_down_with_the_parameters_of_keras(name):
    settings = chosen(f"backbone={name}", "backbone.weights=none")
    one = build_untrained(settings)
    rows = block_rows(one)
    assert [row[0] for row in rows] == ["head", *(block for block, _ in reversed(BACKBONES[name].blocks))]
    assert [int(row[1]) for row in rows] == list(range(len(rows)))
    backbone = BACKBONES[name].build(settings.backbone.image_size, settings.backbone.alpha, None)
    assert sum(int(row[3].replace(",", "")) for row in rows[1:]) == backbone.count_params()
    assert len({len(row) for row in [list(BLOCK_COLUMNS), *rows]}) == 1


@pytest.mark.parametrize("cuts", ["[0,1]", "[[0,1],[0]]"])
def test_bytes_at_a_cut_are_those_that_extraction_writes(tmp_path, cuts):
    small = ("augment.views=2", "dataset.limit=200", "dataset.val_fraction=0.02")
    settings = chosen("recipe=demo", *small, f"extract.cuts={cuts}")
    one = build_untrained(settings)
    own = count_images(settings, settings.dataset.classes)
    assert (own.train, own.val) == (120, 14)  # 6 of 10 classes
    train, val = example_images(own.train), example_images(own.val)
    of = extraction(train, val, settings.extract, pool=settings.head.pool, augment=settings.augment)
    extract_features(tmp_path / "features", one, of)
    for depth, cut in planned_cuts(settings, one).items():
        files = list((tmp_path / "features").glob(f"depth{depth}-*.npy"))
        assert cut.stored
        assert cut.size == sum(file.stat().st_size - 128 for file in files), "but for NumPy's header"


def test_each_depth_tells_what_it_trains_and_whether_its_cut_fits_the_budget():
    settings = chosen(*MOBILENET, "extract.budget_gb=0.8", "extract.cuts=[0,1,4]", "augment.views=3")
    one = build_untrained(settings)
    rows = list(depth_rows(settings, one, estimate=False))
    assert [row[0] for row in rows] == [str(depth) for depth in range(8)]
    assert [row[1] for row in rows[:3]] == ["nothing but the head", "group320", "group160 and above"]
    assert rows[-1] == ["7", "all blocks", "-", "-", "images"]
    assert [row[4] for row in rows[:-1]] == [
        "stored", "stored", "would be images", "would be stored", "images", "would be images", "would be images",
    ]  # fmt: skip
    # 3 views of 45,000 images and 5,000 for validation, 2 bytes a value.
    assert rows[0][2:4] == ["1,280", f"{1280 * 140_000 * 2 / 1e9:.3f} GB"]


def test_the_cut_of_a_depth_is_planned_as_if_it_were_asked_for():
    settings, more = (chosen(*MOBILENET, f"extract.cuts={cuts}") for cuts in ("[0,1,2]", "[0,1,2,5]"))
    one = build_untrained(settings)
    assert cut_of_each_depth(settings, one)[5] == planned_cuts(more, one)[5]
    assert cut_of_each_depth(settings, one).keys() == set(range(7))


def test_phases_come_in_their_order_and_thaw_more_and_more():
    settings = chosen("backbone=cnn")
    one = build_untrained(settings)
    rows = [phase_row(settings, one, name) for name in chain_of(settings.schedule)]
    assert [row.name for row in rows] == ["head", "depth1", "depth2", "all"]
    assert [row.depth for row in rows] == [0, 1, 2, None]
    assert [row.thawed for row in rows] == ["nothing but the head", "block4", "block3 and above", "all blocks"]
    assert rows[0].trainable == one.head.count_params()
    total = one.head.count_params() + sum(block.count_params() for block in one.blocks)
    assert {row.trainable + row.frozen for row in rows} == {total}
    # Of all blocks only the moving statistics of BatchNorm are not trained.
    statistics = [weight for block in one.blocks for weight in block.weights if "moving" in weight.name]
    assert rows[3].frozen == sum(math.prod(weight.shape) for weight in statistics)


@pytest.mark.parametrize("overrides", [[], *([f"recipe={name}"] for name in recipes())])
def test_phases_on_all_images_have_their_own_epochs_and_on_few_the_least_number_of_steps(overrides):
    settings = chosen(*overrides)
    for name in chain_of(settings.schedule):
        assert planned_phase(settings, name) is phase_section(settings, name)
    few = chosen(*overrides, "dataset.limit=200", "dataset.classes=null", "batch_size=50", "min_steps=200")
    for name in chain_of(few.schedule):
        section = phase_section(few, name)
        assert planned_phase(few, name).epochs == (max(section.epochs, 50) if section.epochs else 0)


def test_images_are_counted_as_preprocess_splits_them():
    assert count_images(chosen(), None) == Counts(45_000, 5_000, 10_000)
    assert count_images(chosen("dataset.limit=20000"), None).train == 20_000
    split = chosen("recipe=class-split")
    assert count_images(split, split.dataset.classes) == Counts(13_500, 1_500, 3_000)


def photos(root: Path, **sizes: int) -> tuple[str, ...]:
    """Images of two sizes by class, and the overrides of a run on them."""
    for name, size in sizes.items():
        (root / name).mkdir(parents=True)
        for number in range(size):
            Image.new("RGB", (30 + number, 40)).save(root / name / f"{number}.png")
    return ("dataset=folder", f"dataset.path={root}", "backbone=cnn", "backbone.image_size=48", "batch_size=8")


def test_of_a_folder_images_are_counted_before_a_run_and_classes_are_as_uneven_as_they_are(tmp_path):
    own = chosen(*photos(tmp_path / "photos", manx=30, ragdoll=70))
    assert count_images(own, None) == Counts(81, 9, 10)
    assert count_images(own, ["manx"]) == Counts(24, 3, 3)
    few = own.model_copy(update={"dataset": own.dataset.model_copy(update={"per_class": 5})})
    assert count_images(few, None) == Counts(10, 9, 10)
    network = build_untrained(own)
    stored = sum(cut.size for cut in planned_cuts(own, network).values())
    assert stored > 1e6
    assert describe_images(own, network) == (
        "images: 81 for training, 9 for validation, 10 for the test, of 48 x 48 pixels; 0.001 GB in data/processed, "
        f"{stored / 1e9:.3f} GB in data/features"
    )
    split = chosen("recipe=class-split")
    assert " for the test, those of the source task included, of 32 x 32 pixels" in describe_images(
        split, build_untrained(split)
    )
    assert network.classifier().input_shape == (None, 48, 48, 3)
    assert network.classifier().output_shape == (None, 2)


@pytest.mark.slow
def test_reading_a_folder_is_estimated_too(tmp_path):
    settings = chosen(*photos(tmp_path / "photos", manx=30, ragdoll=70), "schedule=head-only", "head.epochs=1")
    estimated = dict(estimate_seconds(settings, build_untrained(settings)))
    assert list(estimated) == ["preprocess", "extract", "train_head", "evaluate"]
    assert 0 < estimated["preprocess"] < 60


@pytest.mark.slow
def test_the_estimate_of_a_phase_is_about_what_it_takes():
    settings = chosen("recipe=demo", "schedule=full", "schedule.phases.all.epochs=4", "backbone.source=null")
    estimated = dict(estimate_seconds(settings, build_untrained(settings)))
    assert list(estimated) == ["extract", "train_head", "unfreeze@all", "evaluate"]
    assert all(value > 0 for value in estimated.values())

    own = count_images(settings, settings.dataset.classes)
    one = build_untrained(settings)
    one.freeze(0)
    phase = settings.schedule.phases["all"]
    of = run(
        phase,
        batch_size=settings.batch_size,
        augment=settings.augment,
        batch_norm=phase.batch_norm,
        mixup=phase.mixup,
    )
    started = time.perf_counter()
    train_network(one, of, data(example_images(own.train, 3), example_images(own.val, 3)))
    taken = time.perf_counter() - started
    # Machines that run tests do other things beside.
    assert taken / 4 < estimated["unfreeze@all"] < taken * 4


@pytest.mark.slow
def test_an_epoch_takes_longer_the_deeper_it_trains():
    settings = chosen("recipe=demo", "backbone.source=null")
    rows = list(depth_rows(settings, build_untrained(settings), estimate=True))
    assert {len(row) for row in rows} == {len(DEPTH_COLUMNS)}
    head, *_, all_blocks = [float(row[-1].removesuffix(" s")) for row in rows]
    assert 2 * head < all_blocks


@pytest.mark.slow
def test_a_phase_of_no_epochs_takes_no_time():
    settings = chosen("recipe=demo", "head.epochs=0", "schedule=head-only", "backbone.source=null")
    estimated = dict(estimate_seconds(settings, build_untrained(settings)))
    assert list(estimated) == ["extract", "train_head", "evaluate"]
    assert estimated["train_head"] == 0
