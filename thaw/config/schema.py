"""The schema of params.yaml: each key with the values it accepts and, as a docstring below it, what it does.

`load_params` reads the file through it. docs/parameters.md is made of it, and the comments of conf/ repeat it.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

# Names that stages use under models/.
RESERVED_PHASES = ("head", "backbone", "moments")


# The first phase, which has a section of its own.
HEAD = "head"


PHASE_NAME = f"a letter or digit, then letters, digits, - and _; none of {', '.join(RESERVED_PHASES)}"


@dataclass(frozen=True)
class Accepted:
    """Accepted values of a key, in words: what the user is shown where a value is refused."""

    words: str


def accepted_words(field: FieldInfo) -> str:
    """The accepted values of a field; empty for a section."""
    return next((part.words for part in field.metadata if isinstance(part, Accepted)), "")


Count = Annotated[int, Field(ge=1), Accepted("a whole number from 1 up")]


Seed = Annotated[int, Field(ge=0, le=2**31 - 1), Accepted("a whole number from 0 to 2147483647")]


Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), Accepted("a number from 0 to below 1")]


Rate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False), Accepted("a number above 0, 10 at most")]


BatchNorm = Annotated[Literal["inference", "train"], Accepted("inference or train")]


Mixup = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False), Accepted("a number from 0 to 10")]


Classes = Annotated[list[str | int] | None, Accepted("a list of class names or numbers, or null for all classes")]


ClassWeights = Annotated[
    Literal["balanced"] | dict[str | int, Rate] | None,
    Accepted("null, balanced, or a mapping of classes to numbers above 0, 10 at most"),
]


Name = Annotated[str, Field(min_length=1), Accepted("a name")]


class Section(BaseModel):
    """Base of all sections: unknown keys and values of another type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


def section_in(annotation: Any) -> type[Section] | None:
    """The section that a field holds, alone, optional, or as the values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


class Training(Section):
    """How one training run goes, whatever it trains."""

    epochs: Count
    """Passes over the training images."""

    learning_rate: Rate
    """Learning rate of Adam at the start."""

    final_learning_rate: Annotated[
        float, Field(ge=0, le=10, allow_inf_nan=False), Accepted("a number from 0 up, 10 at most")
    ]
    """Learning rate at the end, with lr_schedule cosine."""

    lr_schedule: Annotated[Literal["constant", "cosine"], Accepted("constant or cosine")]
    """Course of the learning rate: cosine (half a cosine from the first to the final rate) or constant."""

    warmup_epochs: Annotated[float, Field(ge=0, allow_inf_nan=False), Accepted("a number from 0 up to the epochs")]
    """Epochs of linear warm-up, with lr_schedule cosine, for weights that Adam has no moments of yet."""

    label_smoothing: Share
    """Share of each label that is spread over all classes in training."""

    average: Share
    """Momentum, per step, of the moving average of the weights that is validated and kept instead of them; 0: none. In
    the first steps of a phase less: the average is of its last tenth."""

    patience: Annotated[int | None, Field(ge=1), Accepted("a whole number from 1 up, or null")]
    """Epochs without a better validation accuracy after which training stops; null never stops early."""


class Dataset(Section):
    name: Annotated[str, Accepted("the name of a dataset")]
    """Dataset: a module of thaw/datasets."""

    url: Annotated[str | None, Accepted("an http://, https:// or file:// address")]
    """Address of the official binary archive; null where nothing is downloaded."""

    sha256: Annotated[str | None, Accepted("64 hexadecimal digits")]
    """SHA-256 that the archive must have: it decides the content, wherever that comes from."""

    path: Annotated[str | None, Field(min_length=1), Accepted("the path of a folder or of a CSV, or null")]
    """Images of your own, for dataset=folder: a folder of class folders, or of train/, val/ and test/ with class
    folders; or a CSV with the columns path and label, and optionally split and group. null for all other datasets."""

    files: Annotated[str, Accepted("what `thaw params` writes")]
    """Folder or file whose content reruns preprocess, for path; conf/ computes it, it is not to be set."""

    image_size: Annotated[int, Field(ge=8, le=1024), Accepted("a whole number of pixels, 8 to 1024")]
    """Side in pixels of the images that preprocess stores: 32 but for a folder, whose images it resizes."""

    max_pixels: Annotated[int, Field(ge=1), Accepted("a whole number from 1 up")]
    """Pixels that an image file of a folder may have, against running out of memory; a JPEG may have more."""

    strict: Annotated[bool, Accepted("true or false")]
    """Refuse a folder of which a file has to be left out; false leaves it out and names it."""

    limit: Annotated[int | None, Field(ge=1), Accepted("a whole number from 1 up, or null for all")]
    """Training images to keep, the same share of each class; null keeps all."""

    per_class: Annotated[int | None, Field(ge=1), Accepted("a whole number from 1 up, or null for all")]
    """Training images to keep of each class, for learning from few; those of a larger number contain them."""

    classes: Classes
    """Classes to learn, by name or number."""

    val_fraction: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), Accepted("a number above 0 and below 1")]
    """Share of the training images that is set apart for validation, before limit; not of a folder that has val/."""

    test_fraction: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), Accepted("a number above 0 and below 1")]
    """Share of a folder's images that is set apart for the test split, before validation; not where it has test/."""

    seed: Seed
    """Seed of the splits, and of the images that limit and per_class keep."""


