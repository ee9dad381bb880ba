"""The stages train_head and unfreeze: a phase is prepared, trained and kept. Start at `train_phase`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thaw import paths
from thaw.config.schedule import phase_section, stage_of, start_of
from thaw.config.schema import HEAD, Head, Params, Phase
from thaw.data.examples import TrainingData
from thaw.data.splits import class_names
from thaw.data.stored import features_origin, phase_data, read_features_info, refuse_other_origin
from thaw.network.build import Network
from thaw.network.checkpoint import CheckpointInfo, block_hashes, load_checkpoint, save_checkpoint
from thaw.network.cut import frozen_layers
from thaw.network.heads import EarlierHead
from thaw.network.inference import predict_chunks
from thaw.network.replicas import is_first_process
from thaw.network.seeds import seed_initialisers
from thaw.training.calibration import validation_temperature
from thaw.training.class_weights import class_weight_array, describe_class_weights, weights_by_name
from thaw.training.loop import Run, train_network
from thaw.training.moments import load_moments, save_moments
from thaw.training.record import Recorder, write_metrics
from thaw.training.reporting import Printer
from thaw.training.saving import shared_state
from thaw.training.schedules import with_min_steps


def train_head(params: Params) -> float:
    """The stage train_head: a new head on the frozen backbone's features."""
    return train_phase(params, HEAD)


def unfreeze(params: Params, name: str) -> float:
    """The stage unfreeze@<name>: unfreeze the network down to the phase's cut and train on."""
    return train_phase(params, name)


def train_phase(params: Params, name: str) -> float:
    """Train a phase into models/<name>, with its curve and its metrics; seconds that earlier processes worked on it."""
    section, phase = phase_section(params, name), prepare_phase(params, name)
    network, info, run = phase.network, phase.info, phase.run
    depth = phase.data.depth
    source = "images" if depth is None else f"activations stored at depth {depth}"
    print(f"{run.stage}: training on {source}", flush=True)
    if phase.head:
        print(f"{run.stage}: {phase.head}", flush=True)
    if run.training.epochs != section.epochs:
        steps = len(phase.data.views[0]) // run.batch_size
        print(
            f"{run.stage}: {run.training.epochs} epochs of {steps} steps in place of {section.epochs}, for min_steps "
            f"{params.min_steps}",
            flush=True,
        )
    if run.class_weights is not None:
        weights = describe_class_weights(run.class_weights, phase.info.classes)
        print(f"{run.stage}: class weights {weights}", flush=True)
    settings = params.of("batch_size", "class_weights", "seed", "augment") | {"phase": run.training.model_dump()}
    inputs = [start_of(section), *_moments_before(section), paths.FEATURES, *paths.SPLITS_LEARNT]
    with shared_state(run.stage, settings, inputs) as state:
        observers = [Recorder(run.stage, name, params), Printer(run.stage, run.training)] if is_first_process() else []
        trained = train_network(network, run, phase.data, observers, state)
        info.history += trained.rows
        info.thawed[name] = network.thawed()
        info.temperature = validation_temperature(network, phase.data, run.stage, run.batch_size)
        if is_first_process():
            save_checkpoint(paths.model(name), info, network)
            save_moments(paths.moments(name), trained.moments)
            write_metrics(name, trained.rows, run.training.epochs)
    return state.earlier


@dataclass(frozen=True)
class PreparedPhase:
    """A phase that can be trained.

    Attributes:
        network, info: of the checkpoint that it starts from, thawed to its cut; with a new head in the phase `head`.
        data: stored activations at its cut, or images.
        run: its settings.
        head: in words, what the phase `head` keeps of the head of an earlier model; empty where there is none.
    """

    network: Network
    info: CheckpointInfo
    data: TrainingData
    run: Run
    head: str = ""


