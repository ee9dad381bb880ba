"""A phase: the network as the phase before left it, thawed to its cut, trained on what it learns from, and kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from thaw import checkpoint, curves, device, features, params, paths, seeds, state, training
from thaw.network import Network
from thaw.params import Augment, Head, Params, Phase
from thaw.training import Data, Row, Run


@dataclass
class Ready:
    """A phase that can be trained.

    Attributes:
        network, info: of the checkpoint that it starts from, thawed to its cut; with a new head in the phase `head`.
        data: stored activations at its cut, or pictures.
        run: its settings; saves nothing.
        batch_norm: mode of thawed BatchNorm.
    """

    network: Network
    info: checkpoint.Info
    data: Data
    run: Run
    batch_norm: str

    def fit(self, augment: Augment, run: Run, report: Callable[[list[Row]], None]) -> list[Row]:
        """Train by the settings of a run, which may differ from its own; as `training.fit_network`."""
        return training.fit_network(
            self.network, run, self.data, augment=augment, batch_norm=self.batch_norm, report=report
        )


def thaw(network: Network, phase: Head | Phase) -> int:
    """Freeze a network below the cut of a phase and thaw what is above; the depth of that cut."""
    frozen = params.frozen_layers(phase, network.name) if isinstance(phase, Phase) else len(network.order)
    network.freeze(frozen)
    return network.depth_above(frozen)


def ready(chosen: Params, name: str) -> Ready:
    """Load what a phase starts from.

    Raises:
        ParamError: there is no such phase.
        ThawError: a file is missing, damaged, or made from something else.
    """
    phase = params.phase(chosen, name)
    before = params.before(phase)
    network, info = checkpoint.load(before, with_head=name != params.HEAD)
    depth = thaw(network, phase)
    hashes = checkpoint.hashes(before)
    below = {block.name: hashes[block.name] for block in network.blocks[: len(network.blocks) - depth]}
    features.refuse_others(paths.FEATURES, features.origin_of(below, chosen.augment))
    stage, batch_norm = params.stage(name), "inference"
    if isinstance(phase, Head):
        stored = features.read_info(paths.FEATURES)
        info.head = {"pool": stored["pool"], "units": phase.units, "dropout": phase.dropout}
        info.classes = stored["classes"]
        # Epochs of a source task are not counted on from.
        info.history, info.thawed = [], {}
        seeds.initialise(chosen.seed, stage)
        network.attach(**info.head, classes=len(info.classes))
    else:
        batch_norm = phase.batch_norm
    data = features.data(paths.FEATURES, depth, info.classes)
    weights = training.class_weights(params.class_weights(chosen), info.classes, data.views[0].labels)
    run = Run(stage, name, phase, chosen.batch_size, chosen.seed, info.history, phase.mixup, None, weights)
    return Ready(network, info, data, run, batch_norm)


def train(chosen: Params, name: str) -> float:
    """Train a phase into models/<name>, with its curve and its metrics; seconds that earlier processes worked on it."""
    phase, one = params.phase(chosen, name), ready(chosen, name)
    stage, info = one.run.stage, one.info
    where = "pictures" if one.data.depth is None else f"activations stored at depth {one.data.depth}"
    print(f"{stage}: from {where}", flush=True)
    settings = chosen.of("batch_size", "class_weights", "seed", "augment") | {"phase": phase.model_dump()}
    inputs = [params.before(phase), paths.FEATURES, *paths.SPLITS_LEARNT]
    with state.opened(stage, settings, inputs, str(device.chosen)) as saved:
        rows = one.fit(chosen.augment, replace(one.run, state=saved), curves.reporter(stage, name))
        info.history += rows
        info.thawed[name] = one.network.thawed()
        checkpoint.save(paths.model(name), info, one.network)
        curves.write_metrics(name, rows)
    return saved.earlier
