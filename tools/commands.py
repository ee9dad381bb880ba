"""docs/commands.md: every command of thaw with its arguments, from their parsers; `page` is the way in.

python -m tools.commands > docs/commands.md
"""

import argparse
from collections.abc import Iterator

from thaw.__main__ import build_parser
from tools.parameters import BAR

HEAD = """# Commands

Every command of `thaw`, which `python -m thaw` is, too. Made by `python -m tools.commands` from the commands' parsers.
Runs are DVC's: `dvc repro` and `dvc exp run` ([The first hour](tutorial.md)).

An argument in brackets may be left out; `...` follows one that may be given several times. Exit codes: 0; 1 where a
command refuses or fails; 2 for an invalid command line.
"""
# How often an argument may be given, by argparse's nargs.
_WORDS = {None: "{}", "?": "[{}]", "*": "[{} ...]", "+": "{} [{} ...]"}


def page() -> str:
    """docs/commands.md."""
    return "\n".join([HEAD, *(line for name, parser in parsers() for line in _section(name, parser))])


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser of each command by its name. argparse has no public way to what a parser was given."""
    (commands,) = (each for each in build_parser("thaw")._actions if isinstance(each, argparse._SubParsersAction))
    helps = {each.dest: each.help for each in commands._choices_actions}
    for name, parser in commands.choices.items():
        parser.description = helps[name]
        yield name, parser


def _section(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    arguments = [each for each in parser._actions if each.dest != "help"]
    positional = [_words(each) for each in arguments if not each.option_strings]
    options = ["[OPTION ...]"] if len(positional) < len(arguments) else []
    yield from (f"## {name}", "", f"{_sentence(parser.description)}", "")
    yield from (f"    {' '.join(['thaw', name, *options, *positional])}", "")
    if arguments:
        yield from ("| argument | does |", "|---|---|", *map(_row, arguments), "")
    yield from (f"{_sentence(_epilog(parser))}", "") if parser.epilog else ()


def _sentence(text: str | None) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _epilog(parser: argparse.ArgumentParser) -> str:
    """The example, as code; what follows a comma is no part of the command."""
    kind, _, command = (parser.epilog or "").replace("%(prog)s", parser.prog).rpartition(": ")
    typed, comma, rest = command.partition(", ")
    return f"{kind or 'also'}: `{typed}`{comma}{rest}"


def _words(argument: argparse.Action) -> str:
    name = argument.metavar or "|".join(argument.choices or [argument.dest.upper()])
    return _WORDS[argument.nargs].format(name, name) if argument.nargs != 0 else ""  # type: ignore[index]


def _row(argument: argparse.Action) -> str:
    names = f"{', '.join(argument.option_strings)} {_words(argument)}".strip()
    must = "must be given" if argument.option_strings and argument.required else ""
    does = "; ".join(filter(None, [argument.help, must]))
    return f"| `{names.replace('|', BAR)}` | {does.replace('|', BAR).replace('<', '&lt;')} |"


if __name__ == "__main__":
    print(page(), end="")
