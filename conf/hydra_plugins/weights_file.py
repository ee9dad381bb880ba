"""The resolver `weights_file` of conf/config.yaml; DVC and `make params` load it (hydra.plugins_path)."""

from omegaconf import OmegaConf


def weights_file(weights: str, otherwise: str) -> str:
    """The file that DVC hashes for `backbone.weights`: itself, or `otherwise` where it names no file.

    DVC has no optional dependencies, so a backbone without a weights file needs another file that is
    always there.
    """
    return otherwise if weights in ("imagenet", "none") else weights


OmegaConf.register_new_resolver("weights_file", weights_file, replace=True)
