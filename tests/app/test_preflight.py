"""What cannot run is refused by `dvc exp run` before anything is written or deleted; nothing else is."""

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tests.helpers.project import ROOT, Project
from tests.helpers.speed import by_backbone
from thaw.app.preflight import _refuse_cache_path, check_runnable, imagenet_weights
from thaw.backbones import BACKBONES
from thaw.config.compose import compose
from thaw.config.schema import Backbone
from thaw.errors import ThawError
from thaw.runtime.files import seal_folder, sha256

# Every address is out of reach, of this machine too.
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
OFFLINE |= {"no_proxy": "", "NO_PROXY": ""}
BY_HAND = "Without a network, put"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The demo as the default, up to date by outputs that no stage has made."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.run("python", "-m", "thaw", "params", "recipe=demo")
    with Repo(project.folder) as repo:
        outputs = [Path(out.fs_path) for stage in repo.index.stages for out in stage.outs]
    for path in outputs:
        file = path if path.suffix else path / "made"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{path.name}\n")
    project.dvc("commit", "--force")
    project.commit("the demo is the default")
    return project


@pytest.fixture
def unchanged(project):
    """The workspace, which is to be as it was when the test ends."""
    before = contents(project)
    yield project
    assert contents(project) == before
    assert project.git("status", "--porcelain") == ""
    assert "up to date" in project.dvc("repro")


def contents(project: Project) -> dict[Path, bytes]:
    left_out = {".git", ".dvc", "__pycache__"}
    return {
        path: path.read_bytes()
        for path in project.folder.rglob("*")
        if path.is_file() and not left_out & set(path.relative_to(project.folder).parts)
    }


def offline(project: Project, *options: str, **variables: str) -> str:
    overrides = [part for option in options if "=" in option for part in ("-S", option)]
    rest = [option for option in options if "=" not in option]
    return project.run("dvc", "exp", "run", *rest, *overrides, check=False, **OFFLINE | variables)


@pytest.mark.parametrize(
    "options",
    [[], pytest.param(["--queue"], marks=pytest.mark.slow), pytest.param(["--temp"], marks=pytest.mark.slow)],
    ids=["workspace", "queue", "temp"],
)
def test_an_archive_out_of_reach_is_refused_in_one_line(unchanged, options):
    (line,) = offline(unchanged, "backbone=mobilenetv2", *options).splitlines()
    assert line.startswith("ERROR: https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz: ")
    assert f"{BY_HAND} the archive at {unchanged.folder}/downloads/cifar-10-binary.tar.gz by hand" in line


@pytest.mark.parametrize("backbone", ["mobilenetv2", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_imagenet_weights_out_of_reach_are_refused_in_one_line(unchanged, tmp_path, backbone):
    homes = {"KERAS_HOME": str(tmp_path), "KAGGLEHUB_CACHE": str(tmp_path)}
    (line,) = offline(unchanged, "dataset=digits", f"backbone={backbone}", **homes).splitlines()
    assert line.startswith(f"ERROR: backbone.weights: ImageNet weights of {backbone}: https://")
    assert f"{BY_HAND} them at {tmp_path}/models/" in line
    assert "-S backbone.weights=FILE; or train from random values: -S schedule=scratch" in line


def test_a_value_that_is_not_accepted_is_refused_in_one_line(unchanged):
    output = offline(unchanged, "recipe=demo", "head.dropout=1.5")
    assert output == "ERROR: head.dropout: received 1.5; accepted: a number from 0 to below 1\n"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("head.unitz=3", "head.unitz: received an unknown key; accepted: epochs, learning_rate, "),
        ("backbone=mobilnet", "backbone: received 'mobilnet'; accepted: cnn, convnexttiny, "),
        ("~head.unitz", "Could not delete from config. 'head.unitz' does not exist."),
        ("dataset=cifar10 dataset.url=file:///none.tar.gz", "dataset.url: no file at /none.tar.gz"),
    ],
)
def test_what_hydra_refuses_is_told_in_one_line(unchanged, override, said):
    (line,) = offline_with(unchanged, "recipe=demo", *override.split()).splitlines()
    assert line.startswith(f"ERROR: {said}")


def offline_with(project: Project, *overrides: str) -> str:
    return project.run("dvc", "exp", "run", *(f"-S{override}" for override in overrides), check=False, **OFFLINE)


def test_a_grid_with_a_run_that_is_refused_is_not_queued_by_half(unchanged):
    (line,) = offline(unchanged, "--queue", "recipe=demo", "head.dropout=0.1,1.5").splitlines()
    assert line.startswith("ERROR: head.dropout: received 1.5; accepted: a number from 0 to below 1 (in the run of ")
    assert "No experiment tasks" in unchanged.dvc("queue", "status")


def is_queued(project: Project, *options: str, **variables: str) -> bool:
    output = offline(project, "--queue", *options, **variables)
    assert "ERROR" not in output or BY_HAND in output
    if "ERROR" not in output:
        project.dvc("queue", "remove", "--all")
    return "ERROR" not in output


