"""thaw.fetch against a server of our own: cut, slow, broken and lying connections."""

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from thaw import paths
from thaw.datasets.fetch import TRIES, check_archive, fetch
from thaw.errors import ThawError

ROOT = Path(__file__).parents[2]
# What a connection that breaks may lose of the bytes that have come.
LOSS = 64 * 1024
BODY = random.Random(0).randbytes(5 * LOSS + 1234)
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = "0" * 64
CUT = 3 * LOSS + 99


@dataclass(frozen=True)
class Answer:
    """How the server answers one request."""

    status: int = 200
    # Whether a range request is heeded.
    ranges: bool = True
    # Bytes of the body after which the connection ends, or stalls.
    most: int | None = None
    stalls: bool = False
    # Seconds before anything is sent.
    waits: float = 0


@dataclass
class Server:
    """What one test sees of its server: answers to give, then only good ones; requests that came."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    # One for each request: its Range header or None, and how many bytes of the body it was sent.
    ranges: list[str | None] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        script = self.server.script
        answer = script.answers.pop(0) if script.answers else Answer()
        wanted = self.headers["Range"]
        script.ranges.append(wanted)
        script.sent.append(0)
        time.sleep(answer.waits)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and answer.ranges else 0
        status = answer.status
        if status == 200 and wanted and answer.ranges:
            status = 206 if start < len(BODY) else 416
        body = BODY[start:] if status < 300 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.end_headers()
        script.sent[-1] = len(body[: answer.most])
        self.wfile.write(body[: answer.most])
        if answer.stalls:
            self.server.released.wait(10)

    def log_message(self, *_):
        pass


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that gives up is what these tests are about


@pytest.fixture
def server(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with QuietServer(("127.0.0.1", 0), Handler) as http:
        http.released = threading.Event()
        http.script = Server(f"http://127.0.0.1:{http.server_port}/images.tar.gz")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield http.script
        http.released.set()
        http.shutdown()
        thread.join()


def get(server: Server, folder: Path, sha256: str = SHA256, *, timeout: float = 5) -> Path:
    return fetch(server.url, sha256, folder, timeout=timeout, pause=0.001)


def refusal(url: str, sha256: str, folder: Path) -> str:
    with pytest.raises(ThawError) as caught:
        fetch(url, sha256, folder, timeout=5, pause=0.001)
    text = str(caught.value)
    assert "\n" not in text
    return text


def kept(folder: Path) -> set[str]:
    """Names of archives and parts in a folder; locks hold nothing."""
    return {file.name for file in folder.glob("*") if file.suffix not in (".lock", ".waiting")}


def leave_part(server: Server, folder: Path) -> Path:
    """The part file that a call leaves whose connection is cut each time."""
    server.answers[:] = [Answer(most=CUT)] + [Answer(status=503)] * (TRIES - 1)
    refusal(server.url, SHA256, folder)
    server.ranges.clear()
    server.sent.clear()
    (part,) = folder.glob("*.part")
    assert BODY.startswith(part.read_bytes())
    assert part.stat().st_size > 0
    return part


def test_an_archive_is_downloaded_under_its_own_name(server, tmp_path):
    archive = get(server, tmp_path / "downloads")
    assert archive == tmp_path / "downloads" / "images.tar.gz"
    assert archive.read_bytes() == BODY
    assert kept(archive.parent) == {"images.tar.gz"}
    assert server.ranges == [None]


@pytest.mark.parametrize("tail", ["?download=1", "#here"])
def test_a_query_is_no_part_of_the_name(server, tmp_path, tail):
    server.url += tail
    assert get(server, tmp_path).name == "images.tar.gz"


def test_a_hash_is_the_same_in_capitals(server, tmp_path):
    assert get(server, tmp_path, SHA256.upper()).read_bytes() == BODY


def test_what_has_another_hash_is_deleted(server, tmp_path):
    text = refusal(server.url, OTHER, tmp_path)
    assert "dataset.sha256" in text
    assert server.url in text
    assert OTHER in text
    assert SHA256 in text
    assert kept(tmp_path) == set()
    assert server.ranges == [None]


# --- connections that break ---


def test_a_cut_connection_is_gone_on_with_where_it_ended(server, tmp_path):
    server.answers = [Answer(most=CUT)]
    assert get(server, tmp_path).read_bytes() == BODY
    first, second = server.ranges
    assert first is None
    start = int(second.removeprefix("bytes=").removesuffix("-"))
    assert CUT - LOSS < start <= CUT
    assert server.sent == [CUT, len(BODY) - start]


def test_a_server_without_ranges_is_asked_for_all_of_it_again(server, tmp_path):
    server.answers = [Answer(most=CUT), Answer(ranges=False)]
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.ranges[1] is not None
    assert server.sent == [CUT, len(BODY)]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_server_in_trouble_is_asked_again(server, tmp_path, status):
    server.answers = [Answer(status=status), Answer(status=status)]
    assert get(server, tmp_path).read_bytes() == BODY
    assert len(server.ranges) == 3


def test_a_server_that_stays_in_trouble_is_given_up(server, tmp_path):
    server.answers = [Answer(status=500)] * 100
    text = refusal(server.url, SHA256, tmp_path)
    assert "the server answers 500 Internal Server Error" in text
    assert text.count(server.url) == 1
    assert len(server.ranges) == TRIES


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_refusal_is_not_asked_again(server, tmp_path, status):
    server.answers = [Answer(status=status)]
    text = refusal(server.url, SHA256, tmp_path)
    assert len(server.ranges) == 1
    assert str(status) in text
    assert server.url in text
    assert str(tmp_path / "images.tar.gz") in text
    assert "dvc exp run -S recipe=demo" in text
    assert kept(tmp_path) == set()


def test_a_stalled_connection_is_given_up_and_gone_on_with(server, tmp_path):
    server.answers = [Answer(most=CUT, stalls=True)]
    started = time.perf_counter()
    assert get(server, tmp_path, timeout=0.3).read_bytes() == BODY
    assert 0.3 <= time.perf_counter() - started < 5
    assert len(server.ranges) == 2
    assert server.sent[1] < len(BODY)


def test_a_server_that_says_nothing_is_given_up_and_asked_again(server, tmp_path):
    server.answers = [Answer(waits=1)]
    assert get(server, tmp_path, timeout=0.2).read_bytes() == BODY
    assert len(server.ranges) == 2


def test_the_pauses_between_tries_double(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    server.answers = [Answer(status=500)] * TRIES
    with pytest.raises(ThawError):
        fetch(server.url, SHA256, tmp_path, pause=1.0)
    assert [pause for pause in pauses if pause] == [1.0, 2.0, 4.0, 8.0]


# --- parts that are left ---


def test_a_part_of_an_earlier_call_is_gone_on_with(server, tmp_path):
    size = leave_part(server, tmp_path).stat().st_size
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [f"bytes={size}-"]
    assert server.sent == [len(BODY) - size]
    assert kept(tmp_path) == {"images.tar.gz"}


def test_a_part_that_is_whole_needs_only_its_name(server, tmp_path):
    leave_part(server, tmp_path).write_bytes(BODY)
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.sent == [0]


@pytest.mark.parametrize(
    "content",
    [BODY + b"more", b"?" * (len(BODY) + 1), b"?" * CUT],
    ids=["too long", "too long and wrong", "damaged"],
)
def test_a_stale_part_is_thrown_away_and_fetched_from_the_start(server, tmp_path, content):
    leave_part(server, tmp_path).write_bytes(content)
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(content)}-", None]
    assert kept(tmp_path) == {"images.tar.gz"}


def test_a_part_of_another_version_is_not_gone_on_with(server, tmp_path):
    part = leave_part(server, tmp_path)
    before = part.read_bytes()
    refusal(server.url, OTHER, tmp_path)
    assert server.ranges == [None]
    assert kept(tmp_path) == {part.name}
    assert part.read_bytes() == before


# --- archives that are there ---


def test_an_archive_in_the_folder_is_used_without_a_request(server, tmp_path):
    (tmp_path / "images.tar.gz").write_bytes(BODY)
    assert get(server, tmp_path) == tmp_path / "images.tar.gz"
    assert server.ranges == []


def test_an_archive_put_there_by_hand_needs_no_network_and_nothing_is_added(tmp_path):
    (tmp_path / "images.tar.gz").write_bytes(BODY)
    archive = fetch("http://nowhere.invalid/images.tar.gz", SHA256, tmp_path)
    assert archive.read_bytes() == BODY
    assert [file.name for file in tmp_path.iterdir()] == ["images.tar.gz"]


def test_an_archive_with_another_hash_is_fetched_again_and_replaced(server, tmp_path, capsys):
    (tmp_path / "images.tar.gz").write_bytes(b"of last year")
    assert get(server, tmp_path).read_bytes() == BODY
    assert server.ranges == [None]
    assert "dataset.sha256" in capsys.readouterr().out


def test_an_archive_with_another_hash_stays_while_there_is_no_better_one(server, tmp_path):
    (tmp_path / "images.tar.gz").write_bytes(b"of last year")
    server.answers = [Answer(status=404)]
    refusal(server.url, SHA256, tmp_path)
    assert (tmp_path / "images.tar.gz").read_bytes() == b"of last year"


def test_of_several_calls_at_once_one_downloads(server, tmp_path):
    # As the first stage of queued experiments does, all of which share one folder.
    server.answers = [Answer(waits=0.3)]
    with ThreadPoolExecutor(4) as threads:
        archives = list(threads.map(lambda _: get(server, tmp_path), range(4)))
    assert {archive.read_bytes() for archive in archives} == {BODY}
    assert server.ranges == [None]


# --- asking first ---


@pytest.mark.parametrize(
    "answer", [Answer(), Answer(status=503), Answer(status=429), Answer(waits=1), Answer(most=0)], ids=str
)
def test_a_server_that_may_deliver_later_is_not_refused(server, tmp_path, answer):
    server.answers = [answer]
    check_archive(server.url, SHA256, tmp_path, timeout=0.3)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_asked_for(server, tmp_path):
    (tmp_path / "images.tar.gz").write_bytes(BODY)
    check_archive(server.url, SHA256, tmp_path, timeout=0.3)
    assert server.ranges == []
    check_archive(server.url, OTHER, tmp_path, timeout=0.3)
    assert server.ranges == [None]


def test_what_cannot_be_fetched_is_refused_in_the_same_words(server, tmp_path):
    closed = server.url.replace(str(urllib.parse.urlsplit(server.url).port), "9")
    for url in (server.url, closed, "http://a..b/a.tar.gz", (tmp_path / "none.tar.gz").as_uri()):
        server.answers = [Answer(status=404)] * 2
        with pytest.raises(ThawError) as asked:
            check_archive(url, SHA256, tmp_path, timeout=5)
        assert str(asked.value) == refusal(url, SHA256, tmp_path)


# --- no network ---


def test_without_a_network_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refused, and taken by nobody else
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/images.tar.gz"
        text = refusal(url, SHA256, tmp_path)
    assert text.startswith(f"{url}: ")
    assert "refused" in text
    assert f"put the archive at {tmp_path / 'images.tar.gz'} by hand" in text
    assert "dvc exp run -S recipe=demo" in text


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "two words", "*.org"])
def test_an_address_that_none_can_have_is_tried_once(tmp_path, capsys, host):
    assert refusal(f"http://{host}/a.tar.gz", SHA256, tmp_path).startswith(f"http://{host}/a.tar.gz: ")
    assert "try 2" not in capsys.readouterr().err


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_file_address_is_used_in_place(tmp_path, no_network):
    file = tmp_path / "my images.tar.gz"
    file.write_bytes(BODY)
    assert fetch(file.as_uri(), SHA256, tmp_path / "downloads") == file
    assert not (tmp_path / "downloads").exists()


def test_a_users_file_with_another_hash_is_refused_and_stays(tmp_path, no_network):
    file = tmp_path / "images.tar.gz"
    file.write_bytes(BODY)
    text = refusal(file.as_uri(), OTHER, tmp_path / "downloads")
    assert "dataset.sha256" in text
    assert str(file) in text
    assert SHA256 in text
    assert file.read_bytes() == BODY


@pytest.mark.parametrize("there", ["nothing", "folder"])
def test_a_file_address_of_no_file_is_refused(tmp_path, no_network, there):
    file = tmp_path / "images.tar.gz"
    if there == "folder":
        file.mkdir()
    assert refusal(file.as_uri(), SHA256, tmp_path / "downloads") == f"dataset.url: no file at {file}"


@pytest.mark.parametrize("place", [".", ".dvc/tmp/exps/tmp1a2b3c", ".dvc/tmp/exps/temp/tmp1a2b3c"])
def test_queued_experiments_share_the_downloads_of_the_checkout(tmp_path, monkeypatch, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / place)
    assert paths.downloads() == tmp_path / "downloads"


# --- what the two stages cost ---


def test_the_first_stages_start_fast_and_import_nothing_heavy():
    code = (
        "import sys, time; started = time.process_time(); import stages.download, stages.preprocess;"
        "print(time.process_time() - started, *{'tensorflow', 'keras', 'jax', 'torch', 'sklearn'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    seconds = []
    for _ in range(3):  # the best of three, of the processor alone, as the machine may be busy
        output = subprocess.run(
            [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
        )
        first, *heavy = output.stdout.split()
        assert heavy == []
        seconds.append(float(first))
    assert min(seconds) < 1
