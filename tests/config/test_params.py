"""conf/ and params.yaml: all that is shipped is accepted, all that is wrong is refused in one line."""

import copy
import functools
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from thaw import paths
from thaw.backbones import BACKBONES
from thaw.config.checks import Tables
from thaw.config.compose import compose, compose_params
from thaw.config.load import check_params, parse_params
from thaw.config.schema import Phase
from thaw.datasets import DATASETS
from thaw.errors import ParamError, ThawError
from thaw.network.cut import frozen_layers
from thaw.runtime.files import seal_folder
from thaw.stage import TABLES, read_params
from thaw.training.class_weights import weights_by_name
from tools.parameters import every_key, page

ROOT = Path(__file__).parents[2]
CONF = ROOT / paths.CONF
GROUPS = {
    folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
    for folder in CONF.iterdir()
    if any(folder.glob("*.yaml"))
}


@functools.cache
def composed_once(*overrides: str, conf: Path = CONF) -> dict:
    return compose(list(overrides), conf)


def composed(*overrides: str, conf: Path = CONF) -> dict:
    """What params.yaml holds, to be changed at will."""
    return copy.deepcopy(composed_once(*overrides, conf=conf))


def get(raw: dict, key: str) -> Any:
    return functools.reduce(lambda section, name: section[name], key.split("."), raw)


def refusal(raw: Any, tables: Tables = TABLES) -> str:
    with pytest.raises(ParamError) as caught:
        check_params(raw, tables)
    text = str(caught.value)
    assert re.fullmatch(r"[^\n]+: received [^\n]+; accepted: [^\n]+", text)
    return text


def checkpoint(folder: Path, name: str = "cnn", alpha: float | None = None, image_size: int = 32) -> Path:
    """A folder with a checkpoint.json and no weights, which the checks do not read."""
    folder.mkdir(parents=True)
    backbone = {"name": name, "alpha": alpha, "image_size": image_size, "input_size": 32}
    seal_folder(folder / "checkpoint.json", {"backbone": backbone, "weights": {"origin": "none"}})
    return folder


# --- what is shipped ---


FOLDER = ("dataset=folder", "dataset.path=/photos")


def chosen(group: str, option: str) -> tuple[str, ...]:
    """The overrides that choose a file of conf/, with a path where its dataset is a folder."""
    return (f"{group}={option}", *(FOLDER[1:] if option in ("folder", "photos") else ()))


OPTIONS = [chosen(group, option) for group in sorted(GROUPS) for option in GROUPS[group]]
PAIRS = [
    (f"backbone={backbone}", f"schedule={schedule}")
    for backbone in GROUPS["backbone"]
    for schedule in GROUPS["schedule"]
]


@pytest.mark.parametrize("overrides", [(), *OPTIONS, *PAIRS], ids=" ".join)
def test_whatever_conf_composes_to_is_accepted_and_read_as_it_stands(overrides):
    raw = composed(*overrides)
    assert check_params(raw, TABLES).model_dump(exclude_unset=True) == raw


@pytest.mark.parametrize("overrides", [(), *OPTIONS], ids=" ".join)
def test_a_section_has_the_name_of_its_file(overrides):
    raw = composed(*overrides)
    for group in ("dataset", "backbone", "head", "augment", "schedule"):
        assert (CONF / group / f"{raw[group]['name']}.yaml").is_file()
    assert (CONF / "recipe" / f"{raw['recipe']}.yaml").is_file()
    for override in overrides[:1]:
        group, _, option = override.partition("=")
        assert (raw["recipe"] if group == "recipe" else raw[group]["name"]) == option


def test_a_name_stays_when_a_single_value_is_changed():
    raw = composed("recipe=demo", "schedule.phases.top.depth=2", "head.units=7")
    assert (raw["recipe"], raw["schedule"]["name"], raw["head"]["name"]) == ("demo", "recipe/demo", "gap")


@pytest.mark.parametrize("schedule", ["recipe/vgg16-gradual", "full"])
def test_a_phase_is_changed_taken_out_and_added(schedule):
    more = ["+schedule/phase@schedule.phases.more=usual", "+schedule.phases.more={after: all, depth: all}"]
    raw = composed(f"schedule={schedule}", *more, "schedule.final=more", "schedule.phases.all.epochs=3")
    check_params(raw, TABLES)
    assert list(raw["schedule"]["phases"])[-2:] == ["all", "more"]
    assert raw["schedule"]["phases"]["all"]["epochs"] == 3
    raw = composed(*CHAIN, "~schedule.phases.all", "schedule.final=depth2")
    check_params(raw, TABLES)
    assert list(raw["schedule"]["phases"]) == ["depth1", "depth2"]


def test_every_row_of_the_tables_has_its_yaml():
    assert set(GROUPS["backbone"]) == set(BACKBONES)
    assert set(GROUPS["dataset"]) == set(DATASETS)
    for name in BACKBONES:
        assert composed(f"backbone={name}")["backbone"]["name"] == name
    for name in DATASETS:
        assert composed(f"dataset={name}")["dataset"]["name"] == name


def test_the_weights_file_is_the_one_that_is_given(tmp_path):
    file = tmp_path / "my.weights.h5"
    file.touch()
    raw = composed(f"backbone.weights='{file}'")
    assert raw["backbone"]["weights_file"] == str(file)
    check_params(raw, TABLES)


@pytest.mark.parametrize("name", ["photos", "photos.csv"])
def test_a_path_of_images_is_made_absolute_and_dvc_hashes_the_folder(tmp_path, monkeypatch, name):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/photos.csv").touch()
    (tmp_path / "images/photos").mkdir()
    monkeypatch.chdir(tmp_path / "images/photos")
    section = compose(["dataset=folder", f"dataset.path=../{name}", "backbone=mobilenetv2"], CONF)["dataset"]
    assert section["path"] == str(tmp_path / "images" / name)
    assert section["files"] == str(tmp_path / ("images" if name.endswith("csv") else "images/photos"))
    assert section["image_size"] == 160, "as the backbone's"


