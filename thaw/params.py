"""The one schema of params.yaml: every stage reads it through `load`, which checks all of it."""

import os
import re
import urllib.parse
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from thaw import paths
from thaw.backbones import BACKBONES
from thaw.datasets import DATASETS
from thaw.errors import ParamError, ThawError, Words

# Names that stages use under models/.
RESERVED_PHASES = ("head", "backbone")
# The first phase, which has a section of its own.
HEAD = "head"
PHASE_NAME = f"a letter or digit, then letters, digits, - and _; not {' or '.join(RESERVED_PHASES)}"

# The text after `Accepted` is what the user is shown when a value is refused.
Accepted = Field
Count = Annotated[int, Accepted(ge=1, description="a whole number from 1 up")]
Seed = Annotated[int, Accepted(ge=0, le=2**31 - 1, description="a whole number from 0 to 2147483647")]
Share = Annotated[float, Accepted(ge=0, lt=1, allow_inf_nan=False, description="a number from 0 to below 1")]
Rate = Annotated[float, Accepted(gt=0, le=10, allow_inf_nan=False, description="a number above 0, 10 at most")]
Mixup = Annotated[float, Accepted(ge=0, le=10, allow_inf_nan=False, description="a number from 0 to 10")]
Classes = Annotated[
    list[str | int] | None, Accepted(description="a list of class names or numbers, or null for all classes")
]
ClassWeights = Annotated[
    Literal["balanced"] | dict[str | int, Rate] | None,
    Accepted(description="null, balanced, or a mapping of classes to numbers above 0, 10 at most"),
]


