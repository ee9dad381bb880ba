"""Download of an archive by URL and SHA-256: kept in a folder, resumed, retried, deleted if its hash is wrong.

Start at `fetch`; `check_archive` and `reach` ask a server without downloading.
"""

import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

from thaw.errors import ThawError
from thaw.runtime.files import sha256
from thaw.runtime.locks import locked
from thaw.runtime.progress import Progress

TRIES = 5

# Seconds without a byte after which a connection is given up.
TIMEOUT = 30.0

# Bytes per write: a broken connection loses less than this of what it received.
CHUNK = 1 << 16


class WrongHash(ThawError):
    """A file has another SHA-256 than expected."""


class Unreachable(Exception):
    """No connection to a server can be made."""


class Refused(Exception):
    """The server refuses the file; another try would not help."""


def fetch(url: str, sha256: str, folder: Path, *, timeout: float = TIMEOUT, pause: float = 1.0) -> Path:
    """Download the archive at `url` into `folder`, unless it is there already.

    Resumes a partial download with an HTTP Range request. The file gets its name after its hash was verified.
    Of several calls at the same time, such as those of queued experiments, one downloads and the others wait.

    Args:
        url: an http://, https:// or file:// address.
        sha256: of the whole file, in hexadecimal digits.
        folder: folder of the archive and of its partial download.
        timeout: seconds without a byte after which a connection is given up.
        pause: seconds before the second try; doubled for each later one.

    Returns:
        The path of a file with that hash; for a file:// URL, the path in the URL.

    Raises:
        WrongHash: the downloaded file has another hash; it is deleted.
        ThawError: the archive cannot be downloaded; the message says what to do by hand.
    """
    wanted = sha256.lower()
    address = urllib.parse.urlsplit(url)
    if address.scheme == "file":
        return _local(Path(urllib.request.url2pathname(address.path)), wanted)
    archive = _in_folder(address, folder)
    if not _is_there(archive, wanted):
        with locked(folder / f"{archive.name}.lock", "download"):
            if not _is_there(archive, wanted):  # the call that held the lock may have downloaded it
                _download(url, wanted, archive, timeout, pause)
    return archive


def check_archive(url: str, sha256: str, folder: Path, *, timeout: float) -> None:
    """Check that an archive can be downloaded, unless `folder` has it already.

    A server that is slow or reports an internal error counts as reachable: a later try may succeed.

    Args:
        url, sha256, folder: as for `fetch`.
        timeout: seconds for the connection, and for the first byte.

    Raises:
        ThawError: the archive cannot be downloaded; with the message of `fetch`.
    """
    wanted = sha256.lower()
    address = urllib.parse.urlsplit(url)
    if address.scheme == "file":
        _local(Path(urllib.request.url2pathname(address.path)), wanted)
        return
    archive = _in_folder(address, folder)
    if not _is_there(archive, wanted):
        try:
            reach(url, timeout)
        except (Unreachable, Refused) as error:
            raise _missing(url, str(error), archive) from None


def reach(url: str, timeout: float) -> None:
    """Request a file from a server without reading it.

    Raises:
        Unreachable: no connection to the server can be made.
        Refused: the server refuses the file.
    """
    import requests
    from urllib3.exceptions import ProtocolError

    try:
        with requests.get(url, stream=True, timeout=timeout) as reply:
            _refuse(reply)
    except (requests.HTTPError, requests.ReadTimeout):
        return
    except ValueError as error:  # an invalid address
        raise Unreachable(str(error)) from None
    except requests.ConnectionError as error:
        if not isinstance(error.args[0], ProtocolError):  # ProtocolError: a connection that broke
            raise Unreachable(_reason(error)) from None
    except requests.RequestException:
        return


def _in_folder(address: urllib.parse.SplitResult, folder: Path) -> Path:
    return folder / Path(urllib.parse.unquote(address.path)).name


def _is_there(archive: Path, wanted: str) -> bool:
    return archive.is_file() and sha256(archive) == wanted


