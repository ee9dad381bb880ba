"""Expected errors, which end a command with one line and no traceback. Start at `ThawError`."""


class ThawError(Exception):
    """An expected failure; its message is one line that names the cause and what to do."""


class NotFinite(ThawError):
    """A loss or a weight is NaN or infinite."""


class Words(str):
    """A description in place of a received value, shown without quotes."""

    __repr__ = str.__str__


class ParamError(ThawError):
    """A parameter with a value that is not accepted."""

    def __init__(self, parameter: str, received: object, accepted: str) -> None:
        self.parameter = parameter
        super().__init__(f"{parameter}: received {_short(received)}; accepted: {accepted}")


def printable(text: str) -> str:
    """Text, such as a file's name, in one line: unprintable characters, such as a line break, are escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _short(value: object) -> str:
    text = "nothing" if value is None else repr(value)
    # A text may be a path, of which every part tells; a list of a thousand numbers does not.
    most = 500 if isinstance(value, str) else 80
    return text if len(text) <= most else text[: most - 3] + "..."


def out_of_memory(error: Exception) -> bool:
    """Whether a device or the machine ran out of memory; TensorFlow and JAX raise no exception of their own for it."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error) or "OOM when allocating" in str(error)
