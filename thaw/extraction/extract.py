"""The stage extract: activations of the frozen backbone for each view, in data/features; samples of the views."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from thaw import paths
from thaw.config.schema import Params
from thaw.data.stored import FEATURES_JSON
from thaw.extraction.plan import Extraction, depths_by_view, load_extraction, plan_cuts
from thaw.extraction.remote import work_remotely
from thaw.extraction.store import ActivationStore
from thaw.extraction.views import save_views
from thaw.extraction.worker import work
from thaw.network.backend import active_device
from thaw.network.build import Network
from thaw.runtime.cluster import refuse_silent, refuse_without_ray
from thaw.runtime.files import link_or_copy, replacing_folder, save_array, seal_folder
from thaw.runtime.gpus import choice_of_gpus
from thaw.runtime.resume import State, open_state
from thaw.runtime.workers import Workers


def extract(params: Params) -> float:
    """Extract the features of all views into data/features, and save what the views look like in data/views.

    Returns:
        Seconds that earlier processes worked on it.

    Raises:
        ParamError: nobody answers at `run.cluster`.
    """
    if params.run.cluster:
        refuse_without_ray("extract")
        refuse_silent("run.cluster", params.run.cluster)
    network, extraction = load_extraction(params)
    settings = params.of("augment", "extract") | {"pool": extraction.pool, "classes": extraction.classes}
    inputs = [paths.BACKBONE, *paths.SPLITS_LEARNT]
    worker = partial(work_remotely, params) if params.run.cluster else partial(work, params, choice_of_gpus())
    with open_state("extract", settings, inputs, str(active_device())) as state:
        extract_features(paths.FEATURES, network, extraction, state, params.run.workers, worker)
    save_views(paths.VIEWS, extraction.train, extraction.classes, params.augment)
    return state.earlier


def extract_features(
    folder: Path,
    network: Network,
    extraction: Extraction,
    state: State | None = None,
    workers: int = 1,
    worker: Callable[..., None] | None = None,
) -> None:
    """Pass every view of the training set, and the validation set, through the backbone once.

    View 0 is not augmented, as the images to classify will not be; the others are.

    The activations at each cut within the budget are kept; which ones are, and their bytes, is printed.

    Args:
        folder: becomes the features: one .npy per cut and view, labels, and a JSON.
        network: the frozen backbone.
        extraction: images and settings.
        state: saves each finished chunk, and is resumed from; None saves nothing.
        workers: processes that compute chunks side by side; their number moves no bit.
        worker: what each of the others runs: a function of a connection, a folder and depths, such as `work` and
            `work_remotely`, of which all else is given.
    """
    augment, settings = extraction.augment, extraction.settings
    widths = network.widths(extraction.pool)
    planned = plan_cuts(widths, len(extraction.train), len(extraction.val), augment.views, settings)
    for cut in planned:
        print(f"extract: {cut}", flush=True)
    with replacing_folder(folder) as beside:
        save_array(beside / "train_labels.npy", extraction.train.labels)
        save_array(beside / "val_labels.npy", extraction.val.labels)
        # Unfinished files stay outside the stage's output: DVC deletes it before each run.
        inside = beside if state is None else state.folder
        store = ActivationStore(inside, network, extraction, depths_by_view(planned, augment.views))
        with Workers("extract", workers, worker, inside, store.depths) as crew:
            store.fill(crew, state)
        if state is not None:
            for file in store.files():
                link_or_copy(file, beside / file.name)
        content = {
            "cuts": {cut.depth: cut.views for cut in planned if cut.stored},
            "pool": extraction.pool,
            "dtype": settings.dtype,
            "classes": extraction.classes,
        }
        seal_folder(beside / FEATURES_JSON, content | {"origin": extraction.origin})
