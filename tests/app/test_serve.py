"""`thaw serve`, over HTTP and in a browser: answers are the classifier's, and what is too large or no image is told."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import keras
import numpy as np
import pytest
import requests
from PIL import Image

import thaw
from tests.helpers import browser
from tests.helpers.examples import example_images, measure_statistics
from tests.helpers.image_files import empty_png
from tests.helpers.project import ROOT
from thaw.__main__ import build_parser, main
from thaw.app.commands import serve
from thaw.app.serve import answers as answering
from thaw.app.serve import application as serving
from thaw.app.serve.answers import SHOWN, Answers, coloured, find_checkpoints
from thaw.app.serve.application import HEADERS, application, listen, server
from thaw.errors import ThawError
from thaw.network.build import build_network
from thaw.network.checkpoint import CheckpointInfo, save_checkpoint
from thaw.network.seeds import seed_initialisers
from thaw.runtime.installed import install_command

# From inside Keras.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
BACKBONE = {"name": "cnn", "image_size": 24, "alpha": None, "input_size": 32}
HEAD = {"pool": "avg", "units": 8, "dropout": 0.5}
CLASSES = ["cat", "dog", "long-eared owl", "<b>boxer</b>"]
EXAMPLES = example_images(8).inputs
MAX_BYTES, MAX_PIXELS = 200_000, 1_000_000


def row(phase: str, accuracy: float) -> dict:
    return {"epoch": 1, "phase": phase, "best": True, "val_accuracy": accuracy}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Folder of a backbone, one of a source task and two phases, of which the later one comes first by name."""
    folder = tmp_path_factory.mktemp("project") / "models"
    seed_initialisers(0, "test")
    network = build_network(**BACKBONE)
    save_checkpoint(folder / "features", CheckpointInfo(BACKBONE, {}), network)
    network.attach(**HEAD, classes=2)
    save_checkpoint(folder / "backbone", CheckpointInfo(BACKBONE, {}, HEAD, ["bee", "ant"]), network)
    history = []
    for phase, accuracy in (("head", 0.5), ("all", 0.75)):
        network.attach(**HEAD, classes=len(CLASSES))
        measure_statistics(network, EXAMPLES)
        history.append(row(phase, accuracy))
        thawed = {"head": "nothing but the head"} | ({"all": "block1 and above"} if phase == "all" else {})
        info = CheckpointInfo(BACKBONE, {}, HEAD, CLASSES, list(history), thawed, temperature=0.7)
        save_checkpoint(folder / phase, info, network)
    return folder


@pytest.fixture(scope="module")
def url(models):
    """Address of a server on a free port, which ends with the tests."""
    sock, _ = listen("127.0.0.1", 0)
    answers = Answers(find_checkpoints([models]), MAX_PIXELS)
    running = server(application(answers, MAX_BYTES, ["127.0.0.1"]))
    thread = threading.Thread(target=running.run, args=([sock],))
    thread.start()
    yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
    running.should_exit = True
    thread.join(30)
    answers.close()
    sock.close()


def file(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return content.getvalue()


def pixels(data_url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data_url.split(",")[1]))))


def test_the_checkpoints_are_those_with_a_head_in_the_order_of_training(models, url):
    assert [path.name for path in find_checkpoints([models])] == ["head", "all"]
    assert find_checkpoints([models / "all"]) == [models / "all"]
    assert find_checkpoints([models / "backbone"]) == [models / "backbone"], "if it is named"
    told = requests.get(url + "checkpoints").json()
    assert told["max_bytes"] == MAX_BYTES
    assert told["checkpoints"] == [
        {
            "name": name, "backbone": "cnn", "input_size": 32, "classes": CLASSES, "thawed": thawed,
            "val_accuracy": accuracy,
        }
        for name, thawed, accuracy in (("head", "nothing but the head", 0.5), ("all", "block1 and above", 0.75))
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["features", "none"])
def test_a_folder_without_a_checkpoint_of_a_phase_is_refused_in_one_line(models, name):
    message = f"{models / name}: no checkpoint of a phase there; run `dvc repro` first, or name its folder"
    with pytest.raises(ThawError, match=f"^{re.escape(message)}$"):
        find_checkpoints([models / "all", models / name])