@pytest.mark.slow
def test_what_is_on_this_machine_runs_without_a_network(unchanged, tmp_path):
    archive = tmp_path / "images.tar.gz"
    archive.write_bytes(b"an archive")
    local = [f"dataset.url={archive.as_uri()}", f"dataset.sha256={sha256(archive)}"]
    weights = tmp_path / "models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_160_no_top.h5"
    weights.parent.mkdir()
    weights.touch()
    assert is_queued(unchanged, "recipe=demo")
    assert is_queued(unchanged, "backbone=cnn", *local)
    assert is_queued(unchanged, "backbone=mobilenetv2", *local, KERAS_HOME=str(tmp_path))
    assert is_queued(unchanged, "backbone=mobilenetv2", "dataset=digits", "backbone.weights=none")


@pytest.mark.slow
def test_a_stage_of_its_own_and_a_pull_run_without_a_network(unchanged):
    assert is_queued(unchanged, "backbone=cnn", "extract")
    assert is_queued(unchanged, "backbone=cnn", "--pull")


def test_a_folder_below_the_root_is_refused(unchanged):
    output = unchanged.run("dvc", "--cd", "thaw", "exp", "run", "-S", "recipe=demo", check=False)
    assert output == (
        f"ERROR: dvc exp run: received the folder {unchanged.folder}/thaw; "
        f"accepted: the root of the checkout, {unchanged.folder}\n"
    )