def _download(url: str, wanted: str, archive: Path, timeout: float, pause: float) -> None:
    """Download `archive` and verify it; an existing file is replaced."""
    if archive.is_file():
        print(f"{archive} has another SHA-256 than dataset.sha256; downloading it again", flush=True)
    # The name contains the hash: a partial download of another version is never resumed.
    part = archive.with_name(f"{archive.name}.{wanted[:12]}.part")
    resuming = part.is_file()
    _download_part(url, part, archive, timeout, pause)
    actual = sha256(part)
    if actual != wanted and resuming:
        print(f"{part}, left by an earlier run, was damaged; downloading from the start", flush=True)
        part.unlink()
        _download_part(url, part, archive, timeout, pause)
        actual = sha256(part)
    if actual != wanted:
        part.unlink()
        raise WrongHash(
            f"{url}: dataset.sha256 is {wanted}, but the downloaded file has {actual}; it was deleted. "
            "Check dataset.url and dataset.sha256"
        )
    part.replace(archive)


def _local(path: Path, wanted: str) -> Path:
    if not path.is_file():
        raise ThawError(f"dataset.url: no file at {path}")
    actual = sha256(path)
    if actual != wanted:
        raise WrongHash(f"{path}: dataset.sha256 is {wanted}, but the file has {actual}")
    return path


def _download_part(url: str, part: Path, archive: Path, timeout: float, pause: float) -> None:
    """Complete the partial download `part`, over several connections if needed."""
    import requests  # imported only for a download, since it takes 0.1 s

    for attempt in range(1, TRIES + 1):
        try:
            _get(requests, url, part, timeout)
            return
        except (Refused, ValueError) as error:  # ValueError: an invalid address
            cause = str(error)
            break
        except requests.RequestException as error:
            cause = _reason(error)
            if attempt < TRIES:
                seconds = pause * 2 ** (attempt - 1)
                print(f"{url}: {cause}; try {attempt + 1} of {TRIES} in {seconds:.0f} s", file=sys.stderr, flush=True)
                time.sleep(seconds)
    raise _missing(url, cause, archive)


def _missing(url: str, cause: str, archive: Path) -> ThawError:
    return ThawError(
        f"{url}: {cause}. Without a network, put the archive at {archive} by hand and run again, "
        "or see thaw work on embedded data: dvc exp run -S recipe=demo"
    )


def _get(requests, url: str, part: Path, timeout: float) -> None:
    """One connection: append what is missing to `part`."""
    have = part.stat().st_size if part.is_file() else 0
    # Without compression in transfer: a range counts bytes of the file itself.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as reply:
        if have and reply.status_code == 416:  # the part is complete or too long; its hash decides
            return
        _refuse(reply)
        resumed = reply.status_code == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if resumed else 0
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length else None
        title = f"download: {part.name.split('.tar')[0]}"
        megabytes = None if total is None else total / 1e6
        with (
            open(part, "ab" if resumed else "wb") as file,
            Progress(title, megabytes, "MB", start / 1e6) as doing,
        ):
            for chunk in reply.iter_content(CHUNK):
                file.write(chunk)
                doing.reach(file.tell() / 1e6)
    if total is not None and part.stat().st_size < total:
        raise requests.ConnectionError(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes")


def _refuse(reply) -> None:
    """Raise for an error status: HTTPError if another try may succeed, else Refused."""
    import requests

    if reply.status_code >= 400:
        temporary = reply.status_code >= 500 or reply.status_code in (408, 429)
        kind = requests.HTTPError if temporary else Refused
        raise kind(f"the server answers {reply.status_code} {reply.reason}")


def _reason(error: Exception) -> str:
    """The innermost cause of an error of requests, in one line: the error's own text nests those of three libraries."""
    innermost: BaseException = error
    while cause := innermost.__cause__ or innermost.__context__:
        innermost = cause
    return " ".join(str(innermost).split()) or type(innermost).__name__