class Section(BaseModel):
    """Base of all sections: unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Training(Section):
    """How one training run goes, whatever it trains."""

    epochs: Count
    learning_rate: Rate
    lr_schedule: Annotated[Literal["constant", "cosine"], Accepted(description="constant or cosine")]
    warmup_epochs: Annotated[float, Accepted(ge=0, allow_inf_nan=False, description="a number from 0 up to the epochs")]
    patience: Annotated[int | None, Accepted(ge=1, description="a whole number from 1 up, or null")]


class Dataset(Section):
    name: Annotated[str, Accepted(description=", ".join(DATASETS))]
    url: Annotated[str | None, Accepted(description="an http://, https:// or file:// address")]
    sha256: Annotated[str | None, Accepted(description="64 hexadecimal digits")]
    limit: Annotated[int | None, Accepted(ge=1, description="a whole number from 1 up, or null for all")]
    classes: Classes
    val_fraction: Annotated[
        float, Accepted(gt=0, lt=1, allow_inf_nan=False, description="a number above 0 and below 1")
    ]
    seed: Seed


class Source(Training):
    classes: Classes


class Backbone(Section):
    name: Annotated[str, Accepted(description=", ".join(BACKBONES))]
    weights: Annotated[str, Accepted(min_length=1, description="imagenet, none, or the path of a weights file")]
    weights_file: Annotated[str, Accepted(description="what `make params` writes")]
    image_size: Annotated[int, Accepted(ge=1, le=1024, description="a whole number of pixels, 1024 at most")]
    learning_rate: Rate
    learning_rate_all: Rate
    source: Annotated[
        Source | None,
        Accepted(description=f"null, or a mapping with {', '.join(Source.model_fields)}"),
    ]
    alpha: Annotated[
        float | None, Accepted(gt=0, le=4, allow_inf_nan=False, description="a number above 0, 4 at most")
    ] = None


class Head(Training):
    mixup: Mixup
    pool: Annotated[Literal["avg", "flatten"], Accepted(description="avg or flatten")]
    units: Annotated[int | None, Accepted(ge=1, description="a whole number from 1 up, or null for no hidden layer")]
    dropout: Share
    epochs: Annotated[int, Accepted(ge=0, description="a whole number from 0 up")]


class Augment(Section):
    flip: Annotated[bool, Accepted(description="true or false")]
    translation: Share
    rotation: Share
    zoom: Share
    contrast: Share
    views: Count
    seed: Seed

    @property
    def changes_nothing(self) -> bool:
        return not (self.flip or self.translation or self.rotation or self.zoom or self.contrast)


class Phase(Training):
    after: Annotated[str, Accepted(description="head, or the name of a phase")]
    depth: Annotated[
        int | Literal["all"] | None, Accepted(description="a whole number of blocks from 1 up, or all")
    ] = None
    layers: Annotated[int | None, Accepted(ge=0, description="a whole number of layers to freeze, from 0 up")] = None
    mixup: Mixup
    batch_norm: Annotated[Literal["inference", "train"], Accepted(description="inference or train")]


class Schedule(Section):
    phases: Annotated[dict[str, Phase], Accepted(description="a mapping of phases by name, or {}")]
    final: Annotated[str, Accepted(description="head, or the name of a phase")]


class Extract(Section):
    cuts: Annotated[list[int], Accepted(min_length=1, description="a list of different depths, 0 among them")]
    budget_gb: Annotated[float, Accepted(ge=0, allow_inf_nan=False, description="a number of gigabytes, from 0 up")]
    dtype: Annotated[Literal["float16", "float32"], Accepted(description="float16 or float32")]
    batch_size: Count


class Evaluate(Section):
    gallery_class: Annotated[
        str | int | None, Accepted(description="the name or the number of a class, or null for the one of lowest F1")
    ]


class Device(Section):
    xla: Annotated[bool | Literal["auto"], Accepted(description="auto, true or false")]
    precision: Annotated[
        Literal["auto", "float32", "mixed_bfloat16"], Accepted(description="auto, float32 or mixed_bfloat16")
    ]
    data_gb: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"],
        Accepted(description="auto, or a number of gigabytes from 0 up"),
    ]


class Params(Section):
    """All parameters of the pipeline, as params.yaml holds them."""

    backend: Annotated[Literal["tensorflow", "jax"], Accepted(description="tensorflow or jax")]
    device: Device
    seed: Seed
    batch_size: Count
    class_weights: ClassWeights
    dataset: Dataset
    backbone: Backbone
    head: Head
    augment: Augment
    schedule: Schedule
    extract: Extract
    evaluate: Evaluate

    def of(self, *names: str) -> dict[str, Any]:
        """These sections and values, as plain data."""
        return self.model_dump(include=set(names))


def load(path: Path = paths.PARAMS) -> Params:
    """Read and check params.yaml.

    Raises:
        ThawError: the file is missing or no YAML mapping.
        ParamError: the first value that is not accepted.
    """
    try:
        raw = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        raise ThawError(f"{path}: not found; run from the root of the checkout, or `make params`") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date that does not exist
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ThawError(f"{path}{line}: not a YAML file") from None
    return check(raw)


def check(raw: Any) -> Params:
    """Turn the content of params.yaml into checked parameters.

    Raises:
        ParamError: the first value that is not accepted.
    """
    if not isinstance(raw, dict):
        raise ParamError("params.yaml", raw, f"a mapping with {', '.join(Params.model_fields)}")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise _first_line(error, raw) from None
    if params.backend == "jax" and params.device.xla is False:
        raise ParamError("device.xla", False, "auto or true for backend jax, which is built on XLA")
    _check_dataset(params.dataset)
    _check_backbone(params.backbone, params.dataset)
    _check_training(params)
    _check_schedule(params.schedule, params.backbone.name)
    _check_extract(params)
    gallery_class(params)
    class_weights(params)
    return params


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML takes `1e-3` for a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)$"),
    list("-+.0123456789"),
)


def _first_line(error: ValidationError, raw: dict) -> ParamError:
    """The first of pydantic's errors, in our words: parameter, received, accepted."""
    first = error.errors()[0]
    if (
        first["loc"][0] == "schedule" and first["loc"][-1] == "[key]"
    ):  # the name of a phase that is no text, such as 1 or true
        return ParamError(".".join(map(str, [*first["loc"][:-2], first["input"]])), first["input"], PHASE_NAME)
    section, by_name, value, accepted, names = Params, False, raw, "", []
    # The last part may be no key, but which type of a union was tried: then the value is no mapping.
    for part in first["loc"]:
        if isinstance(value, dict) and section is not None:
            field = None if by_name else section.model_fields.get(part)
            names.append(str(part))
            if field is not None:
                accepted, section = field.description or "", _section(field.annotation)
                by_name = get_origin(field.annotation) is dict
            elif by_name:
                accepted, by_name = "", False
            else:
                return ParamError(".".join(names), Words("an unknown key"), ", ".join(section.model_fields))
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int):
            names.append(str(part))
            value = value[part]
    return ParamError(".".join(names), value, accepted or f"a mapping with {', '.join(section.model_fields)}")