def test_checkpoints_of_the_same_name_are_told_apart(models, tmp_path):
    (tmp_path / "all").symlink_to(models / "head")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/all").symlink_to(models / "all")
    folders = [models / "all", tmp_path / "all"]
    assert [one.name for one in Answers(folders, MAX_PIXELS).checkpoints] == ["all", "head"], "by their own names"


def test_an_answer_is_the_prediction_of_that_checkpoint(models, url):
    found = {}
    for number, name in enumerate(("head", "all")):
        classifier = thaw.load(models / name)
        answer = requests.post(f"{url}ask/{number}", data=file(EXAMPLES[0])).json()
        expected = classifier.predict(EXAMPLES[0])[0]
        found[name] = {one["name"]: one["probability"] for one in answer["classes"]}
        assert found[name] == pytest.approx(dict(zip(CLASSES, expected.tolist(), strict=True)), abs=1e-6)
        assert list(found[name].values()) == sorted(found[name].values(), reverse=True)
        assert answer["explained"] == CLASSES[expected.argmax()]
        np.testing.assert_array_equal(pixels(answer["input"]), EXAMPLES[0])
        assert pixels(answer["image"]).shape == (SHOWN, SHOWN, 3)
    assert found["head"] != found["all"]


def test_the_map_is_of_the_class_that_is_asked_for(models, url):
    classifier = thaw.load(models / "all")
    for name in CLASSES:
        answer = requests.post(f"{url}ask/1", params={"of": name}, data=file(EXAMPLES[0])).json()
        (heat,) = classifier.grad_cam(EXAMPLES[0], name)
        assert answer["explained"] == name
        assert (answer["heat"] is None) == (not heat.any())
        if answer["heat"]:
            difference = pixels(answer["heat"]).astype(int) - coloured(heat, SHOWN)
            assert np.abs(difference).max() <= 2, "up to rounding"


def test_a_map_is_clear_where_nothing_supports_the_class():
    heat = np.zeros((2, 2), np.float32)
    heat[0, 0] = 1
    laid_over = coloured(heat, 8)
    assert (laid_over.shape, laid_over.dtype) == ((8, 8, 4), np.uint8)
    assert (laid_over[0, 0, 3], laid_over[-1, -1, 3]) == (255, 0)


def test_a_large_photograph_is_shown_as_its_central_square(url):
    image = np.full((300, 200, 3), 255, np.uint8)
    image[50:250] = 100
    answer = requests.post(f"{url}ask/0", data=file(image)).json()
    # The filter reaches beyond the edge of the square.
    assert abs(pixels(answer["input"])[2:-2].astype(int) - 100).max() <= 3


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not a readable image (0 bytes)"),
        (b"text", "not a readable image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not a readable image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run", "not a readable image"),
        (empty_png(1200, 1200), "1,200 x 1,200 pixels; accepted: 1,000,000 of this kind of PNG, by max_pixels=1000000"),
        (empty_png(3000, 3000), "more than 2,000,000 pixels; accepted: 1,000,000, by max_pixels=1000000"),
        (file(EXAMPLES[0])[:900], "not a readable image ("),
    ],
)
def test_a_hostile_file_is_told_in_one_line_and_the_next_image_is_answered(url, content, why):
    refused = requests.post(f"{url}ask/0", data=content)
    assert refused.status_code == 400
    assert why in refused.json()["error"] and "\n" not in refused.json()["error"]
    assert requests.post(f"{url}ask/0", data=file(EXAMPLES[0])).status_code == 200


TOO_LARGE = "a file of more than 0.2 MB; accepted: 0.2 MB, by --max-mb"