def prepare_phase(params: Params, name: str) -> PreparedPhase:
    """Load what a phase starts from.

    Raises:
        ParamError: there is no such phase.
        ThawError: a file is missing, damaged, or made from something else.
    """
    section = phase_section(params, name)
    start = start_of(section)
    network, info = load_checkpoint(start)
    depth = thaw_network(network, section)
    _refuse_other_features(params, start, network, depth)
    features = read_features_info(paths.FEATURES)
    data = phase_data(paths.FEATURES, depth, features["classes"])
    told = _attach_head(network, info, section, params.seed, features, data) if isinstance(section, Head) else ""
    class_weights = weights_by_name(params.class_weights, class_names())
    run = Run(
        stage=stage_of(name),
        phase=name,
        training=with_min_steps(section, params.min_steps, len(data.views[0]) // params.batch_size),
        batch_size=params.batch_size,
        seed=params.seed,
        augment=params.augment,
        batch_norm=section.batch_norm if isinstance(section, Phase) else "inference",
        lr_decay=section.lr_decay if isinstance(section, Phase) else 1.0,
        moments={name: each for folder in _moments_before(section) for name, each in load_moments(folder).items()},
        history=info.history,
        mixup=section.mixup,
        class_weights=class_weight_array(class_weights, info.classes, data.views[0].labels),
    )
    return PreparedPhase(network, info, data, run, told)


def thaw_network(network: Network, section: Head | Phase) -> int:
    """Freeze a network below the cut of a phase and thaw what is above; the depth of that cut."""
    frozen = frozen_layers(section, network.name) if isinstance(section, Phase) else len(network.order)
    network.freeze(frozen)
    return network.depth_above(frozen)


# Images whose features are measured for their scale.
SAMPLE = 1000


def unit_scale(network: Network, pool: str, data: TrainingData) -> float:
    """The factor that gives the features of a frozen backbone unit deviation, over all of them and a sample of images.

    To three digits, which are the same whether features are stored in half precision or computed.
    """
    inputs = data.views[0].inputs
    sample = np.asarray(inputs[:: max(1, len(inputs) // SAMPLE)])
    if data.depth is None:
        chunks = predict_chunks(network.features([0], pool, None), sample, batch_size=100)
        sample = np.concatenate([features for _, (features,) in chunks])
    return float(f"{1 / max(sample.std(dtype=np.float64), 1e-6):.3g}")


def _moments_before(section: Head | Phase) -> list[Path]:
    """The moments that a phase carries on, where it does."""
    return [paths.moments(section.after)] if isinstance(section, Phase) and section.moments == "carried" else []


def _refuse_other_features(params: Params, start: Path, network: Network, depth: int) -> None:
    """Refuse stored features that the frozen blocks of a checkpoint would not give."""
    hashes = block_hashes(start)
    frozen = {block.name: hashes[block.name] for block in network.blocks[: len(network.blocks) - depth]}
    refuse_other_origin(paths.FEATURES, features_origin(frozen, params.augment))


def _attach_head(
    network: Network, info: CheckpointInfo, section: Head, seed: int, features: dict[str, Any], data: TrainingData
) -> str:
    """Give a backbone a head for the classes of the stored features, and a history of its own.

    Returns:
        In words, what it keeps of the head of an earlier model; empty where there is none.
    """
    pool, classes = features["pool"], features["classes"]
    earlier = EarlierHead.of(network, info)
    misfit = "" if earlier is None else earlier.misfit(pool, section.units, classes)
    kept = None if misfit else earlier
    scale = unit_scale(network, pool, data) if kept is None else kept.scale
    info.head = {"pool": pool, "units": section.units, "dropout": section.dropout, "scale": scale}
    info.classes = classes
    # Epochs of a source task or an earlier model are not counted on from.
    info.history, info.thawed = [], {}
    seed_initialisers(seed, stage_of(HEAD))
    network.attach(**info.head, classes=len(classes))
    # The first loss is ln(classes): 0.635 in place of 0.626 on validation, in the case that `build_head` tells of.
    kernel = network.head.get_layer("logits").kernel
    kernel.assign(np.zeros(kernel.shape, np.float32))
    if kept is None:
        return f"a new head: {misfit}" if misfit else ""
    kept.hand_over(network.head, classes)
    return f"keeps {kept.describe(classes)}"