@pytest.mark.parametrize("dataset", sorted({*GROUPS["dataset"]} - {"folder"}))
def test_without_a_folder_dvc_has_a_file_of_the_checkout_to_hash(dataset):
    file = composed(f"dataset={dataset}")["dataset"]["files"]
    assert file == f"thaw/datasets/{dataset}.py"  # a dependency already
    assert (ROOT / file).is_file()


def test_of_a_folder_class_names_are_checked_where_they_are_known():
    raw = composed(*FOLDER)
    raw["evaluate"]["gallery_class"], raw["class_weights"] = "siamese", {"siamese": 2.0}
    raw["dataset"]["classes"] = ["siamese", "manx"]
    check_params(raw, TABLES)
    known = {"classes": ("manx", "ragdoll"), "train_count": 300, "test_count": 20, "sizes": (100, 200)}
    tables = replace(TABLES, describe=lambda section: replace(DATASETS["folder"], **known))
    assert refusal(raw, tables).startswith("dataset.classes: received 'siamese'; accepted: manx, ragdoll; or 0 to 1")
    raw["dataset"]["classes"] = None
    assert refusal(raw, tables).startswith("evaluate.gallery_class: received 'siamese'")
    raw["evaluate"]["gallery_class"] = 1
    assert refusal(raw, tables).startswith("class_weights: received 'siamese'")
    raw["class_weights"] = {"manx": 2.0}
    check_params(raw, tables)
    raw["batch_size"] = 271
    assert refusal(raw, tables) == "batch_size: received 271; accepted: 1 to 270, the training images there are"


@pytest.mark.parametrize("end", ["", "/", "/."])
def test_a_path_of_weights_from_the_checkout_is_absolute_for_dvc_and_holds_in_any_folder(tmp_path, monkeypatch, end):
    raw = composed(*CNN, f"backbone.weights='{os.path.relpath(checkpoint(tmp_path / 'model'), ROOT)}{end}'")
    assert raw["backbone"]["weights_file"] == str(tmp_path / "model")
    # As a queued or temporary run, which works in a copy of the checkout.
    monkeypatch.chdir(tmp_path)
    check_params(raw, TABLES)


@pytest.mark.parametrize("weights", ["imagenet", "none"])
@pytest.mark.parametrize("backbone", GROUPS["backbone"])
def test_without_a_weights_file_dvc_has_a_file_of_the_checkout_to_hash(backbone, weights):
    file = composed(f"backbone={backbone}", f"backbone.weights={weights}")["backbone"]["weights_file"]
    assert file == f"thaw/backbones/{backbone}.py"  # a dependency already
    assert (ROOT / file).is_file()


@pytest.mark.parametrize(
    ("overrides", "pool"),
    [
        (["backbone=vgg16"], "flatten"),
        (["backbone=mobilenetv2"], "avg"),
        (["backbone=vgg16", "head=gap"], "avg"),
        (["head=gap", "backbone=vgg16"], "avg"),
        (["backbone=mobilenetv2", "head=flatten"], "flatten"),
        (["recipe=demo", "head=flatten"], "flatten"),
    ],
)
def test_a_backbone_brings_its_usual_head_unless_another_is_chosen(overrides, pool):
    assert composed(*overrides)["head"]["pool"] == pool


PUBLISHED = {
    "vgg16-gradual": {
        "dataset.name": "cifar10", "dataset.classes": None, "backbone.name": "vgg16", "backbone.weights": "imagenet",
        "backbone.image_size": 32, "head.pool": "flatten", "head.units": 256, "head.dropout": 0.5,
    },
    "resnet50-finetune": {
        "dataset.name": "cifar10", "backbone.name": "resnet50v15", "backbone.weights": "imagenet", "head.pool": "avg",
        "head.units": 256, "head.dropout": 0, "head.epochs": 10, "augment.flip": True,
        "schedule.phases.all.depth": "all",
    },
    "class-split": {
        "dataset.name": "cifar10", "dataset.classes": ["horse", "ship", "truck"], "backbone.weights": "none",
        "backbone.source.classes": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog"],
    },
    "cnn-scratch": {"dataset.name": "cifar10", "backbone.weights": "none", "head.epochs": 0},
    "resnet18-transfer": {
        "dataset.name": "cifar10", "backbone.name": "resnet18", "backbone.weights": "imagenet", "head.units": None,
    },
    "cifar100-mobilenetv2": {
        "dataset.name": "cifar100", "backbone.name": "mobilenetv2", "backbone.weights": "imagenet",
        "head.pool": "avg", "head.units": 512, "head.epochs": 10, "schedule.phases.layers50.layers": 50,
        "schedule.phases.layers50.epochs": 5,
    },
}  # fmt: skip


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_recipe_holds_what_is_published(recipe):
    raw = composed(f"recipe={recipe}")
    assert {key: get(raw, key) for key in PUBLISHED[recipe]} == PUBLISHED[recipe]
    if recipe == "resnet50-finetune":
        assert raw["augment"]["rotation"] > 0 < raw["augment"]["zoom"]
    for later in {"resnet50-finetune", "cifar100-mobilenetv2"} & {recipe}:
        (phase,) = composed(f"recipe={later}")["schedule"]["phases"].values()
        assert phase["learning_rate"] < raw["head"]["learning_rate"], "at a lower rate"


def test_the_three_classes_from_nothing_have_the_epochs_of_the_second_task():
    split, scratch = composed("recipe=class-split"), composed("recipe=class-split-scratch")
    epochs = [
        sum(one["epochs"] for one in (raw["head"], *raw["schedule"]["phases"].values())) for raw in (split, scratch)
    ]
    assert epochs[0] == epochs[1]
    assert split["dataset"]["classes"] == scratch["dataset"]["classes"]


