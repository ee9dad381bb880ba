"""Every backbone of the table: its blocks are the architecture, and a cut freezes what lies below it."""

from functools import cache

import keras
import numpy as np
import pytest

from tests.helpers.examples import backbone, example_images, measure_statistics, narrowest, weights
from tests.helpers.project import ROOT
from tests.helpers.speed import by_backbone
from thaw.backbones import BACKBONES
from thaw.errors import ParamError
from thaw.network.build import Network, Normalise, split_backbone
from thaw.network.checkpoint import named_weights
from thaw.network.seeds import seed_initialisers
from thaw.network.weights import load_backbone

# Side over each block's output, and its channels, as the papers have them (MobileNetV2 at alpha 1).
SHAPES = {
    "vgg16": [(2, 64), (4, 128), (8, 256), (16, 512), (32, 512)],
    "resnet50": [(4, 64), (4, 256), (8, 512), (16, 1024), (32, 2048)],
    "resnet50v15": [(4, 64), (4, 256), (8, 512), (16, 1024), (32, 2048)],
    "resnet18": [(4, 64), (4, 64), (8, 128), (16, 256), (32, 512)],
    "mobilenetv2": [(2, 16), (4, 24), (8, 32), (16, 64), (16, 96), (32, 160), (32, 1280)],
    "efficientnetv2b0": [(2, 16), (4, 32), (8, 48), (16, 96), (16, 112), (32, 1280)],
    # The first cuts lie above the downsampling of the next stage.
    "convnexttiny": [(4, 96), (8, 192), (16, 384), (32, 768), (32, 768)],
    "cnn": [(2, 32), (4, 64), (8, 128), (16, 256)],
}
WITH_BATCH_NORM = ["resnet50", "resnet50v15", "resnet18", "mobilenetv2", "efficientnetv2b0", "cnn"]
CUTS = [(name, depth) for name, row in BACKBONES.items() for depth in range(len(row.blocks) + 1)]
# Two images of each class; more would only take longer.
EXAMPLES = example_images(8)


@cache
def prepared(name: str) -> tuple[Network, list[np.ndarray], keras.Model]:
    """A network with a head, weights that it can learn from, and the backbone as it was before the split."""
    seed_initialisers(0, name)
    model = BACKBONES[name].build(32, narrowest(name), None)
    network = split_backbone(name, model, narrowest(name), 32)
    network.attach("avg", None, 0.0, 4)
    # Or MobileNetV2 would give almost nothing, and its first layers get no gradient to speak of.
    measure_statistics(network, EXAMPLES.inputs)
    # A little off, so that each is seen to move where BatchNorm trains.
    for layer in network.layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
            layer.moving_mean.assign(mean + 0.01 * np.sqrt(variance))
            layer.moving_variance.assign(variance * 1.01)
    return network, network.classifier().get_weights(), model


def thawed(name: str, layers: int) -> Network:
    network, start, _ = prepared(name)
    network.classifier().set_weights(start)
    network.freeze(layers)
    return network


def step(network: Network, batch_norm: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """All weights before and after one training step, which is large enough to be seen in each."""
    model = network.classifier(batch_norm=batch_norm)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,  # tracing would take most of the time
        jit_compile=False,
    )
    before = weights(network.layers()) | weights(network.head)
    model.train_on_batch(EXAMPLES.inputs, EXAMPLES.labels)
    return before, weights(network.layers()) | weights(network.head)


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {name for name in before if not np.array_equal(before[name], after[name])}


def is_statistic(name: str) -> bool:
    return name.endswith(("/moving_mean", "/moving_variance"))


def test_the_docs_list_every_backbone_with_its_lowest_and_its_highest_block():
    lines = (ROOT / "docs/backbones.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")][1:]
    assert {row[0] for row in rows} == set(BACKBONES)
    for row in rows:
        blocks = [name for name, _ in BACKBONES[row[0]].blocks]
        assert row[3].startswith(blocks[0]), row[0]
        assert row[3].endswith(f" {blocks[-1]}"), row[0]
        assert (row[5] == "none") == (not BACKBONES[row[0]].imagenet), row[0]


@pytest.mark.parametrize("name", by_backbone(BACKBONES))
def test_the_blocks_hold_every_layer_of_the_architecture(name):
    row = BACKBONES[name]
    network, _, model = prepared(name)
    assert sum(count for _, count in row.blocks) == row.layer_count == len(model.layers) == len(network.order)
    in_blocks = [layer.name for layer in network.layers()]
    assert in_blocks == network.order[1:], "and each once; the first is the input"


def test_the_blocks_hold_every_layer_at_the_largest_width_too():
    model = BACKBONES["mobilenetv2"].build(32, 1.4, None)
    assert len(model.layers) == BACKBONES["mobilenetv2"].layer_count


@pytest.mark.parametrize("name", by_backbone(BACKBONES))
def test_blocks_are_named_as_in_the_table_and_never_like_the_head(name):
    network, _, _ = prepared(name)
    names = [block.name for block in network.blocks]
    assert names == [block for block, _ in BACKBONES[name].blocks]
    assert len(set(names)) == len(names)
    assert "head" not in names, "its file in a checkpoint would be overwritten"


