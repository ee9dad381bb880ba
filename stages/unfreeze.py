"""unfreeze@<phase>: thaw the network down to the phase's cut and train on, into models/<phase>."""

import sys

from thaw import params as schema
from thaw import paths, stage
from thaw.errors import ParamError
from thaw.params import Params


def unfreeze(params: Params, name: str) -> None:
    from thaw import checkpoint, curves, device, features, state, training

    phase = params.schedule.phases.get(name)
    if phase is None:
        raise ParamError("phase", name, f"one of {', '.join(params.schedule.phases) or 'none'}, as in schedule.phases")
    stage_name = f"unfreeze@{name}"
    network, info = checkpoint.load(paths.model(phase.after))
    frozen = schema.frozen_layers(phase, network.name)
    network.freeze(frozen)
    depth = network.depth_above(frozen)
    hashes = checkpoint.hashes(paths.model(phase.after))
    below = {block.name: hashes[block.name] for block in network.blocks[: len(network.blocks) - depth]}
    features.refuse_others(paths.FEATURES, features.origin_of(below, params.augment))
    data = features.data(paths.FEATURES, depth, info.classes)
    print(f"{stage_name}: from {'pictures' if data.depth is None else f'activations stored at depth {data.depth}'}")
    settings = params.of("batch_size", "class_weights", "seed", "augment") | {"phase": phase.model_dump()}
    inputs = [paths.model(phase.after), paths.FEATURES, *paths.SPLITS_LEARNT]
    with state.opened(stage_name, settings, inputs, str(device.chosen)) as saved:
        rows = training.fit_network(
            network,
            training.Run(
                stage_name,
                name,
                phase,
                params.batch_size,
                params.seed,
                info.history,
                phase.mixup,
                saved,
                training.class_weights(schema.class_weights(params), info.classes, data.views[0].labels),
            ),
            data,
            augment=params.augment,
            batch_norm=phase.batch_norm,
            report=curves.reporter(stage_name, name),
        )
        info.history += rows
        info.thawed[name] = network.thawed()
        checkpoint.save(paths.model(name), info, network)
        curves.write_metrics(name, rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m stages.unfreeze PHASE")
    stage.run(f"unfreeze@{sys.argv[1]}", lambda params: unfreeze(params, sys.argv[1]), keras=True)