def test_a_recipe_wins_over_the_groups_and_a_single_value_over_the_recipe():
    group = composed("backbone=cnn")["head"]["units"]
    recipe = composed("recipe=demo")["head"]["units"]
    assert group != recipe
    assert composed("recipe=demo", "backbone=cnn")["head"]["units"] == recipe
    assert composed("recipe=demo", f"head.units={group}")["head"]["units"] == group


@pytest.mark.parametrize("schedule", ["full", "gradual", "head-only", "scratch"])
@pytest.mark.parametrize("recipe", GROUPS["recipe"])
def test_a_schedule_or_augmentation_that_is_chosen_is_taken_instead_of_the_recipes(recipe, schedule):
    raw = composed(*chosen("recipe", recipe), f"schedule={schedule}", "augment=strong")
    check_params(raw, TABLES)
    backbone = raw["backbone"]
    # What phases take from the backbone.
    taken = [f"backbone.{key}={backbone[key]}" for key in ("learning_rate", "learning_rate_all", "batch_norm")]
    usual = composed(f"schedule={schedule}", "augment=strong", f"backbone={backbone['name']}", *taken)
    assert raw["schedule"] == usual["schedule"]
    assert raw["augment"] == usual["augment"] | ({"flip": False} if recipe == "demo" else {})


def test_a_recipe_chooses_another_head_than_its_backbone_does(tmp_path):
    shutil.copytree(CONF, tmp_path / "conf")
    recipe = "# @package _global_\ndefaults:\n  - override /backbone: resnet18\n  - override /head: flatten\n"
    (tmp_path / "conf/recipe/mine.yaml").write_text(recipe)
    raw = composed("recipe=mine", conf=tmp_path / "conf")
    assert (raw["backbone"]["name"], raw["head"]["pool"]) == ("resnet18", "flatten")
    check_params(raw, TABLES)


def test_the_scratch_schedule_trains_no_head_and_takes_no_weights():
    raw = composed("schedule=scratch")
    assert raw["head"]["epochs"] == 0
    assert raw["backbone"]["weights"] == "none"


# --- every parameter is explained once ---