@pytest.mark.parametrize("name", by_backbone(BACKBONES))
def test_weights_have_names_that_do_not_depend_on_what_was_built_before(name):
    # A checkpoint finds its tensors by them. Keras numbers what has no name of its own.
    _, _, model = prepared(name)
    again = BACKBONES[name].build(32, narrowest(name), None)
    names, names_again = ([weight for weight, _ in named_weights(one.layers)] for one in (model, again))
    assert names == names_again
    assert len(set(names)) == len(names) == len(model.weights)


@pytest.mark.parametrize("name", by_backbone(BACKBONES))
def test_the_blocks_one_after_the_other_compute_what_the_whole_backbone_does(name):
    network, _, model = prepared(name)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    whole = np.asarray(model(x, training=False))
    for block in network.blocks:
        x = block(x, training=False)
    assert np.isfinite(whole).all()
    assert np.ptp(whole) > 0
    np.testing.assert_array_equal(np.asarray(x), whole)


@pytest.mark.parametrize("image_size", [32, 96, 224])
@pytest.mark.parametrize("name", by_backbone(BACKBONES))
def test_every_cut_has_the_shape_that_the_architecture_has_there(name, image_size):
    model = BACKBONES[name].build(image_size, 1.0 if BACKBONES[name].alphas else None, None)
    network = split_backbone(name, model, None, 32)
    sides = [(None, image_size // stride, image_size // stride, channels) for stride, channels in SHAPES[name]]
    assert [block.output.shape for block in network.blocks] == sides
    assert [block.input.shape for block in network.blocks] == [(None, image_size, image_size, 3), *sides[:-1]]
    assert model.output.shape == sides[-1]


@pytest.mark.parametrize(("name", "depth"), by_backbone(CUTS))
def test_a_training_step_changes_all_above_the_cut_and_nothing_below(name, depth):
    counts = [count for _, count in BACKBONES[name].blocks]
    network = thawed(name, sum(counts[: len(counts) - depth]))
    above = network.blocks[len(counts) - depth :]
    trained = {key for part in (*above, network.head) for key in weights(part) if not is_statistic(key)}
    assert changed(*step(network, "inference")) == trained


@pytest.mark.parametrize("name", by_backbone(WITH_BATCH_NORM))
def test_batch_norm_in_train_mode_moves_the_statistics_above_the_cut_alone(name):
    counts = [count for _, count in BACKBONES[name].blocks]
    network = thawed(name, sum(counts[:-2]))
    above = {key for part in (*network.blocks[-2:], network.head) for key in weights(part)}
    # A bias under BatchNorm has no gradient but rounding errors, as its batch mean takes it away again.
    without_gradient = {key for key in above if key.endswith("_conv/bias")}
    assert bool(without_gradient) == (name == "resnet50")
    assert any(is_statistic(key) for key in above)
    assert changed(*step(network, "train")) | without_gradient == above


def test_a_count_of_layers_freezes_in_the_middle_of_a_block():
    ends = np.cumsum([count for _, count in BACKBONES["mobilenetv2"].blocks])
    assert 50 not in ends
    network = thawed("mobilenetv2", 50)
    frozen = set(network.order[:50])
    trained = {
        key
        for key in weights(network.layers()) | weights(network.head)
        if key.split("/")[0] not in frozen and not is_statistic(key)
    }
    middle = network.blocks[np.searchsorted(ends, 50)]
    assert weights(middle).keys() & trained
    assert {key for key in weights(middle).keys() - trained if not is_statistic(key)}
    assert changed(*step(network, "inference")) == trained


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [
        ("vgg16", keras.applications.vgg16.preprocess_input),
        ("resnet50", keras.applications.resnet50.preprocess_input),
        ("mobilenetv2", keras.applications.mobilenet_v2.preprocess_input),
    ],
)
def test_images_are_normalised_as_the_imagenet_weights_expect(name, preprocess):
    row = BACKBONES[name]
    ours = Normalise(row.mean, row.std, row.channels)(EXAMPLES.inputs)
    # It works in place on an array of floats.
    theirs = preprocess(EXAMPLES.inputs.astype("float32"))
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", by_backbone(name for name, row in BACKBONES.items() if row.imagenet))
def test_imagenet_weights_without_a_network_end_in_one_line_that_names_the_parameter(name, monkeypatch):
    asked = []

    def refuse(*arguments, **options):
        asked.append(arguments)
        raise Exception("URL fetch failure\nand more")  # as bare as Keras's own

    # keras.applications' downloader and keras_hub's.
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", refuse)
    monkeypatch.setattr("kagglehub.model_download", refuse)
    with pytest.raises(ParamError, match=r"^backbone\.weights: received 'imagenet'; .*URL fetch failure$") as caught:
        load_backbone(backbone(name, weights="imagenet", image_size=224), seed=0, input_size=32)
    assert "\n" not in str(caught.value)
    assert asked
