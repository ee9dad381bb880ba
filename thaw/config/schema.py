"""The one schema of params.yaml: every stage reads it through `load`, which checks all of it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
    name: Annotated[str, Accepted(description="the name of a dataset")]
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
    name: Annotated[str, Accepted(description="the name of a backbone")]
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
