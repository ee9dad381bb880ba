"""The stage backbone: the one place where weights come from, into models/backbone."""

from pathlib import Path
from typing import Any

from thaw import paths
from thaw.config.schema import Params
from thaw.data.examples import Examples, TrainingData
from thaw.data.splits import class_names, image_side, read_split
from thaw.network.backend import active_device
from thaw.network.build import Network
from thaw.network.checkpoint import CheckpointInfo, read_checkpoint_info, save_checkpoint
from thaw.network.weights import is_checkpoint, load_backbone, weights_origin
from thaw.runtime.resume import open_state
from thaw.training.calibration import validation_temperature
from thaw.training.loop import Run, train_network
from thaw.training.record import Recorder
from thaw.training.reporting import Printer

# The head of a source task, so small that the backbone must learn the task.
SOURCE_HEAD: dict[str, Any] = {"pool": "avg", "units": None, "dropout": 0.0}


def make_backbone(params: Params) -> float:
    """Load, download, draw or pre-train the weights of the backbone.

    Returns:
        Seconds that earlier processes worked on it.
    """
    section = params.backbone
    if section.weights == "imagenet":
        print(f"backbone: ImageNet weights of {section.name}, downloaded where they are not here yet", flush=True)
    network = load_backbone(section, params.seed, image_side())
    info = CheckpointInfo(
        backbone={
            "name": section.name,
            "image_size": section.image_size,
            "alpha": section.alpha,
            "input_size": network.input_size,
        },
        weights=weights_origin(section, params.seed),
    )
    if is_checkpoint(section):
        _keep_head(info, network, read_checkpoint_info(Path(section.weights_file)))
    recorder = Recorder("backbone", "backbone", params)
    if section.source is None:
        recorder.write([])
        save_checkpoint(paths.BACKBONE, info, network)
        return 0.0
    info.head = SOURCE_HEAD
    info.classes = class_names(section.source.classes)
    network.attach(**SOURCE_HEAD, classes=len(info.classes))
    network.freeze(0)
    train, val = (Examples(*read_split(split, info.classes)) for split in ("train", "val"))
    run = Run(
        stage="backbone",
        phase="source",
        training=section.source,
        batch_size=params.batch_size,
        seed=params.seed,
        augment=params.augment,
        batch_norm="train",
    )
    settings = params.of("batch_size", "seed", "augment", "backbone") | {"weights": info.weights}
    with open_state("backbone", settings, paths.SPLITS_LEARNT, str(active_device())) as state:
        observers = [recorder, Printer(run.stage, run.training)]
        data = TrainingData(None, [train], val)
        info.history = train_network(network, run, data, observers, state).rows
        info.temperature = validation_temperature(network, data, run.stage, run.batch_size)
        save_checkpoint(paths.BACKBONE, info, network)
    return state.earlier


def _keep_head(info: CheckpointInfo, network: Network, earlier: CheckpointInfo) -> None:
    """Describe the head of an earlier model, which the stage train_head takes over, and say whether it is there."""
    if network.head is not None:
        info.head, info.classes, info.temperature = earlier.head, earlier.classes, earlier.temperature
        what = f"with its head for {len(info.classes)} classes"
    elif earlier.head is not None:
        what = f"without its head, which is for activations of backbone.image_size {earlier.backbone['image_size']}"
    else:
        what = "which has no head"
    print(f"backbone: weights of a checkpoint, {what}", flush=True)
