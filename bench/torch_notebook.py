"""Fine-tuning of MobileNetV2 in PyTorch, as in a careful notebook: the head, then all blocks. Start at `main`.

    python -m bench.torch_notebook RESULT

Settings, images, weights and RESULT are those of bench/notebook.py; augmentation has mirror images and shifts alone.
Channels lie last in memory; frozen blocks run without gradients.
"""

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import yaml

from bench import torch_peer

PROCESSED = Path("data/processed")


def main() -> None:
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch_peer.use_cores(device)
    torch.manual_seed(params["seed"])
    backbone, head, batch_size = params["backbone"], params["head"], params["batch_size"]
    train, val, test = (read_split(split, device) for split in ("train", "val", "test"))
    classes = json.loads((PROCESSED / "classes.json").read_text(encoding="utf-8"))["classes"]
    blocks, width = torch_peer.mobilenet(backbone["alpha"])
    if backbone["weights"] != "none":
        torch_peer.load_weights(blocks, backbone["weights"])
    layers = torch_peer.build_head(width, head["units"], head["dropout"], len(classes))
    reached: list[tuple[float, str, float]] = []
    for name, phase in (("head", head), ("all", params["schedule"]["phases"]["all"])):
        thawed = len(blocks) if name == "all" else 0
        network = torch_peer.cut_network(blocks, layers, thawed, phase.get("batch_norm", "inference"))
        trainer = torch_peer.Trainer(
            network,
            backbone["image_size"],
            phase["learning_rate"],
            flip=bool(params["augment"]["flip"]),
            shift=round(params["augment"]["translation"] * 32),
            mixup=phase["mixup"],
            smoothing=phase["label_smoothing"],
            average=phase["average"],
            device=device,
        )
        best, kept = -1.0, copy.deepcopy(trainer.validated.state_dict())
        rates = learning_rates(phase, len(train[0]) // batch_size)
        for epoch in range(phase["epochs"]):
            trainer.epoch(*train, batch_size, rates[epoch])
            accuracy = trainer.validate(*val, batch_size)
            if accuracy > best:
                best, kept = accuracy, copy.deepcopy(trainer.validated.state_dict())
            seconds = time.time() - psutil.Process().create_time()
            reached.append((round(seconds, 2), name, accuracy))
            print(f"{name}: epoch {epoch + 1}, {seconds:.0f} s, val accuracy {accuracy:.4f}", flush=True)
        trainer.trained.load_state_dict(kept)
    metrics = {"accuracy": trainer.validate(*test, batch_size), "val_accuracy": best}
    Path(sys.argv[1]).write_text(json.dumps({"metrics": metrics, "reached": reached}), encoding="utf-8")


def read_split(split: str, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, uint8 (n, 32, 32, 3), and labels, int64 (n,)."""
    images, labels = (np.load(PROCESSED / split / f"{name}.npy") for name in ("images", "labels"))
    return torch.from_numpy(images).to(device), torch.from_numpy(labels.astype(np.int64)).to(device)


def learning_rates(phase: dict[str, Any], steps: int) -> np.ndarray:
    """The rate of each step, (epochs, steps), as in bench/notebook.py."""
    first, number = phase["learning_rate"], np.arange(phase["epochs"] * steps)
    if phase["lr_schedule"] == "constant":
        return np.full((phase["epochs"], steps), first)
    last, warmup = phase["final_learning_rate"], max(round(phase["warmup_epochs"] * steps), 1)
    rates = last + (first - last) * (1 + np.cos(np.pi * number / len(number))) / 2
    return (rates * np.minimum((number + 1) / warmup, 1)).reshape(phase["epochs"], steps)


if __name__ == "__main__":
    main()
