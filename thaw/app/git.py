"""git as a command, and its refusals in one line. Start at `git`."""

import subprocess
from pathlib import Path

from thaw.errors import ThawError

# An option of git before the command, with a value.
_OPTION = "-c"
# In git's message about a checkout that it does not trust.
_DUBIOUS = "dubious ownership"


def git(command: str, *arguments: str, folder: Path = Path()) -> str:
    """Standard output of git in a folder, without the spaces around it.

    Args:
        command: of thaw, named in the message of a failure.
        arguments: of git.

    Raises:
        ThawError: git refuses; the message has the cause, which git writes into its first line.
    """
    result = _run(*arguments, folder=folder)
    if result.returncode:
        raise ThawError(f"{command}: git {_name(arguments)}: {_cause(result.stderr)}")
    return result.stdout.strip()


def refuse_other_owner(command: str) -> None:
    """Refuse a checkout of another user, as in a container: git does not read it, and DVC ends in a traceback.

    Raises:
        ThawError: names the command that lets git trust it.
    """
    message = _run("rev-parse", "--git-dir", folder=Path()).stderr
    if _DUBIOUS in message:
        raise ThawError(f"{command}: {_cause(message)}")


def _run(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)


def _name(arguments: tuple[str, ...]) -> str:
    """The command of git among its arguments."""
    rest = list(arguments)
    while rest[0] == _OPTION:
        rest = rest[2:]
    return rest[0]


def _cause(message: str) -> str:
    """The first line of what git says; its last one is the remedy where the checkout is another user's."""
    lines = message.strip().splitlines() or ["no message"]
    if _DUBIOUS in message:
        return f"another user owns this checkout; to let git trust it: {lines[-1].strip()}"
    return lines[0]
