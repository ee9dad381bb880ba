"""Results and experiments reach a fresh clone through git and S3, and nothing is trained there."""

import json

import pytest

from tests.helpers.project import SHORT, Project, ran
from thaw.runtime.files import sha256

pytestmark = pytest.mark.slow

WIDER = ["head.units=128"]
TRAINED_AGAIN = ["train_head", "unfreeze@top", "evaluate", "figures"]
BUCKET = "thaw"


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    """The address of an S3 server on loopback, with a bucket; this process and its children have credentials."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            patch.delenv(name, raising=False)
        empty = tmp_path_factory.mktemp("aws") / "config"  # instead of the user's own
        empty.touch()
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, str(empty))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
        yield url
    server.stop()


@pytest.fixture(scope="module")
def first(s3, tmp_path_factory) -> Project:
    """Where all was trained: results and an experiment are pushed; then its cache is out of reach."""
    folder = tmp_path_factory.mktemp("remote")
    project = Project(folder / "first")
    project.git("init", "--quiet", "--bare", str(folder / "origin.git"))
    project.git("remote", "add", "origin", str(folder / "origin.git"))
    project.dvc("remote", "add", "--default", "store", f"s3://{BUCKET}/cache")
    project.dvc("remote", "modify", "store", "endpointurl", s3)
    project.exp_run(*SHORT)
    project.commit("the demo is the default")
    project.git("push", "--quiet", "origin", "HEAD")
    project.dvc("push")
    project.results = outputs(project)
    changed = [part for override in (*SHORT, *WIDER) for part in ("-S", override)]
    assert ran(project.dvc("exp", "run", "--name", "wider", *changed)) == TRAINED_AGAIN
    project.wider = outputs(project)
    project.dvc("exp", "push", "origin", "wider")
    (project.folder / ".dvc/cache").rename(folder / "away")
    return project


@pytest.fixture(scope="module")
def clone(first, tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("clone"), first.folder.parent / "origin.git")


def outputs(project: Project) -> dict[str, str]:
    """SHA-256 of all that the stages have written, by path."""
    found = (file for folder in ("data", "models", "metrics", "plots") for file in (project.folder / folder).rglob("*"))
    return {str(file.relative_to(project.folder)): sha256(file) for file in found if file.is_file()}


def test_a_fresh_clone_has_all_results_and_trains_nothing(first, clone):
    assert "models/top/head.safetensors" not in outputs(clone)
    output = clone.dvc("repro", "--pull")
    assert ran(output) == []
    assert "up to date" in output
    assert outputs(clone) == first.results
    assert "models/top/head.safetensors" in first.results
    assert clone.git("status", "--porcelain") == ""


def test_an_experiment_of_another_clone_is_there_and_trains_nothing(first, clone):
    assert "wider" not in clone.dvc("exp", "list")
    clone.dvc("exp", "pull", "origin", "wider")
    shown = json.loads(clone.dvc("exp", "show", "--json"))
    experiments = [found["name"] for revision in shown for found in revision.get("experiments") or []]
    assert experiments == ["wider"]
    clone.dvc("exp", "apply", "wider")
    assert outputs(clone) == first.wider != first.results
    assert ran(clone.exp_run(*SHORT, *WIDER)) == []
