"""docs/messages.md: what thaw says to wrong parameters, from the cases of tests/test_params.py.

python -m tests.messages > docs/messages.md
"""

import copy

from tests.test_params import BAD, MISSING, Bad, composed, get, refusal

# Of each parameter, so that the page stays readable; the tests try all.
CASES = 2

HEAD = """# What thaw says

## When something fails

One line, an exit code other than 0, and nothing half-written under a final name; when the cause is gone, the next
`dvc repro` goes on. tests/test_faults.py, test_state.py, test_features.py, test_checkpoint.py, test_archives.py and
test_fetch.py bring these about.

| cause | message |
|---|---|
| killed, or a machine that went off | none; the next run: `unfreeze@all: goes on from saved state, after epoch 3/5` |
| Ctrl-C, SIGTERM | `unfreeze@all: ended by SIGINT; the next run goes on from what is saved` |
| dvc was killed, its stage was not | `unfreeze@all: the dvc that started this is gone`, and the stage ends |
| another process works on the same | `unfreeze@all: waiting for process 4711, which does the same` |
| parameters, inputs, code or machine have changed | `unfreeze@all: there is saved state with other parameters; it is not used` |
| saved state that is damaged | `unfreeze@all: the saved state is damaged and not used` |
| a damaged checkpoint | `models/head/block2.safetensors: missing or damaged; run `dvc repro` to make it again` |
| damaged features | `data/features: depth1, view1: missing or damaged; run `dvc repro`` |
| features of another backbone, dataset or augmentation | `data/features: made from another augmentation (flip, seed); run `dvc repro` to make it again` |
| an archive with another hash | `URL: dataset.sha256 is ..., but what came has ...; it was deleted. Check dataset.url and dataset.sha256` |
| an archive with a link, a device, or a path that leads outside | `ARCHIVE: refused, as 'NAME' is no plain file, or a path that leads outside` |
| a loss that is not finite | `unfreeze@all: the loss is not finite at epoch 2/5, step 17, learning rate 0.025; a lower learning_rate may help; the epochs before are saved` |
| a full disk | `extract: No space left on device: data/...; when the cause is gone, `dvc repro` goes on` |
| a device out of memory | `extract: out of memory; lower batch_size, extract.batch_size or backbone.image_size (now 128, 256 and 96)` |

## Wrong parameters

Each is refused in one line before any work is done: by `python -m thaw check KEY=VALUE`, and by every stage, which
checks all of `params.yaml` first. Made by `python -m tests.messages` from the cases that the tests try.

| value | message |
|---|---|
"""


def message(bad: Bad) -> str:
    """What is said of one wrong value."""
    raw = composed(*bad.base)
    *above, name = bad.key.split(".")
    section = get(raw, ".".join(above)) if above else raw
    if bad.value is MISSING:
        del section[name]
    else:
        section[name] = copy.deepcopy(bad.value)
    return refusal(raw)


def page() -> str:
    shown: dict[str, int] = {}
    lines = []
    for bad in BAD:
        shown[bad.key] = shown.get(bad.key, 0) + 1
        text = message(bad)
        # Values that are paths of this checkout would differ elsewhere.
        if shown[bad.key] <= CASES and "/conf" not in text + repr(bad):
            lines.append(f"| `{_cell(repr(bad))}` | {_cell(text)} |")
    return HEAD + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
