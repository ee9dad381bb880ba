"""A phase: the network as the phase before left it, thawed to its cut, trained on what it learns from, and kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from thaw import paths
from thaw.config.schedule import phase_section, stage_of, start_of
from thaw.config.schema import HEAD, Augment, Head, Params, Phase
from thaw.data.examples import TrainingData
from thaw.data.splits import class_names
from thaw.data.stored import features_origin, phase_data, read_features_info, refuse_other_origin
from thaw.network.backend import active_device
from thaw.network.build import Network
from thaw.network.checkpoint import CheckpointInfo, block_hashes, load_checkpoint, save_checkpoint
from thaw.network.cut import frozen_layers
from thaw.network.history import Row
from thaw.network.seeds import seed_initialisers
from thaw.runtime.resume import open_state
from thaw.training.class_weights import class_weight_array, weights_by_name
from thaw.training.loop import Run, train_network
from thaw.training.record import reporter, write_metrics


@dataclass
class PreparedPhase:
    """A phase that can be trained.

    Attributes:
        network, info: of the checkpoint that it starts from, thawed to its cut; with a new head in the phase `head`.
        data: stored activations at its cut, or pictures.
        run: its settings; saves nothing.
        batch_norm: mode of thawed BatchNorm.
    """

    network: Network
    info: CheckpointInfo
    data: TrainingData
    run: Run
    batch_norm: str

    def fit(self, augment: Augment, run: Run, report: Callable[[list[Row]], None]) -> list[Row]:
        """Train by the settings of a run, which may differ from its own; as `training.fit_network`."""
        return train_network(self.network, run, self.data, augment=augment, batch_norm=self.batch_norm, report=report)


def thaw_network(network: Network, phase: Head | Phase) -> int:
    """Freeze a network below the cut of a phase and thaw what is above; the depth of that cut."""
    frozen = frozen_layers(phase, network.name) if isinstance(phase, Phase) else len(network.order)
    network.freeze(frozen)
    return network.depth_above(frozen)


def prepare_phase(chosen: Params, name: str) -> PreparedPhase:
    """Load what a phase starts from.

    Raises:
        ParamError: there is no such phase.
        ThawError: a file is missing, damaged, or made from something else.
    """
    phase = phase_section(chosen, name)
    before = start_of(phase)
    network, info = load_checkpoint(before, with_head=name != HEAD)
    depth = thaw_network(network, phase)
    hashes = block_hashes(before)
    below = {block.name: hashes[block.name] for block in network.blocks[: len(network.blocks) - depth]}
    refuse_other_origin(paths.FEATURES, features_origin(below, chosen.augment))
    stage, batch_norm = stage_of(name), "inference"
    if isinstance(phase, Head):
        stored = read_features_info(paths.FEATURES)
        info.head = {"pool": stored["pool"], "units": phase.units, "dropout": phase.dropout}
        info.classes = stored["classes"]
        # Epochs of a source task are not counted on from.
        info.history, info.thawed = [], {}
        seed_initialisers(chosen.seed, stage)
        network.attach(**info.head, classes=len(info.classes))
    else:
        batch_norm = phase.batch_norm
    data = phase_data(paths.FEATURES, depth, info.classes)
    named = weights_by_name(chosen.class_weights, class_names())
    weights = class_weight_array(named, info.classes, data.views[0].labels)
    run = Run(stage, name, phase, chosen.batch_size, chosen.seed, info.history, phase.mixup, None, weights)
    return PreparedPhase(network, info, data, run, batch_norm)


def train_phase(chosen: Params, name: str) -> float:
    """Train a phase into models/<name>, with its curve and its metrics; seconds that earlier processes worked on it."""
    phase, one = phase_section(chosen, name), prepare_phase(chosen, name)
    stage, info = one.run.stage, one.info
    where = "pictures" if one.data.depth is None else f"activations stored at depth {one.data.depth}"
    print(f"{stage}: from {where}", flush=True)
    settings = chosen.of("batch_size", "class_weights", "seed", "augment") | {"phase": phase.model_dump()}
    inputs = [start_of(phase), paths.FEATURES, *paths.SPLITS_LEARNT]
    with open_state(stage, settings, inputs, str(active_device())) as saved:
        rows = one.fit(chosen.augment, replace(one.run, state=saved), reporter(stage, name))
        info.history += rows
        info.thawed[name] = one.network.thawed()
        save_checkpoint(paths.model(name), info, one.network)
        write_metrics(name, rows)
    return saved.earlier


def train_head(params: Params) -> float:
    """The stage train_head: a new head on the frozen backbone's features."""
    return train_phase(params, HEAD)


def unfreeze(params: Params, name: str) -> float:
    """The stage unfreeze@<name>: thaw the network down to the phase's cut and train on."""
    return train_phase(params, name)
