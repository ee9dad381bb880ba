"""The summary of a run that has not been started: against the networks' own counts, and what a run of them takes."""

import math
import time

import pytest

from tests.config.test_params import composed
from tests.helpers.examples import data, example_images, extraction, run
from tests.helpers.speed import by_backbone
from thaw.app.summary import (
    BLOCK_COLUMNS,
    Counts,
    block_rows,
    build_untrained,
    count_images,
    estimate_seconds,
    phase_row,
    planned_cuts,
)
from thaw.backbones import BACKBONES
from thaw.config.load import check_params
from thaw.config.schedule import chain_of
from thaw.config.schema import Params
from thaw.features.extract import extract_features
from thaw.stage import TABLES
from thaw.training.loop import train_network


def chosen(*overrides: str) -> Params:
    return check_params(composed(*overrides), TABLES)


MOBILENET = ("backbone=mobilenetv2", "backbone.alpha=0.35", "backbone.image_size=96", "backbone.weights=none")


@pytest.mark.parametrize("name", by_backbone(["vgg16", "mobilenetv2", "cnn"]))
def test_blocks_are_listed_from_the_head_down_with_the_parameters_of_keras(name):
    settings = chosen(f"backbone={name}", "backbone.weights=none")
    one = build_untrained(settings)
    rows = block_rows(settings, one)
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
    assert (own.train, own.val) == (60, 9)  # 3 of 10 classes
    train, val = example_images(own.train), example_images(own.val)
    of = extraction(train, val, settings.extract, pool=settings.head.pool, augment=settings.augment)
    extract_features(tmp_path / "features", one, of)
    for depth, cut in planned_cuts(settings, one).items():
        files = list((tmp_path / "features").glob(f"depth{depth}-*.npy"))
        assert cut.stored
        assert cut.size == sum(file.stat().st_size - 128 for file in files), "but for NumPy's header"


def test_a_cut_over_the_budget_is_streamed():
    settings = chosen(*MOBILENET, "extract.budget_gb=0.5")
    rows = block_rows(settings, build_untrained(settings))
    assert rows[0][5].endswith("GB stored")
    assert rows[2][5].endswith("GB streamed")
    assert rows[3][5] == "-"


def test_phases_come_in_their_order_and_thaw_more_and_more():
    settings = chosen(*MOBILENET)
    one = build_untrained(settings)
    rows = [phase_row(settings, one, name) for name in chain_of(settings.schedule)]
    assert [row.name for row in rows] == ["head", "depth1", "depth2", "all"]
    assert [row.depth for row in rows] == [0, 1, 2, None]
    assert [row.thawed for row in rows] == ["nothing but the head", "group320", "group160 and above", "all blocks"]
    assert rows[0].trainable == one.head.count_params()
    total = one.head.count_params() + sum(block.count_params() for block in one.blocks)
    assert {row.trainable + row.frozen for row in rows} == {total}
    # Of all blocks only the moving statistics of BatchNorm are not trained.
    statistics = [weight for block in one.blocks for weight in block.weights if "moving" in weight.name]
    assert rows[3].frozen == sum(math.prod(weight.shape) for weight in statistics)


def test_images_are_counted_as_preprocess_splits_them():
    assert count_images(chosen(), None) == Counts(45_000, 5_000, 10_000)
    assert count_images(chosen("dataset.limit=20000"), None).train == 20_000
    split = chosen("recipe=class-split")
    assert count_images(split, split.dataset.classes) == Counts(13_500, 1_500, 3_000)


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
def test_a_phase_of_no_epochs_takes_no_time():
    settings = chosen("recipe=demo", "head.epochs=0", "schedule=head-only", "backbone.source=null")
    estimated = dict(estimate_seconds(settings, build_untrained(settings)))
    assert list(estimated) == ["extract", "train_head", "evaluate"]
    assert estimated["train_head"] == 0
