"""A Ray cluster that is to be used: refused at once where it cannot be."""

import socket

from thaw.errors import ParamError, ThawError
from thaw.runtime.installed import install_command

# Seconds for an address to answer; Ray would try for minutes.
_ANSWER = 5.0


def refuse_without_ray(who: str) -> None:
    """Raise a ThawError, as from `who`, where Ray is not installed."""
    try:
        import ray  # noqa: F401
    except ImportError:
        raise ThawError(f"{who}: Ray is not installed; {install_command('ray')}") from None


def refuse_silent(name: str, address: str) -> None:
    """Refuse an address of a Ray cluster that nobody answers at.

    Args:
        name: of the parameter or option.
        address: HOST:PORT, or ray://HOST:PORT.

    Raises:
        ParamError: it is none, or nobody answers.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    accepted = "HOST:PORT of a Ray cluster that runs, as `ray start --head` tells it, or ray://HOST:PORT"
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ParamError(name, address, accepted)
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER).close()
    except OSError as error:
        raise ParamError(name, address, f"{accepted}; there: {error.strerror or error}") from None