def test_a_cache_that_dvc_cannot_name_is_refused_where_it_would_have_to(tmp_path, monkeypatch):
    checkout = tmp_path / "été"
    (checkout / ".dvc").mkdir(parents=True)
    (checkout / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    monkeypatch.chdir(checkout)
    with pytest.raises(ThawError, match=r"^the path of DVC's cache: received '.*; accepted: a path in ASCII"):
        _refuse_cache_path()
    (checkout / ".dvc/config").write_text(f"[core]\n    no_scm = true\n[cache]\n    dir = {tmp_path}\n")
    _refuse_cache_path()


def test_params_are_composed_without_a_network(project):
    try:
        project.run("python", "-m", "thaw", "params", "backbone=mobilenetv2", **OFFLINE)
    finally:
        project.git("checkout", "--", "params.yaml")


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "images.tar.gz").write_bytes(b"an archive")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.slow
def test_an_archive_is_asked_for_at_its_address(unchanged, server):
    def overrides(name):
        return "backbone=cnn", f"dataset.url={server}/{name}"

    reached = {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    assert is_queued(unchanged, *overrides("images.tar.gz"), **reached)
    assert "the server answers 404" in offline(unchanged, *overrides("other.tar.gz"), **reached)
    assert not (unchanged.folder / "downloads").exists(), "nothing was fetched"


# --- what DVC has made already ---


@pytest.fixture
def raw(project, tmp_path, monkeypatch):
    """Parameters of CIFAR-10 with ImageNet weights, in a DVC repository that has nothing."""
    project.run("python", "-m", "thaw", "params", "backbone=mobilenetv2")
    content = yaml.safe_load((project.folder / "params.yaml").read_text())
    project.git("checkout", "--", "params.yaml")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    monkeypatch.chdir(tmp_path)
    for name, value in (OFFLINE | {"KERAS_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    return content


def entry(output: str, parameters: dict) -> dict:
    return {"cmd": "make", "params": {"params.yaml": parameters}, "outs": [{"path": output, "md5": "abcdef.dir"}]}


def made_by(raw: dict) -> list[dict]:
    """What dvc.lock or the run cache says of the stages download and backbone."""
    dataset = {f"dataset.{key}": raw["dataset"][key] for key in ("name", "url", "sha256")}
    return [entry("data/raw", dataset), entry("models/backbone", {"seed": raw["seed"], "backbone": raw["backbone"]})]


def in_lock(entries: list[dict]) -> None:
    stages = {one["outs"][0]["path"]: one for one in entries}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    for path in stages:
        Path(path).mkdir(parents=True)


def in_run_cache(entries: list[dict]) -> None:
    in_cache("abcdef.dir")
    for number, one in enumerate(entries):
        file = Path(f".dvc/cache/runs/a{number}/a{number}/value")
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump(one))


def in_cache(name: str) -> None:
    file = Path(".dvc/cache/files/md5", name[:2], name[2:])
    file.parent.mkdir(parents=True)
    file.write_text("[]")


@pytest.mark.parametrize("put", [in_lock, in_run_cache])
def test_what_dvc_has_made_needs_no_network(raw, put):
    with pytest.raises(ThawError, match="cifar-10-binary"):
        check_runnable(raw, reachable=True)
    made = made_by(raw)
    put(made)
    check_runnable(raw, reachable=True)
    for section, key, value in (("dataset", "sha256", "0" * 64), ("backbone", "image_size", 64)):
        with pytest.raises(ThawError, match=BY_HAND):
            check_runnable(raw | {section: raw[section] | {key: value}}, reachable=True)


def test_what_the_cache_has_lost_is_not_made(raw):
    in_run_cache(made_by(raw))
    Path(".dvc/cache/files/md5/ab/cdef.dir").unlink()
    with pytest.raises(ThawError, match=BY_HAND):
        check_runnable(raw, reachable=True)


# --- images of one's own ---


def of_folder(path: Path | str) -> dict:
    """What conf/ composes to for a folder, without ImageNet weights."""
    overrides = ["dataset=folder", f"dataset.path='{path}'", "backbone=cnn", "batch_size=4"]
    return compose(overrides, ROOT / "conf")


def test_a_folder_is_looked_at_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/manx/a.jpg", "photos/ragdoll/b.jpg", "photos/ragdoll/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    raw = of_folder(tmp_path / "photos") | {"batch_size": 2}
    check_runnable(raw, reachable=True)
    with pytest.raises(ThawError, match="batch_size: received 4; accepted: 1 to 3"):
        check_runnable(raw | {"batch_size": 4}, reachable=True)
    with pytest.raises(ThawError, match="class_weights: received 'bengal'; accepted: manx, ragdoll"):
        check_runnable(raw | {"class_weights": {"bengal": 2.0}}, reachable=True)
    gone = of_folder(tmp_path / "none")
    check_runnable(gone, reachable=False)
    with pytest.raises(ThawError, match="dataset.path: received '.*/none'; accepted: a folder of class folders"):
        check_runnable(gone, reachable=True)


@pytest.mark.parametrize("name", [".", "..", "data", "data/processed", "data/raw/photos", "models", "plots/tables"])
def test_a_folder_that_stages_write_in_is_refused(tmp_path, monkeypatch, name):
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    Path(name).mkdir(parents=True, exist_ok=True)
    with pytest.raises(ThawError, match="dataset.path: received .*; accepted: a folder apart from "):
        check_runnable(of_folder(name), reachable=True)


# --- where ImageNet weights come from ---


def parameters(name: str, size: int, alpha: float | None = None) -> Backbone:
    return Backbone(
        name=name, weights="imagenet", weights_file="-", image_size=size, alpha=alpha, source=None,
        learning_rate=0.1, learning_rate_all=0.1, batch_norm="inference",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "size", "alpha"),
    [
        ("vgg16", 32, None), ("resnet50", 32, None), ("mobilenetv2", 96, 0.35), ("mobilenetv2", 100, 1.0),
        *by_backbone([("efficientnetv2b0", 96, None), ("convnexttiny", 96, None)]),
    ],
)  # fmt: skip
def test_keras_takes_weights_from_the_file_that_is_looked_for(monkeypatch, name, size, alpha):
    from keras.src.utils import file_utils

    class Asked(Exception):
        pass

    def get_file(file, url, cache_subdir, **_):
        raise Asked(url, f"{cache_subdir}/{file}")

    monkeypatch.setenv("KERAS_HOME", "/home")
    monkeypatch.setattr(file_utils, "get_file", get_file)
    with pytest.raises(Asked) as asked:
        BACKBONES[name].build(size, alpha, "imagenet")
    url, places = imagenet_weights(parameters(name, size, alpha))
    assert asked.value.args == (url, places[0].relative_to("/home").as_posix())


@pytest.mark.parametrize(
    ("name", "preset"), [("resnet18", "resnet_18_imagenet"), ("resnet50v15", "resnet_50_imagenet")]
)
def test_kagglehub_takes_weights_from_the_folder_that_is_looked_for(name, preset):
    from keras_hub.models import ResNetBackbone

    handle = ResNetBackbone.presets[preset]["kaggle_handle"]
    _, (folder,) = imagenet_weights(parameters(name, 32))
    assert handle.removeprefix("kaggle://").startswith(str(folder).split("/models/")[1])


def test_a_backbone_that_is_not_known_is_not_refused():
    assert imagenet_weights(parameters("cnn", 32)) is None


# --- a checkpoint of the user's ---


def test_a_damaged_checkpoint_is_refused_before_any_work(raw, tmp_path):
    (tmp_path / "mine").mkdir()
    block = tmp_path / "mine/block1.safetensors"
    block.write_bytes(b"weights")
    backbone = {"name": "mobilenetv2", "alpha": 1.0, "image_size": 96, "input_size": 32}
    seal_folder(tmp_path / "mine/checkpoint.json", {"backbone": backbone, "weights": {"origin": "none"}})
    raw["backbone"] |= dict.fromkeys(("weights", "weights_file"), str(tmp_path / "mine"))
    in_lock(made_by(raw))
    check_runnable(raw, reachable=True)
    block.write_bytes(b"other weights")
    with pytest.raises(
        ThawError, match=rf"^backbone\.weights: .*; accepted: a checkpoint that is whole; {block} is not$"
    ):
        check_runnable(raw, reachable=True)