def _section(annotation: Any) -> type[Section] | None:
    """The section that a field holds, alone, optional, or as the values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = [_section(part) for part in getattr(annotation, "__args__", ())]
    return next((section for section in found if section), None)


def _check_dataset(dataset: Dataset) -> None:
    if dataset.name not in DATASETS:
        raise ParamError("dataset.name", dataset.name, ", ".join(DATASETS))
    row = DATASETS[dataset.name]
    if row.archive is None:
        for key in ("url", "sha256"):
            if getattr(dataset, key) is not None:
                raise ParamError(f"dataset.{key}", getattr(dataset, key), f"null, as {dataset.name} is not downloaded")
    else:
        if not _is_archive_url(dataset.url or ""):
            raise ParamError("dataset.url", dataset.url, "an http://, https:// or file:// address of an archive")
        if not re.fullmatch(r"[0-9a-fA-F]{64}", dataset.sha256 or ""):
            raise ParamError("dataset.sha256", dataset.sha256, "64 hexadecimal digits")
    check_classes("dataset.classes", dataset.classes, row.classes)
    left = row.train_count - round(row.train_count * dataset.val_fraction)
    n_classes = len(row.classes)
    if not min(left, row.train_count - left) >= n_classes:
        raise ParamError("dataset.val_fraction", dataset.val_fraction, "a share that leaves pictures of each class")
    if dataset.limit is not None and not n_classes <= dataset.limit <= left:
        raise ParamError("dataset.limit", dataset.limit, f"{n_classes} to {left} for {dataset.name}, or null for all")


def _is_archive_url(url: str) -> bool:
    """Whether it is an address that `thaw.fetch` takes and that ends in the name of a file."""
    try:
        address = urllib.parse.urlsplit(url)
        remote = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:  # a port that is no number, or a [ that is not closed
        return False
    local = address.scheme == "file" and not address.netloc and address.path.startswith("/")
    name = PurePosixPath(urllib.parse.unquote(address.path)).name
    return bool(remote or local) and not address.path.endswith("/") and name not in ("", "..") and "\0" not in name


def check_classes(parameter: str, chosen: list[str | int] | None, names: tuple[str, ...]) -> list[int]:
    """The numbers of the chosen classes, in the order given; all of them for None.

    Raises:
        ParamError: an unknown class, one that is given twice, or fewer than two.
    """
    if chosen is None:
        return list(range(len(names)))
    numbers = []
    for one in chosen:
        number = one if isinstance(one, int) else names.index(one) if one in names else -1
        if not 0 <= number < len(names):
            known = ", ".join(names) if len(names) <= 10 else f"a class of conf/dataset, such as {names[0]}"
            raise ParamError(parameter, one, f"{known}; or 0 to {len(names) - 1}")
        numbers.append(number)
    if len(set(numbers)) != len(numbers) or len(numbers) < 2:
        raise ParamError(parameter, chosen, "two or more classes, each once")
    return numbers


def class_weights(params: Params) -> dict[str, float] | Literal["balanced"] | None:
    """class_weights, with each class by its name.

    Raises:
        ParamError: a class that the final model does not learn, or one that is named twice.
    """
    chosen = params.class_weights
    if not isinstance(chosen, dict):
        return chosen
    weights = {}
    for one, weight in chosen.items():
        name = _learnt(params, "class_weights", one, "or its number")
        if name in weights:
            raise ParamError("class_weights", chosen, "each class once")
        weights[name] = weight
    return weights


def gallery_class(params: Params) -> str | None:
    """The name of evaluate.gallery_class.

    Raises:
        ParamError: it is no class that the final model learns.
    """
    chosen = params.evaluate.gallery_class
    return None if chosen is None else _learnt(params, "evaluate.gallery_class", chosen, "or its number; or null")


def _learnt(params: Params, parameter: str, chosen: str | int, otherwise: str) -> str:
    """The name of a class, given by name or number, that the final model learns."""
    names = DATASETS[params.dataset.name].classes
    learnt = [names[number] for number in check_classes("dataset.classes", params.dataset.classes, names)]
    for name in learnt:
        if chosen in (name, names.index(name)):
            return name
    known = ", ".join(learnt) if len(learnt) <= 10 else f"a class that is learnt, such as {learnt[0]}"
    raise ParamError(parameter, chosen, f"{known}; {otherwise}")


def _check_backbone(backbone: Backbone, dataset: Dataset) -> None:
    if backbone.name not in BACKBONES:
        raise ParamError("backbone.name", backbone.name, ", ".join(BACKBONES))
    row = BACKBONES[backbone.name]
    if backbone.image_size < row.min_image_size:
        raise ParamError(
            "backbone.image_size", backbone.image_size, f"{row.min_image_size} or more for {backbone.name}"
        )
    if row.alphas and backbone.alpha is None:
        raise ParamError("backbone.alpha", None, f"a number, such as 1.0, for {backbone.name}")
    if not row.alphas and backbone.alpha is not None:
        raise ParamError("backbone.alpha", backbone.alpha, f"no such parameter for {backbone.name}")
    if backbone.weights == "imagenet":
        if not row.imagenet:
            raise ParamError("backbone.weights", "imagenet", f"none, or a weights file, for {backbone.name}")
        if row.alphas and backbone.alpha not in row.alphas:
            raise ParamError(
                "backbone.alpha", backbone.alpha, f"{', '.join(map(str, row.alphas))} with ImageNet weights"
            )
    elif backbone.weights != "none":
        if not os.path.isfile(backbone.weights):  # Path.is_file fails on a name that is too long
            raise ParamError("backbone.weights", backbone.weights, "imagenet, none, or the path of a file that exists")
        if backbone.weights_file != backbone.weights:
            raise ParamError(
                "backbone.weights_file", backbone.weights_file, f"{backbone.weights}, as in backbone.weights"
            )
    if backbone.source is not None:
        check_classes("backbone.source.classes", backbone.source.classes, DATASETS[dataset.name].classes)


def _check_training(params: Params) -> None:
    """Warm-up within the epochs, the batch within the training set, for all that trains."""
    runs: dict[str, Training] = {"head": params.head}
    if params.backbone.source is not None:
        runs["backbone.source"] = params.backbone.source
    runs |= {f"schedule.phases.{name}": phase for name, phase in params.schedule.phases.items()}
    for name, run in runs.items():
        if run.epochs and run.lr_schedule == "cosine" and run.warmup_epochs > run.epochs:
            raise ParamError(f"{name}.warmup_epochs", run.warmup_epochs, f"0 to {run.epochs}, the epochs of the phase")
    row = DATASETS[params.dataset.name]
    kept = params.dataset.limit or row.train_count - round(row.train_count * params.dataset.val_fraction)
    for chosen in [params.dataset.classes, params.backbone.source and params.backbone.source.classes]:
        # Close to exact: the classes are of about the same size.
        pictures = kept * (len(chosen) if chosen else len(row.classes)) // len(row.classes)
        if params.batch_size > pictures:
            raise ParamError("batch_size", params.batch_size, f"1 to {pictures}, the training pictures there are")


def _check_schedule(schedule: Schedule, backbone: str) -> None:
    """The phases are one chain from the head to the final one, each no less deep than the one before."""
    phases = schedule.phases
    for name, phase in phases.items():
        where = f"schedule.phases.{name}"
        if name in RESERVED_PHASES or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ParamError(where, name, PHASE_NAME)
        if phase.after != "head" and phase.after not in phases:
            raise ParamError(f"{where}.after", phase.after, f"one of {', '.join(['head', *phases])}")
        _check_cut(where, phase, backbone)
    if schedule.final != "head" and schedule.final not in phases:
        raise ParamError("schedule.final", schedule.final, f"one of {', '.join(['head', *phases])}")
    chain = chain_of(schedule)
    for name in phases:
        if name not in chain:
            raise ParamError(
                f"schedule.phases.{name}",
                Words(f"a phase outside the chain {' -> '.join(chain)}"),
                "a phase that schedule.final comes after, or none",
            )
    for earlier, later in zip(chain[1:], chain[2:], strict=False):
        if frozen_layers(phases[later], backbone) > frozen_layers(phases[earlier], backbone):
            key = "layers" if phases[later].layers is not None else "depth"
            raise ParamError(
                f"schedule.phases.{later}.{key}", getattr(phases[later], key), f"no less deep than in {earlier}"
            )


def _check_cut(where: str, phase: Phase, backbone: str) -> None:
    row = BACKBONES[backbone]
    if (phase.depth is None) == (phase.layers is None):
        received = "both depth and layers" if phase.depth is not None else "neither depth nor layers"
        raise ParamError(where, Words(received), "one of the two")
    if isinstance(phase.depth, int) and not 1 <= phase.depth <= len(row.blocks):
        raise ParamError(f"{where}.depth", phase.depth, f"1 to {len(row.blocks)}, the blocks of {backbone}, or all")
    if phase.layers is not None and phase.layers >= row.layer_count:
        raise ParamError(
            f"{where}.layers", phase.layers, f"0 to {row.layer_count - 1}, as {backbone} has {row.layer_count} layers"
        )


def phase(params: Params, name: str) -> Head | Phase:
    """The section of a phase.

    Raises:
        ParamError: there is no such phase.
    """
    phases = {HEAD: params.head} | params.schedule.phases
    if name not in phases:
        raise ParamError("phase", name, f"one of {', '.join(phases)}")
    return phases[name]


def stage(name: str) -> str:
    """The DVC stage of a phase."""
    return "train_head" if name == HEAD else f"unfreeze@{name}"


def before(phase: Head | Phase) -> Path:
    """The checkpoint that a phase starts from."""
    return paths.model(phase.after) if isinstance(phase, Phase) else paths.BACKBONE


def frozen_layers(phase: Phase, backbone: str) -> int:
    """How many of `model.layers`, the input layer included, lie below the phase's cut."""
    if phase.layers is not None:
        return phase.layers
    blocks = BACKBONES[backbone].blocks
    depth = len(blocks) if phase.depth == "all" else phase.depth
    return sum(count for _, count in blocks[: len(blocks) - depth])


def chain_of(schedule: Schedule) -> list[str]:
    """The phases from head to the final one."""
    chain = [schedule.final]
    while chain[0] != "head":
        before = schedule.phases[chain[0]].after
        if before in chain:
            raise ParamError(
                f"schedule.phases.{chain[0]}.after", before, "a phase that does not itself come after this one"
            )
        chain.insert(0, before)
    return chain


def _check_extract(params: Params) -> None:
    cuts, blocks = params.extract.cuts, len(BACKBONES[params.backbone.name].blocks)
    if 0 not in cuts or len(set(cuts)) != len(cuts) or not 0 <= min(cuts) <= max(cuts) < blocks:
        raise ParamError(
            "extract.cuts", cuts, f"different depths from 0 to {blocks - 1}, 0 (the head's cut) among them"
        )
    if params.augment.changes_nothing and params.augment.views > 1:
        raise ParamError("augment.views", params.augment.views, "1 where nothing is augmented")