class Source(Training):
    classes: Classes
    """Classes of the source task, by name or number, of the same dataset."""


class Backbone(Section):
    name: Annotated[str, Accepted("the name of a backbone")]
    """Architecture: a module of thaw/backbones."""

    weights: Annotated[
        str, Field(min_length=1), Accepted("imagenet, none, or the path of a weights file or of a checkpoint's folder")
    ]
    """Initial weights: imagenet, none (random values), a file in keras.applications' or Keras's layout, or a checkpoint
    of thaw (a folder), whose head is kept where it fits."""

    weights_file: Annotated[str, Accepted("what `thaw params` writes")]
    """File or folder that DVC hashes for weights, by its absolute path; conf/ computes it, it is not to be set."""

    image_size: Annotated[int, Field(ge=1, le=1024), Accepted("a whole number of pixels, 1024 at most")]
    """Side in pixels to which images are resized, on the device."""

    alpha: Annotated[
        float | None, Field(gt=0, le=4, allow_inf_nan=False), Accepted("a number above 0, 4 at most, or null")
    ]
    """Width of MobileNetV2, with ImageNet weights 0.35, 0.5, 0.75, 1.0, 1.3 or 1.4; null for all others."""

    learning_rate: Rate
    """Learning rate that the schedules of conf/ give to phases of the top blocks; no stage reads it."""

    learning_rate_all: Rate
    """Learning rate that the schedules of conf/ give to phases of all or nearly all blocks; no stage reads it."""

    batch_norm: BatchNorm
    """Mode of BatchNorm that the schedules of conf/ give to phases; no stage reads it."""

    source: Annotated[Source | None, Accepted(f"null, or a mapping with {', '.join(Source.model_fields)}")]
    """Source task to train the backbone on first; null for none."""

    @property
    def has_weights_path(self) -> bool:
        """Whether the weights are a file or a folder of the user's."""
        return self.weights not in ("imagenet", "none")


class Head(Training):
    name: Name
    """Name of the file in conf/head, for tables; it stays when single values are changed."""

    pool: Annotated[Literal["avg", "flatten"], Accepted("avg or flatten")]
    """How the backbone's last activations become one row: avg (mean over the positions) or flatten."""

    units: Annotated[int | None, Field(ge=1), Accepted("a whole number from 1 up, or null for no hidden layer")]
    """Units of the hidden layer (ReLU); null for none."""

    dropout: Share
    """Share of the last layer's inputs that is dropped in training."""

    epochs: Annotated[int, Field(ge=0), Accepted("a whole number from 0 up")]
    """Epochs on the frozen backbone's features; 0 leaves the head as initialised."""

    mixup: Mixup
    """Mix two inputs and their labels by a share from Beta(m, m); 0 never does."""


