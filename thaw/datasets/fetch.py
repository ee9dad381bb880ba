"""Fetch one archive by URL and SHA-256: kept in a folder, resumed, retried, never kept when wrong."""

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


# Seconds without a byte before a connection is given up.
TIMEOUT = 30.0


# What a connection that breaks may lose of the bytes that have come, at most.
CHUNK = 1 << 16


class WrongHash(ThawError):
    """The file is there, and is not the one that was asked for."""


class Unreachable(Exception):
    """No connection to a server can be made."""


class Refused(Exception):
    """An answer that another try will not change."""


def fetch(url: str, sha256: str, folder: Path, *, timeout: float = TIMEOUT, pause: float = 1.0) -> Path:
    """The archive at `url`, from `folder` if it is there already.

    A part of it that an earlier call left is gone on with by a range request. What arrives is
    hashed before it gets its name. Of several calls at once, as queued experiments make them, one
    downloads and the others wait for it.

    Args:
        url: an http://, https:// or file:// address.
        sha256: of the whole file, in hexadecimal digits.
        folder: where the archive and its part file are kept.
        timeout: seconds without a byte before a connection is given up.
        pause: seconds before the second try; doubled for each one after.

    Returns:
        The path of a file with that hash; for a file:// URL that file itself.

    Raises:
        WrongHash: what arrived has another hash; it is deleted.
        ThawError: it cannot be had; the message says what to do by hand.
    """
    wanted = sha256.lower()
    address = urllib.parse.urlsplit(url)
    if address.scheme == "file":
        return _local(Path(urllib.request.url2pathname(address.path)), wanted)
    archive = _in_folder(address, folder)
    if not _is_there(archive, wanted):
        with locked(folder / f"{archive.name}.lock", "download"):
            if not _is_there(archive, wanted):  # the call that held the lock may have brought it
                _bring(url, wanted, archive, timeout, pause)
    return archive


def check_archive(url: str, sha256: str, folder: Path, *, timeout: float) -> None:
    """Ask for an archive without fetching it, where `folder` has not got it.

    A server that is slow or in trouble may still deliver, and counts as reached.

    Args:
        url, sha256, folder: as for `fetch`.
        timeout: seconds for the connection, and for the first byte.

    Raises:
        ThawError: `fetch` could not have it; the message is the same.
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
    """Ask a server for a file, and leave it there.

    Raises:
        Unreachable: no connection to it can be made.
        Refused: it does not give the file.
    """
    import requests
    from urllib3.exceptions import ProtocolError

    try:
        with requests.get(url, stream=True, timeout=timeout) as reply:
            _refuse(reply)
    except (requests.HTTPError, requests.ReadTimeout):
        return
    except ValueError as error:  # an address that no library takes
        raise Unreachable(str(error)) from None
    except requests.ConnectionError as error:
        if not isinstance(error.args[0], ProtocolError):  # there was a connection, and it broke
            raise Unreachable(_reason(error)) from None
    except requests.RequestException:
        return


def _in_folder(address: urllib.parse.SplitResult, folder: Path) -> Path:
    return folder / Path(urllib.parse.unquote(address.path)).name


def _is_there(archive: Path, wanted: str) -> bool:
    return archive.is_file() and sha256(archive) == wanted


def _bring(url: str, wanted: str, archive: Path, timeout: float, pause: float) -> None:
    """Download `archive` and verify it, in place of one that is there."""
    if archive.is_file():
        print(f"{archive} has another SHA-256 than dataset.sha256; fetching it again", flush=True)
    # Named after the hash too, so that a part of another version is never gone on with.
    part = archive.with_name(f"{archive.name}.{wanted[:12]}.part")
    left = part.is_file()
    _download(url, part, archive, timeout, pause)
    found = sha256(part)
    if found != wanted and left:
        print(f"{part}, left by an earlier run, was damaged; fetching from the start", flush=True)
        part.unlink()
        _download(url, part, archive, timeout, pause)
        found = sha256(part)
    if found != wanted:
        part.unlink()
        raise WrongHash(
            f"{url}: dataset.sha256 is {wanted}, but what came has {found}; it was deleted. "
            "Check dataset.url and dataset.sha256"
        )
    part.replace(archive)


def _local(path: Path, wanted: str) -> Path:
    if not path.is_file():
        raise ThawError(f"dataset.url: no file at {path}")
    found = sha256(path)
    if found != wanted:
        raise WrongHash(f"{path}: dataset.sha256 is {wanted}, but the file has {found}")
    return path


def _download(url: str, part: Path, archive: Path, timeout: float, pause: float) -> None:
    """Bring `part` to its full length, over several connections if need be."""
    import requests  # only where there is something to fetch: 0.1 s

    for attempt in range(1, TRIES + 1):
        try:
            _get(requests, url, part, timeout)
            return
        except (Refused, ValueError) as error:  # the latter: an address that no library takes
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
        "or see thaw work on embedded data: make demo"
    )


def _get(requests, url: str, part: Path, timeout: float) -> None:
    """One connection: append what is missing to `part`."""
    have = part.stat().st_size if part.is_file() else 0
    # Compressed transfer would change what a range means.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as reply:
        if have and reply.status_code == 416:  # the part is as long as the file, or longer; its hash will tell
            return
        _refuse(reply)
        resumed = reply.status_code == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if resumed else 0
        length = reply.headers.get("Content-Length")
        total = start + int(length) if length else None
        what = f"download: {part.name.split('.tar')[0]}"
        megabytes = None if total is None else total / 1e6
        with (
            open(part, "ab" if resumed else "wb") as file,
            Progress(what, megabytes, "MB", start / 1e6) as doing,
        ):
            for chunk in reply.iter_content(CHUNK):
                file.write(chunk)
                doing.reach(file.tell() / 1e6)
    if total is not None and part.stat().st_size < total:
        raise requests.ConnectionError(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes")


def _refuse(reply) -> None:
    """Raise for an answer that is no file: HTTPError where another try may change that."""
    import requests

    if reply.status_code >= 400:
        again = reply.status_code >= 500 or reply.status_code in (408, 429)
        kind = requests.HTTPError if again else Refused
        raise kind(f"the server answers {reply.status_code} {reply.reason}")


def _reason(error: Exception) -> str:
    """The innermost cause of a requests error, in one line: its own text nests three libraries'."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return " ".join(str(error).split()) or type(error).__name__