def raw(url: str, head: str, body: bytes = b"") -> tuple[int, str]:
    """Status and content of a request that is written as it stands."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), 20) as connection:
        connection.sendall(f"{head}\r\nHost: 127.0.0.1\r\n\r\n".encode() + body)
        answer = b"".join(iter(lambda: connection.recv(2**16), b""))
    top, content = answer.split(b"\r\n\r\n", 1)
    return int(top.split()[1]), content.decode()


def test_bytes_beyond_the_limit_are_refused_before_they_are_sent_or_decoded(url):
    announced = raw(url, f"POST /ask/0 HTTP/1.1\r\nContent-Length: {MAX_BYTES + 1}")
    assert (announced[0], json.loads(announced[1])) == (413, {"error": TOO_LARGE})
    part = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    chunked = raw(url, "POST /ask/0 HTTP/1.1\r\nTransfer-Encoding: chunked", part * 4)
    assert (chunked[0], json.loads(chunked[1])) == (413, {"error": TOO_LARGE})


def test_who_sends_no_bytes_does_not_hold_a_connection(url, monkeypatch):
    monkeypatch.setattr(serving, "UPLOAD_TIMEOUT", 0.3)
    status, content = raw(url, "POST /ask/0 HTTP/1.1\r\nContent-Length: 100", b"some")
    assert (status, json.loads(content)) == (408, {"error": "the image did not arrive within 0 s"})


@pytest.mark.parametrize("number", ["2", "-1", "x", "9" * 5000, "\u0661"])
def test_a_checkpoint_that_is_not_there_is_refused(url, number):
    refused = requests.post(f"{url}ask/{number}", data=file(EXAMPLES[0]))
    assert refused.status_code == 404
    assert refused.json()["error"].endswith("; accepted: 0 to 1")


def test_a_class_that_the_checkpoint_has_not_is_refused(url):
    refused = requests.post(f"{url}ask/0", params={"of": "bird\n"}, data=file(EXAMPLES[0]))
    assert refused.status_code == 400
    assert refused.json() == {"error": f"of: received 'bird\\n'; accepted: {', '.join(CLASSES)}"}


def test_other_sites_get_no_answer(url):
    content = file(EXAMPLES[0])
    for site in ("cross-site", "same-site"):
        refused = requests.post(f"{url}ask/0", data=content, headers={"Sec-Fetch-Site": site})
        assert (refused.status_code, refused.json()) == (403, {"error": "a request of another site"})
    for method, path in (("GET", ""), ("GET", "checkpoints"), ("POST", "ask/0")):
        led_here = requests.request(method, url + path, data=content, headers={"Host": "example.com"})
        assert (led_here.status_code, led_here.text) == (400, "Invalid host header")


def test_every_response_has_the_policy(url):
    for path, status in (("", 200), ("page.js", 200), ("page.css", 200), ("checkpoints", 200), ("../x", 404)):
        response = requests.get(url + path)
        assert response.status_code == status
        assert {name: response.headers[name] for name in HEADERS} == HEADERS
        assert "server" not in response.headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_images_are_read_and_computed_one_at_a_time(url, monkeypatch):
    inside, most = [], []

    def slow(*arguments):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return read(*arguments)

    read = answering.read_image
    monkeypatch.setattr(answering, "read_image", slow)
    with ThreadPoolExecutor(6) as pool:
        statuses = pool.map(lambda n: requests.post(f"{url}ask/{n % 2}", data=file(EXAMPLES[n])).status_code, range(6))
        assert set(statuses) == {200}
    assert len(most) == 12 and set(most) == {1}


def test_no_file_is_written(url, models):
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in models.parent.rglob("*")}

    before = files()
    requests.post(f"{url}ask/0", data=file(EXAMPLES[0]))
    assert files() == before


def test_a_missing_package_and_a_taken_port_are_refused_before_any_work(models, monkeypatch):
    sock, _ = listen("127.0.0.1", 0)
    port = sock.getsockname()[1]
    monkeypatch.setattr("sys.argv", ["thaw", "serve", str(models), "--port", str(port)])
    with sock, pytest.raises(SystemExit, match=f"^serve: 127.0.0.1, port {port}: Address already in use; another port"):
        main()
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(SystemExit, match=re.escape(f"serve: no uvicorn: {install_command('serve')}")):
        main()


@pytest.mark.parametrize("port", ["-1", "65536", "x", ""])
def test_a_port_that_there_is_none_of_is_refused(port, capsys):
    with pytest.raises(SystemExit):
        build_parser("thaw").parse_args(["serve", "--port", port])
    assert "accepted: a port, 0 to 65535" in capsys.readouterr().err or port == "-1"


def test_whoever_is_let_in_is_told(models, capsys):
    answers = Answers([models / "all"], MAX_PIXELS)
    serve.tell(answers, "0.0.0.0", 8000, local=False)
    warning, address = capsys.readouterr().out.splitlines()
    assert "whoever reaches this port can use the models; there is no password" in warning
    assert address == "serve: all, at http://0.0.0.0:8000/ until Ctrl+C"
    serve.tell(answers, "::1", 8000, local=True)
    assert capsys.readouterr().out == "serve: all, at http://[::1]:8000/ until Ctrl+C\n"


def test_the_command_tells_its_address_and_ends_by_a_signal(models, tmp_path):
    environment = os.environ | {"KERAS_BACKEND": keras.config.backend(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "thaw", "serve", str(models), "--port", "0"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        (port,) = re.findall(r"^serve: head, all, at http://127.0.0.1:(\d+)/ until Ctrl\+C$", process.stdout.readline())
        answer = requests.post(f"http://127.0.0.1:{port}/ask/1", data=file(EXAMPLES[0]), timeout=60)
        assert len(answer.json()["classes"]) == len(CLASSES)
    finally:
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, said, errors) == (130, "", "")
    assert list(tmp_path.iterdir()) == []


SAYS = "[...document.querySelectorAll('.says')].map(one => one.textContent)"
HEADING = "document.querySelector('#heading').textContent"


def test_a_browser_shows_what_each_checkpoint_sees_in_a_dropped_image(models, url, tmp_path):
    image = tmp_path / "holiday.png"
    image.write_bytes(file(EXAMPLES[0]))
    text = tmp_path / "notes <i>.txt"
    text.write_text("no image")
    large = tmp_path / "large.png"
    large.write_bytes(bytes(MAX_BYTES + 1))
    best = {}
    for name in ("head", "all"):
        probabilities = thaw.load(models / name).predict(EXAMPLES[0])[0]
        best[name] = f"{CLASSES[probabilities.argmax()]}, {100 * probabilities.max():.1f} %"
    with browser.tab() as tab:
        tab.open(url)
        tab.wait("document.querySelectorAll('.card').length === 2")
        tab.drop(image, "#drop")
        tab.wait(f"{SAYS}.every(text => text.includes('%'))")
        assert tab.evaluate(SAYS) == [best["head"], best["all"]]
        assert tab.evaluate(HEADING) == "Classes by all", "the last phase's"
        shown = tab.evaluate(
            "[...document.querySelectorAll('#classes button > span:first-child')].map(e => e.textContent)"
        )
        assert sorted(shown) == sorted(CLASSES), "names are text"
        for width in (1280, 390):
            tab.resize(width)
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.evaluate("[...document.images].filter(it => !it.hidden && !it.naturalWidth).length") == 0
        tab.evaluate("document.querySelector('.card input').click()")
        assert tab.evaluate(HEADING) == "Classes by head"
        tab.evaluate("document.querySelectorAll('#classes button')[1].click()")
        tab.wait("document.querySelectorAll('#classes button')[1].ariaPressed === 'true'")
        second = tab.evaluate("document.querySelectorAll('#classes button')[1].dataset.name")
        assert f"{second} (Grad-CAM)" in tab.evaluate("document.querySelector('#caption').textContent")
        loaded = [urlsplit(one).path for one in tab.loaded]
        assert set(loaded) == {"/", "/page.css", "/page.js", "/checkpoints", "/ask/0", "/ask/1"}
        assert all(one.startswith(url) for one in tab.loaded) and tab.said == []
        for other, message in (
            (text, "notes <i>.txt: not a readable image"),
            (tmp_path, f"{tmp_path.name}: the browser cannot read it; accepted: an image file, no folder"),
            (large, "large.png: a file of 0.2 MB; accepted: 0.2 MB, by --max-mb"),
        ):
            tab.drop(other, "#drop")
            tab.wait(f"document.querySelector('#message').textContent === {json.dumps(message)}")
            assert tab.evaluate("[...document.querySelectorAll('#classes li')].length") == 0
            assert tab.evaluate(SAYS)[1] == ""
        tab.drop(image, "#drop")
        tab.wait(f"{SAYS}.every(text => text.includes('%'))")
        assert tab.evaluate("document.querySelector('#message').hidden")