class Augment(Section):
    name: Name
    """Name of the file in conf/augment, for tables; it stays when single values are changed."""

    flip: Annotated[bool | Literal["alternate"], Accepted("true, false or alternate")]
    """Mirror half of the images, left to right; alternate: all images in odd views and none in even views, and half at
    random where a phase trains on images."""

    translation: Share
    """Largest shift in each direction, as a share of the side."""

    rotation: Share
    """Largest rotation either way, as a share of a full turn."""

    zoom: Share
    """Largest zoom in and out, as a share of the side."""

    contrast: Share
    """Largest change of contrast, as a share."""

    views: Count
    """Views of the training set that extract passes through the frozen backbone; the first is not augmented."""

    seed: Seed
    """Seed of the views."""

    @property
    def changes_nothing(self) -> bool:
        return not (self.flip or self.translation or self.rotation or self.zoom or self.contrast)


class Phase(Training):
    after: Annotated[str, Accepted("head, or the name of a phase")]
    """Phase whose model this one starts from; head is the first."""

    depth: Annotated[int | Literal["all"] | None, Accepted("a whole number of blocks from 1 up, or all")] = None
    """Blocks to thaw, counted from the top, or all; a phase has either depth or layers."""

    layers: Annotated[int | None, Field(ge=0), Accepted("a whole number of layers to freeze, from 0 up")] = None
    """Layers to freeze, counted from the bottom, in place of depth."""

    lr_decay: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False), Accepted("a number above 0, 1 at most")]
    """Factor of the learning rate for each block below the top one."""

    moments: Annotated[Literal["carried", "zero"], Accepted("carried or zero")]
    """Adam's moments of weights that the phases before have trained: carried on from these, or zero as of new ones."""

    mixup: Mixup
    """Mix two images, or their stored activations, and their labels by a share from Beta(m, m); 0 never does."""

    batch_norm: BatchNorm
    """Mode of BatchNorm in thawed blocks: inference (statistics stay) or train; below the cut always inference."""


class Schedule(Section):
    name: Name
    """Name of the file in conf/schedule, for tables; it stays when single values are changed."""

    views: Count
    """Views that the augmentations of conf/ store; no stage reads it."""

    phases: Annotated[dict[str, Phase], Accepted("a mapping of phases by name, or {}")]
    """Phases after the head's, by name; each is a stage of its own."""

    final: Annotated[str, Accepted("head, or the name of a phase")]
    """Phase whose model is evaluated."""


class Extract(Section):
    cuts: Annotated[
        list[int] | list[list[int]],
        Field(min_length=1),
        Accepted("a list of different depths, 0 among them, or such a list for each view"),
    ]
    """Cuts whose activations are stored, as depths; 0 is the head's cut, above the whole backbone. With a list for each
    view, such as [[0, 3, 5], [5]], later views are stored at some of the cuts alone; the last list is that of all
    further views."""

    budget_gb: Annotated[float, Field(ge=0, allow_inf_nan=False), Accepted("a number of gigabytes, from 0 up")]
    """Gigabytes (1e9 bytes) that all activations may take; cuts beyond, the deepest first, are streamed."""

    dtype: Annotated[Literal["float16", "float32"], Accepted("float16 or float32")]
    """Type of the stored activations."""

    batch_size: Count
    """Images per step of extraction. On a CPU, 256 are a quarter faster than 64."""

    def cuts_by_view(self, views: int) -> list[list[int]]:
        """The depths to store of each of `views` views."""
        own = [depths for depths in self.cuts if isinstance(depths, list)]
        own = own or [[depth for depth in self.cuts if isinstance(depth, int)]]
        return [own[min(view, len(own) - 1)] for view in range(views)]


class Evaluate(Section):
    gallery_class: Annotated[
        str | int | None, Accepted("the name or the number of a class, or null for the one of lowest F1")
    ]
    """Class whose test images plots/figures/gallery.png shows, by name or number; null for the one of the lowest F1."""

    views: Annotated[
        int, Field(ge=1, le=10), Accepted("a whole number from 1 to 10, or to 5 where augment.flip is false")
    ]
    """Views of each test image; above 1, metrics/evaluate.json also scores their mean probabilities (accuracy_views).
    Besides the image: 2 its mirror image, 4, 6, 8, 10 shifts by a sixteenth of the side; without augment.flip 2 to 5
    shifts alone."""

    corruptions: Annotated[bool, Accepted("true or false")]
    """Also classify the test images under five corruptions of CIFAR-10-C (noise, blur, contrast, JPEG, pixelation) at
    three strengths; metrics/evaluate.json then has the mean accuracy (accuracy_corrupted)."""