def leaves(node: yaml.MappingNode, above: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    """The keys that hold a value, by dotted name, and their line numbers."""
    for key, value in node.value:
        name = (*above, key.value)
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from leaves(value, name)
        elif name[0] != "defaults":
            yield ".".join(name), key.start_mark.line


def comment_above(lines: list[str], line: int) -> str:
    """The comment that ends above a line, in one line."""
    first = line
    while first and lines[first - 1].strip().startswith("#"):
        first -= 1
    return " ".join(text.strip().removeprefix("# ") for text in lines[first:line])


# The files that have all keys of a section, and where their keys stand in the parameters.
EXPLAINING = {
    "config.yaml": "",
    "dataset/base/usual.yaml": "dataset.",
    "backbone/base/usual.yaml": "backbone.",
    "head/base/usual.yaml": "head.",
    "augment/none.yaml": "augment.",
    "schedule/phase/usual.yaml": "schedule.phases.<phase>.",
    "schedule/head-only.yaml": "schedule.",
}


@pytest.mark.parametrize("file", EXPLAINING)
def test_a_comment_above_each_key_is_what_the_schema_says_of_it(file):
    text = (CONF / file).read_text(encoding="utf-8")
    keys = {key.name: key for key in every_key()}
    for name, line in leaves(yaml.compose(text)):
        key = keys[EXPLAINING[file] + name]
        assert key.does in comment_above(text.splitlines(), line), key.name


def test_the_page_of_parameters_is_the_schemas():
    def without_defaults(text: str) -> list[str]:  # which are conf/'s, and so a user's own
        return [re.sub(r" \| [^|]*( \| [^|]* \|)$", r"\1", line) for line in text.splitlines()]

    committed = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    assert without_defaults(committed) == without_defaults(page()), "python -m tools.parameters"


def test_every_key_is_explained_in_one_file_of_conf():
    explained = Counter(
        prefix + name
        for file, prefix in EXPLAINING.items()
        for name, _ in leaves(yaml.compose((CONF / file).read_text(encoding="utf-8")))
    )
    # What thaws is each phase's own, and a source task some recipes'.
    own = {"schedule.phases.<phase>.depth", "schedule.phases.<phase>.layers"}
    own.add("code")  # in conf/ of a project made by `thaw new` alone
    wanted = {key.name for key in every_key() if not key.name.startswith("backbone.source.")} - own
    assert explained == dict.fromkeys(wanted | {"schedule.phases"}, 1)


@pytest.mark.parametrize("recipe", GROUPS["recipe"])
def test_a_recipe_says_what_it_is(recipe):
    package, header, *_ = (CONF / "recipe" / f"{recipe}.yaml").read_text(encoding="utf-8").splitlines()
    assert package == "# @package _global_"
    assert re.match(r"# \w", header)


# --- what is refused ---

MISSING = object()
NAN, INF = float("nan"), float("inf")
MOBILENET = ("backbone=mobilenetv2",)
CNN = ("backbone=cnn",)
DIGITS = ("dataset=digits", "backbone=cnn")
DEMO = ("recipe=demo",)
FULL = ("schedule=full",)
# Three phases: depth1, depth2, all.
CHAIN = ("schedule=recipe/vgg16-gradual",)
# A value of a type that none of the parameters has.
STRANGE = {"no": "such"}


def phase(**changes: Any) -> dict:
    """A good phase right after the head, with changes; MISSING takes a key out."""
    changed = composed(*CHAIN)["schedule"]["phases"]["depth1"] | changes
    return {key: value for key, value in changed.items() if value is not MISSING}


class Bad:
    """One wrong value: put at `key` into what `base` composes to, refused in the name of `blamed`."""

    def __init__(self, key: str, value: Any, blamed: str | None = None, base: tuple[str, ...] = ()) -> None:
        self.key, self.value, self.blamed, self.base = key, value, blamed or key, base

    def __repr__(self) -> str:
        value = "missing" if self.value is MISSING else repr(self.value)
        return f"{self.key}={value}"[:70] + "".join(f" {override}" for override in self.base)


def each(key: str, *values: Any, base: tuple[str, ...] = ()) -> list[Bad]:
    return [Bad(key, value, base=base) for value in values]


WHOLE_FROM_1 = (0, -1, True, 1.5, NAN, INF, "1", None, [1])
WHOLE_OR_NULL = (0, -1, True, 1.5, NAN, "1", [1])
SHARES = (1, 1.0, -0.1, True, NAN, INF, "0.1", None)
SEEDS = (-1, 2**31, True, 0.5, NAN, INF, "0", None)
RATES = (0, -0.001, 11, True, NAN, INF, "0.001", None)
ONE_OF = ("", "other", True, None, 1, ["avg"])


def training(where: str, base: tuple[str, ...] = ()) -> list[Bad]:
    """What is wrong of any training run, whatever it trains."""
    return [
        *each(f"{where}.learning_rate", *RATES, base=base),
        *each(f"{where}.final_learning_rate", -0.001, 11, True, NAN, INF, "0.001", None, base=base),
        *each(f"{where}.label_smoothing", *SHARES, base=base),
        *each(f"{where}.average", *SHARES, base=base),
        *each(f"{where}.lr_schedule", *ONE_OF, base=base),
        # Longer than any training of conf/, too.
        *each(f"{where}.warmup_epochs", -1, 1000, True, NAN, INF, "1", None, base=base),
        *each(f"{where}.patience", *WHOLE_OR_NULL, base=base),
    ]


BAD = [
    *each("backend", "torch", "TensorFlow", *ONE_OF),
    *each("device.xla", "on", 1, 0, None, []),
    Bad("device.xla", False, base=("backend=jax",)),
    *each("device.precision", "float16", "bfloat16", *ONE_OF),
    *each("run.log", "dvclive", 1, True, {"mlflow": 1}),
    *(Bad("run.log", ["dvclive", one], "run.log.1") for one in ("wandb", None, 1)),
    *each("run.workers", 0, -1, 1.5, "2", None, True),
    *each("run.cluster", "host", "host:", ":6379", "http://host:6379", "", 6379, True),
    Bad("run.cluster", "host:6379"),
    *each("run.replicas", 0, -1, 1.5, "2", None, True, "all"),
    Bad("run.replicas", 2),
    *each("batch_size", 127, base=("backend=jax", "run.replicas=2")),
    *each("run.data_gb", -1, -0.1, NAN, INF, "1", None, True),
    *each("seed", *SEEDS),
    *each("batch_size", *WHOLE_FROM_1),
    *each("min_steps", -1, True, 1.5, NAN, INF, "1", None),
    # More than the training images there are: all, some, of some classes, of the source task.
    Bad("batch_size", 45_001),
    Bad("batch_size", 101, base=("dataset.limit=100", "batch_size=100")),
    Bad("batch_size", 9_001, base=("dataset.classes=[cat,dog]",)),
    Bad("batch_size", 383, base=DEMO),
    Bad("backbone.source.classes", [0, 1], "batch_size", (*DEMO, "batch_size=300")),
    # dataset
    *each("dataset.name", "cifar", "CIFAR10", "", None, 10),
    *each("dataset.url", None, "", 5, "ftp://host/a.tar.gz", "www.host.org/a.tar.gz", "/a.tar.gz", "https://"),
    *each("dataset.url", "https://host", "https://host/", "https://host/?x", "https://host/folder/", "https://host/.."),
    *each("dataset.url", "https://host/a%00.tar.gz", "file:///a%00.tar.gz"),
    *each("dataset.url", "https:///a.tar.gz", "https://[::1/a.tar.gz", "file:///", True),
    *each("dataset.url", "https://host:port/a.tar.gz", "file://a.tar.gz", "file://host/a.tar.gz", "file:a.tar.gz"),
    *each("dataset.sha256", None, "", "abc", "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", 5),
    Bad("dataset.url", "https://host/digits.tar.gz", base=DIGITS),
    Bad("dataset.sha256", "0" * 64, base=DIGITS),
    *each("dataset.image_size", 7, 1025, True, 32.0, NAN, "32", None, 33),
    Bad("dataset.image_size", 64, base=DIGITS),
    Bad("dataset.image_size", 7, base=FOLDER),
    *each("dataset.path", "", 5, True, [], "/photos"),
    Bad("dataset.path", "/photos", base=DIGITS),
    *each("dataset.path", None, "", "photos", "../photos", base=FOLDER),
    *each("dataset.files", None, 5),
    *each("dataset.files", "/", "photos", "/photos/cat", base=("dataset=folder", "dataset.path=/my/photos")),
    *each("dataset.max_pixels", *WHOLE_FROM_1),
    *each("dataset.strict", 0, 1, "yes", None, []),
    *each("dataset.per_class", *WHOLE_OR_NULL),
    Bad("dataset.per_class", 5, base=("dataset.limit=200",)),
    Bad("batch_size", 51, base=("dataset.per_class=5", "batch_size=50")),
    *each("dataset.limit", 9, 45_001, *WHOLE_OR_NULL),
    Bad("dataset.limit", 99, base=("dataset=cifar100",)),
    Bad("dataset.limit", 1_147, base=DIGITS),
    *each("dataset.classes", [], ["cat"], ["cat", "cat"], ["cat", 3], "cat", 3, True),
    *each("dataset.classes", [3, 3], base=("dataset=cifar100",)),
    *(Bad("dataset.classes", ["dog", one], "dataset.classes") for one in ("unicorn", "Cat", 10, -1)),
    *(Bad("dataset.classes", ["dog", one], "dataset.classes.1") for one in (True, 1.0, None, ["cat"], {"cat": 1})),
    *each("dataset.val_fraction", 0, 1, -0.1, 1.5, 1e-9, 0.99999, NAN, INF, True, "0.1", None),
    *each("dataset.test_fraction", 0, 1, -0.1, 1.5, NAN, INF, True, "0.1", None),
    *each("dataset.seed", *SEEDS),
    # backbone
    *each("backbone.name", "vgg19", "VGG16", "", None, 16),
    *each("backbone.weights", "", "no/such/file.h5", str(CONF), None, 5, "a" * 300),
    Bad("backbone.weights", "imagenet", base=CNN),
    Bad("backbone.weights_file", "conf/backbone/cnn.yaml", base=(f"backbone.weights='{CONF / 'config.yaml'}'",)),
    *each("backbone.weights_file", None, 5),
    *each("backbone.image_size", 31, 1025, 0, -32, True, 32.0, NAN, "32", None),
    Bad("backbone.image_size", 15, base=CNN),
    *each("backbone.learning_rate", *RATES),
    *each("backbone.learning_rate_all", *RATES),
    *each("backbone.batch_norm", *ONE_OF),
    *each("backbone.alpha", 1.0, 0, MISSING),
    *each("backbone.alpha", 0, -1, 5, 0.6, True, NAN, INF, "1.0", None, MISSING, base=MOBILENET),
    *each("backbone.alpha", 0, -1, 5, NAN, INF, MISSING, base=(*MOBILENET, "backbone.weights=none")),
    *each("backbone.source", 5, [], "cifar100", True),
    Bad("backbone.source", {}, "backbone.source.epochs"),
    *each("backbone.source.epochs", *WHOLE_FROM_1, base=DEMO),
    *training("backbone.source", DEMO),
    *each("backbone.source.classes", [], [0], [0, 0], [0, 10], [0, "cat"], "0", base=DEMO),
    # head
    *each("head.pool", "max", *ONE_OF),
    *each("head.units", *WHOLE_OR_NULL),
    *each("head.dropout", *SHARES),
    *each("head.epochs", -1, True, 1.5, NAN, INF, "1", None),
    *training("head"),
    Bad("head.warmup_epochs", 10.5),
    Bad("head.warmup_epochs", INF, base=("head.lr_schedule=constant",)),
    Bad("head.epochs", 1, "head.warmup_epochs", ("head.warmup_epochs=2",)),
    # augment
    *each("augment.flip", 0, 1, "yes", "Alternate", None, NAN, ["alternate"]),
    *(bad for key in ("translation", "rotation", "zoom", "contrast") for bad in each(f"augment.{key}", *SHARES)),
    *each("augment.views", *WHOLE_FROM_1),
    Bad("augment.views", 2, base=("augment=none",)),
    Bad("augment.flip", False, "augment.views", base=("augment.translation=0",)),
    *each("augment.seed", *SEEDS),
    # schedule
    *each("schedule.phases", None, [], "all", ["all"], 3),
    *each("schedule.phases.depth1", None, [], 5, "head", base=CHAIN),
    *each("schedule.phases.depth1.lr_decay", 0, -0.5, 1.5, True, NAN, INF, "0.5", None, base=CHAIN),
    *each("schedule.phases.depth1.moments", *ONE_OF, base=CHAIN),
    *each("schedule.phases.depth1.epochs", *WHOLE_FROM_1, base=CHAIN),
    *training("schedule.phases.depth1", CHAIN),
    *each("schedule.phases.depth1.batch_norm", *ONE_OF, base=CHAIN),
    *each("schedule.phases.depth1.after", "nowhere", "Head", "", None, 1, base=CHAIN),
    Bad("schedule.phases.depth1.after", "depth1", base=CHAIN),
    Bad("schedule.phases.depth1.after", "all", base=CHAIN),
    *each("schedule.phases.depth1.depth", 0, -1, 6, True, 1.0, NAN, "1", "All", [1], base=CHAIN),
    Bad("schedule.phases.depth1.depth", 5, base=CNN),
    Bad("schedule.phases.depth1.depth", 3, "schedule.phases.depth2.depth", base=CHAIN),
    Bad("schedule.phases.depth1.depth", "all", "schedule.phases.depth2.depth", base=CHAIN),
    Bad("schedule.phases.depth1.depth", None, "schedule.phases.depth1", base=CHAIN),
    Bad("schedule.phases.depth1.layers", 3, "schedule.phases.depth1", base=CHAIN),
    *(
        Bad("schedule.phases.all", phase(depth=MISSING, layers=layers), "schedule.phases.all.layers", FULL)
        for layers in (-1, 19, 1000, True, 1.5, NAN, "3")
    ),
    Bad("schedule.phases.all", phase(after="depth2", depth=MISSING, layers=18), "schedule.phases.all.layers", CHAIN),
    *(
        Bad("schedule.phases", {name: phase()}, f"schedule.phases.{name}")
        for name in ("head", "backbone", "a/b", "../a", "a.b", "a b", "-a", "", ".", "${a}", "é", 1, 1.5, True, None)
    ),
    # Left out of the chain, a chain of its own, and one that goes on after the last.
    Bad("schedule.phases.all.after", "depth1", "schedule.phases.depth2", base=CHAIN),
    Bad("schedule.phases.other", phase(after="other"), "schedule.phases.other", base=CHAIN),
    Bad("schedule.final", "depth2", "schedule.phases.all", base=CHAIN),
    Bad("schedule.final", "head", "schedule.phases.depth1", base=CHAIN),
    *each("schedule.final", "last", "", None, True, 3),
    *each("schedule.views", *WHOLE_FROM_1),
    *each("head.mixup", -0.1, 11, NAN, INF, "0.2", None, True),
    *each("schedule.phases.all.mixup", -0.1, 11, NAN, INF, "0.2", None, True, base=CHAIN),
    # extract
    *each("extract.cuts", [], [1], [0, 0], [0, 1, 1], [0, 5], [0, -1], 0, "0", None, True),
    *(Bad("extract.cuts", [0, one], "extract.cuts.1") for one in (True, 1.0, NAN, "1", None)),
    *each("extract.cuts", [[0, 1], [0, 2], [0]], [[1], [1], [1]], [[0], [0], []], [[0, 0], [0], [0]]),
    *each("extract.cuts", [[0, 5], [0], [0]], [[0, -1], [0], [0]], [[0], [0], [0], [1]], [[]], {0: 3}, {"0": 3, 1: 1}),
    *(Bad("extract.cuts", [[0, one], [0], [0]], "extract.cuts.0") for one in (True, 1.0, NAN, "1", None)),
    Bad("extract.cuts", [0, [0], 1], "extract.cuts.1"),
    Bad("extract.cuts", [0, 4], base=CNN),
    *each("extract.budget_gb", -1, -0.1, NAN, INF, "10", None, True),
    *each("extract.dtype", "bfloat16", "float64", *ONE_OF),
    *each("extract.batch_size", *WHOLE_FROM_1),
    *each("evaluate.gallery_class", "fox", "", 10, -1, True, 1.0, NAN, ["cat"]),
    Bad("evaluate.gallery_class", "0", base=DEMO),  # of the source task
    Bad("evaluate.gallery_class", 0, base=DEMO),
    *each("evaluate.views", *WHOLE_FROM_1, 11),
    Bad("evaluate.views", 6, base=DEMO),  # without mirror images
    Bad("augment.flip", False, "evaluate.views", ("evaluate.views=10",)),
    *each("evaluate.corruptions", "on", 1, 0, None, []),
    *each("class_weights", "equal", [], 1, True, {"fox": 1}, {10: 1}, {-1: 1}, {True: 1}, {3: 1, "cat": 2}),
    *each("class_weights", *({"cat": weight} for weight in (0, -1, 11, NAN, INF, "2", None, True))),
    Bad("class_weights", {"0": 2}, base=DEMO),  # of the source task
    # Whole sections, and keys that nobody knows, at each level.
    *(Bad(section, value) for section in ("dataset", "backbone", "head", "augment", "schedule", "extract", "evaluate",
      "device", "run")
      for value in (None, [], 5, "text")),
    *each("learning_rate", 0.1),
    *(bad for key in ("recipe", "head.name", "augment.name", "schedule.name") for bad in each(key, "", None, 5, True)),
    *(Bad(f"{section}.typo", 1) for section in ("dataset", "backbone", "head", "augment", "schedule", "extract",
      "evaluate")),
    Bad("schedule.phases.depth1.typo", 1, base=CHAIN),
    Bad("backbone.source.typo", 1, base=DEMO),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_wrong_parameter_is_refused_by_name(bad):
    raw = composed(*bad.base)
    check_params(raw, TABLES)  # it is the one change below that is refused
    *above, name = bad.key.split(".")
    section = get(raw, ".".join(above)) if above else raw
    if bad.value is MISSING:
        del section[name]
    else:
        section[name] = copy.deepcopy(bad.value)
    assert refusal(raw).startswith(f"{bad.blamed}: received ")


def parameters(raw: dict, above: str = "") -> Iterator[str]:
    for name, value in raw.items():
        if isinstance(value, dict) and value:
            yield from parameters(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


# The source task and the width, too, which the default has not.
EVERY = dict.fromkeys(parameters(composed(*DEMO)), DEMO) | {"backbone.alpha": MOBILENET}


@pytest.mark.parametrize("key", EVERY)
def test_every_parameter_is_required_and_has_a_type(key):
    *above, name = key.split(".")
    # `layers` may stand in place of `depth`.
    for value in (STRANGE,) if name == "depth" else (MISSING, STRANGE):
        raw = composed(*EVERY[key])
        section = get(raw, ".".join(above)) if above else raw
        if value is MISSING:
            del section[name]
        else:
            section[name] = value
        assert refusal(raw).startswith(f"{key}: received ")


# What YAML can hold.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["all", "none"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted({".".join(key.split(".")[:depth]) for key in EVERY for depth in (1, 2, 3, 4)})), ANYTHING)
def test_whatever_a_parameter_or_a_section_is_it_is_accepted_or_refused_in_one_line(key, value):
    raw = composed(*EVERY.get(key, DEMO))
    *above, name = key.split(".")
    (get(raw, ".".join(above)) if above else raw)[name] = value
    try:
        check_params(raw, TABLES)
    except ParamError as error:
        assert re.fullmatch(r"[^\n]+: received [^\n]+; accepted: [^\n]+", str(error))


def test_every_parameter_has_cases_above():
    def anywhere(key: str) -> str:
        return re.sub(r"^schedule\.phases\.\w+", "schedule.phases.*", key)

    assert {anywhere(key) for key in EVERY} <= {anywhere(bad.key) for bad in BAD}


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("backbone.name", "vgg19", "received 'vgg19'; accepted: cnn, convnexttiny, efficientnetv2b0, "),
        ("dataset.name", "cifar", "received 'cifar'; accepted: cifar10, cifar100, digits, folder"),
        ("head.units", "x" * 1000, f"received '{'x' * 496}...; accepted: a whole number from 1 up"),
        ("schedule.typo", 1, "received an unknown key; accepted: name, views, phases, final"),
        ("schedule.phases.all.typo", 1, "received an unknown key; accepted: epochs, "),
        ("schedule.phases.depth1.depth", 6, "received 6; accepted: 1 to 5, the blocks of vgg16, or all"),
        ("schedule.phases.depth1.layers", 0, "received both depth and layers; accepted: one of the two"),
        ("schedule.phases.depth1.depth", None, "received neither depth nor layers; accepted: one of the two"),
        (
            "schedule.final",
            "depth2",
            "received a phase outside the chain head -> depth1 -> depth2; accepted: a phase that",
        ),
        ("dataset.limit", 7, "received 7; accepted: 10 to 45000 for cifar10, or null for all"),
        (
            "dataset.classes",
            ["cat", "dgo"],
            "received 'dgo'; accepted: airplane, automobile, bird, cat, deer, dog, frog, ",
        ),
    ],
)
def test_a_refusal_says_what_came_and_what_would_do(key, value, text):
    raw = composed(*CHAIN)
    *above, name = key.split(".")
    get(raw, ".".join(above))[name] = value
    assert text in refusal(raw)


def test_a_phase_may_be_named_like_a_parameter():
    # Such a name is no key of a phase, also not in the refusal of what is in it.
    raw = composed(*FULL)
    raw["schedule"] |= {"phases": {"epochs": phase()}, "final": "epochs"}
    check_params(raw, TABLES)
    raw["schedule"]["phases"]["epochs"]["typo"] = 1
    text = refusal(raw)
    assert text.startswith("schedule.phases.epochs.typo: received an unknown key; accepted: epochs, learning_rate")


@pytest.mark.parametrize("raw", [None, [], ["seed"], "text", 5, True])
def test_what_is_no_mapping_is_refused(raw):
    assert refusal(raw).startswith("params.yaml: received ")


def test_a_key_that_is_no_text_is_refused():
    assert refusal(composed() | {1: 2}).startswith("1: received an unknown key; accepted: recipe, ")


@pytest.mark.parametrize(
    ("saved", "overrides", "said"),
    [
        (
            {"name": "vgg16"},
            CNN,
            "backbone.name: received 'cnn'; accepted: vgg16, as in the checkpoint of backbone.weights",
        ),
        (
            {"name": "mobilenetv2", "alpha": 0.35},
            MOBILENET,
            "backbone.alpha: received 1.0; accepted: 0.35, as in the checkpoint of backbone.weights",
        ),
        (
            {"name": "cnn"},
            DEMO,
            "backbone.source: received a source task; accepted: null where backbone.weights is a checkpoint",
        ),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(tmp_path, saved, overrides, said):
    assert refusal(composed(*overrides, f"backbone.weights='{checkpoint(tmp_path / 'model', **saved)}'")) == said


def test_a_checkpoint_may_be_of_images_of_another_size_and_of_a_width_that_was_told_where_there_is_none(tmp_path):
    folder = checkpoint(tmp_path / "model", "vgg16", alpha=1.0, image_size=64)
    check_params(composed("backbone=vgg16", f"backbone.weights='{folder}'"), TABLES)


@pytest.mark.parametrize("text", [None, "{}", "no JSON"])
def test_a_folder_without_a_checkpoint_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "checkpoint.json").write_text(text)
    said = refusal(composed(*CNN, f"backbone.weights='{tmp_path}'"))
    assert said.startswith("backbone.weights: received '")
    assert said.endswith("; accepted: a folder with a checkpoint.json of thaw")


@pytest.mark.parametrize("name", ["models/all", "models/moments/../other", "link"])
def test_a_checkpoint_among_the_outputs_is_refused_as_dvc_would_go_round_in_a_circle(tmp_path, monkeypatch, name):
    for folder in ("models/all", "models/other"):
        checkpoint(tmp_path / folder)
    (tmp_path / "models/moments").mkdir()
    (tmp_path / "link").symlink_to("models/all")
    monkeypatch.chdir(tmp_path)
    said = refusal(composed(*CNN, f"backbone.weights='{tmp_path / name}'"))
    assert "; accepted: a copy outside of models/, which the run itself writes: cp -rL " in said
    checkpoint(tmp_path / "mine")
    check_params(composed(*CNN, f"backbone.weights='{tmp_path}/mine'"), TABLES)


# --- what is accepted, at the edges ---


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["dataset.limit=10", "batch_size=10"], "dataset.limit"),
        (["dataset.limit=45000"], "dataset.limit"),
        (["batch_size=45000"], "batch_size"),
        (["dataset.classes=[truck,0]"], "dataset.classes"),
        (["dataset.url=HTTP://host:8080/a.tar.gz"], "dataset.url"),
        (["dataset.url='https://host/a.tar.gz?download=1'"], "dataset.url"),
        (["dataset.url=file:///a.tar.gz"], "dataset.url"),
        ([f"dataset.sha256={'aB' * 32}"], "dataset.sha256"),
        ([*CNN, "backbone.image_size=16"], "backbone.image_size"),
        ([*MOBILENET, "backbone.alpha=0.35"], "backbone.alpha"),
        ([*MOBILENET, "backbone.weights=none", "backbone.alpha=2"], "backbone.alpha"),
        (["head.units=null"], "head.units"),
        (["head.dropout=0"], "head.dropout"),
        (["head.epochs=0", "head.warmup_epochs=3"], "head.epochs"),
        (["head.warmup_epochs=99", "head.lr_schedule=constant"], "head.warmup_epochs"),
        (["head.warmup_epochs=0.5"], "head.warmup_epochs"),
        (["head.patience=null"], "head.patience"),
        (["seed=2147483647"], "seed"),
        (["extract.cuts=[4,0]"], "extract.cuts"),
        (["evaluate.views=10"], "evaluate.views"),
        ([*DEMO, "evaluate.views=5"], "evaluate.views"),
        (["evaluate.corruptions=true"], "evaluate.corruptions"),
        (["extract.cuts=[[4,0],[0],[4]]"], "extract.cuts"),
        (["extract.cuts=[[0,3],[3]]"], "extract.cuts"),
        (["extract.cuts=[[0,3],[3]]", "augment.views=1"], "extract.cuts"),
        (["augment.flip=alternate"], "augment.flip"),
        (["augment=none", "augment.flip=true", "augment.views=9"], "augment.views"),
        (["augment=none", "augment.translation=0.1", "augment.views=9"], "augment.views"),
        (["augment=none", "augment.rotation=0.1", "augment.views=9"], "augment.views"),
        (["augment=none", "augment.zoom=0.1", "augment.views=9"], "augment.views"),
        (["augment=none", "augment.contrast=0.1", "augment.views=9"], "augment.views"),
        ([*FULL, "~schedule.phases.all.depth", "+schedule.phases.all.layers=18"], "schedule.phases.all.layers"),
        # 11 layers are the blocks 1 to 3 of VGG16: as deep as depth 2.
        (
            [*CHAIN, "~schedule.phases.depth2.depth", "+schedule.phases.depth2.layers=11"],
            "schedule.phases.depth2.layers",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_unusual_and_right_is_accepted(overrides, key):
    raw = composed(*overrides)
    *above, name = key.split(".")
    section = check_params(raw, TABLES)
    for part in above:
        section = section[part] if isinstance(section, dict) else getattr(section, part)
    assert getattr(section, name) == get(raw, key)


@pytest.mark.parametrize(
    ("cut", "frozen"), [({"depth": 1}, 15), ({"depth": 4}, 4), ({"depth": "all"}, 0), ({"layers": 7}, 7)]
)
def test_a_cut_is_a_number_of_frozen_layers(cut, frozen):
    checked = Phase.model_validate(phase(depth=MISSING) | cut)
    assert frozen_layers(checked, "vgg16") == frozen


# --- params.yaml as a hand has edited it ---


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "+1e-03", "1.e-3", ".1e-2", "0.001", "1.0e-3"])
def test_a_number_is_read_as_yaml_1_2_writes_it(tmp_path, number):
    file = tmp_path / "params.yaml"
    compose_params([], file, CONF)
    text = file.read_text(encoding="utf-8")
    line = "  units: 256\n  dropout: 0.5\n  epochs: 10\n  learning_rate: 0.001\n"
    assert line in text
    file.write_text(text.replace(line, line.replace("0.001", number)))
    assert read_params(file).head.learning_rate == 0.001


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not found; run from the root of a checkout; there `thaw params` writes it"),
        (b"seed: [", "line 1: not a YAML file"),
        (b"seed: 0\nhead:\n\tunits: 1\n", "line 3: not a YAML file"),
        (b"seed: 0\n  batch_size: 1\n", "line 2: not a YAML file"),
        (b"seed: *nowhere\n", "not a YAML file"),
        (b"seed: !!python/object/apply:os.getcwd []\n", "not a YAML file"),
        (b"seed: 2001-13-01\n", "not a YAML file"),
        (b"\xff\xfe\xff", "not a YAML file"),
        (b"\x00", "not a YAML file"),
        (b"", "params.yaml: received nothing; accepted: a mapping with recipe"),
        (b"- seed\n", "params.yaml: received ['seed']; accepted: a mapping with recipe"),
        (b"seed\n", "params.yaml: received 'seed'; accepted: a mapping with recipe"),
    ],
)
def test_a_file_that_is_no_mapping_in_yaml_is_refused_in_one_line(tmp_path, content, said):
    file = tmp_path / "params.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ThawError) as caught:
        read_params(file)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_below_a_checkout_its_root_is_named(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").touch()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    with pytest.raises(ThawError, match=f"^params.yaml: not found; run from the root of the checkout, {tmp_path}$"):
        read_params()


def test_a_recipe_that_changes_phases_of_another_backbone_says_what_to_add():
    raw = composed("recipe=mobilenetv2-gradual", "backbone=cnn")
    told = r"recipe/mobilenetv2-gradual changes depth3, which .* cnn do not have: add -S schedule=gradual$"
    with pytest.raises(ParamError, match=told):
        parse_params(raw)


def test_the_recipe_for_photos_takes_any_backbone():
    params = parse_params(composed("recipe=photos", "dataset.path=photos", "backbone=cnn"))
    assert list(params.schedule.phases) == ["depth1", "depth2", "all"]


def test_the_page_of_messages_is_up_to_date():
    from tools import messages

    assert (ROOT / "docs/messages.md").read_text(encoding="utf-8") == messages.page(), "python -m tools.messages"


@pytest.mark.parametrize("chosen", [None, 7, "9"])
def test_the_class_of_the_gallery_is_one_that_is_learnt(chosen):
    raw = composed(*DEMO)
    raw["evaluate"]["gallery_class"] = chosen
    assert check_params(raw, TABLES).evaluate.gallery_class == chosen


@pytest.mark.parametrize(
    ("chosen", "weights"),
    [(None, None), ("balanced", "balanced"), ({}, {}), ({"7": 2, 9: 0.5}, {"7": 2, "9": 0.5})],
)
def test_class_weights_go_by_name(chosen, weights):
    raw = composed(*DEMO)
    raw["class_weights"] = chosen
    assert weights_by_name(check_params(raw, TABLES).class_weights, DATASETS["digits"].classes) == weights


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 1), (3, 2), (6, 2)])
def test_a_phase_that_is_shortened_has_no_longer_warm_up_than_itself(epochs, warmup):
    phase = composed(*CHAIN, f"schedule.phases.all.epochs={epochs}")["schedule"]["phases"]["all"]
    assert (phase["epochs"], phase["warmup_epochs"]) == (epochs, warmup)
