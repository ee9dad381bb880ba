"""thaw serve: a local page that shows what each checkpoint sees in an image."""

import argparse
import ipaddress
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from thaw import paths
from thaw.app.commands.common import add_max_pixels, positive_integer
from thaw.errors import ThawError
from thaw.runtime.gpus import VISIBLE
from thaw.runtime.installed import install_command
from thaw.stage import read_params

if TYPE_CHECKING:
    from thaw.app.serve.answers import Answers

_PACKAGES = ("starlette", "uvicorn")


def add_parser(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "serve",
        help="show in a browser what each checkpoint sees in an image",
        epilog="example: %(prog)s models/head models/all",
    )
    words = "a checkpoint, or a folder of several; models by default"
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help=words)
    words = "address to listen at (127.0.0.1: this machine alone); 0.0.0.0 lets everyone who reaches the machine in"
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help=words)
    parser.add_argument("--port", type=_port, default=8000, metavar="N", help="(8000); 0 takes a free one")
    words = "most megabytes of an image file (20)"
    parser.add_argument("--max-mb", type=positive_integer, default=20, metavar="N", help=words)
    add_max_pixels(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ThawError(f"serve: no {', '.join(missing)}: {install_command('serve')}")
    from thaw.app.serve.answers import Answers, find_checkpoints
    from thaw.app.serve.application import application, listen, server

    folders = find_checkpoints(arguments.folders or [paths.MODELS])
    sock, address = listen(arguments.host, arguments.port)
    with sock:
        # One image at a time needs no GPU, which training may want.
        os.environ[VISIBLE] = "-1"
        backend = read_params().backend if paths.PARAMS.exists() else None
        answers = Answers(folders, arguments.max_pixels, backend)
        answers.load(len(folders) - 1)
        local = ipaddress.ip_address(address).is_loopback
        hosts = ["localhost", "127.0.0.1", "[::1]", "::1", address] if local else ["*"]
        tell(answers, arguments.host, sock.getsockname()[1], local)
        try:
            server(application(answers, arguments.max_mb * 10**6, hosts)).run([sock])
        finally:
            answers.close()
        # Only a signal ends it. uvicorn raises that again; once, on a busy machine, it was seen not to.
        raise KeyboardInterrupt


def tell(answers: "Answers", host: str, port: int, local: bool) -> None:
    """Print the address, and who else can reach it."""
    if not local:
        words = "reaches this port can use the models; there is no password, and images travel unencrypted"
        print(f"serve: {host} is more than this machine: whoever {words}", flush=True)
    names = ", ".join(checkpoint.name for checkpoint in answers.checkpoints)
    print(f"serve: {names}, at http://{f'[{host}]' if ':' in host else host}:{port}/ until Ctrl+C", flush=True)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"received {text}; accepted: a port, 0 to 65535")
    return int(text)