class Device(Section):
    xla: Annotated[bool | Literal["auto"], Accepted("auto, true or false")]
    """Compile models with XLA; auto: on a GPU, and always for jax (on a CPU TensorFlow is faster without)."""

    precision: Annotated[Literal["auto", "float32", "mixed_bfloat16"], Accepted("auto, float32 or mixed_bfloat16")]
    """Keras's dtype policy; auto: mixed_bfloat16 on a GPU that has bfloat16 (NVIDIA Ampere on), else float32."""


class RunOptions(Section):
    """How a run goes: no value here changes a result, but for last digits, and no stage of dvc.yaml names one."""

    data_gb: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"],
        Accepted("auto, or a number of gigabytes from 0 up"),
    ]
    """Gigabytes of examples to keep on the device in training, larger sets are read by batch; auto: GPU 8, CPU 0.5."""

    log: Annotated[
        list[Literal["dvclive", "tensorboard", "mlflow"]],
        Accepted("a list of dvclive, tensorboard and mlflow"),
    ]
    """Programs that show a run while it trains: dvclive (VS Code's extension of DVC), tensorboard, and mlflow, of which
    the last two are extras to install."""

    workers: Annotated[int, Field(ge=1), Accepted("a whole number from 1 up")]
    """Processes that extract the activations side by side, each on a GPU of its own where there are any."""

    cluster: Annotated[
        Annotated[str, Field(pattern=r"^(ray://)?[^\s:/]+:\d+$")] | None,
        Accepted("null, or HOST:PORT of a Ray cluster"),
    ]
    """Where the processes of `run.workers` beside the first compute: HOST:PORT of a Ray cluster whose hosts have thaw
    and its extra ray; null: on this machine."""

    replicas: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], Accepted("auto, or a whole number from 1 up")]
    """Devices that train head and phases together, each on its share of every batch, with backend jax; auto: all GPUs
    there are, else 1. The order of sums changes: results are equal to about 6 digits, and no stage runs again."""


class Params(Section):
    """All parameters of the pipeline, as params.yaml holds them."""

    recipe: Name
    """Name of the file in conf/recipe, for tables; it stays when single values are changed."""

    backend: Annotated[Literal["tensorflow", "jax"], Accepted("tensorflow or jax")]
    """Library that computes: tensorflow, or jax, an extra to install."""

    device: Device
    """What computes, and how."""

    run: RunOptions
    """What changes no result."""

    seed: Seed
    """Seed of everything random in training: initial weights, order of the images, dropout, fresh augmentation."""

    batch_size: Count
    """Images per training step."""

    min_steps: Annotated[int, Field(ge=0), Accepted("a whole number from 0 up")]
    """Training steps of the head and of each phase, at least. Where the epochs of one have fewer, as with few images,
    it trains more epochs, with warm-up and patience in proportion. 0: as many as the epochs have."""

    class_weights: ClassWeights
    """Weight of each class in the loss of head and phases: null, all the same; balanced, less for larger classes; or a
    mapping of classes to weights, 1 for those left out."""

    dataset: Dataset
    """What is learnt."""

    backbone: Backbone
    """The pre-trained network."""

    head: Head
    """The new layers on top, and how they are trained on the frozen backbone."""

    schedule: Schedule
    """What thaws when."""

    augment: Augment
    """How training images are changed."""

    extract: Extract
    """What is computed once."""

    evaluate: Evaluate
    """What the last stage shows."""

    code: Annotated[
        dict[str, str | dict[str, str]] | None, Accepted("what `thaw new` and `thaw upgrade` write, or no such key")
    ] = None
    """Digests of the code of the installed thaw, in a project made by `thaw new`: where they change, the stages that
    depend on that code run again. A checkout of thaw has none, as DVC watches its files."""

    def of(self, *names: str) -> dict[str, Any]:
        """These sections and values, as plain data, without the names of files in conf/."""
        files = {section: {"name"} for section in ("head", "augment", "schedule")}
        return self.model_dump(include=set(names), exclude=files)
