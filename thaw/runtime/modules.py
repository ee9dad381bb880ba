"""Modules of a package as a table: a file more is a row more."""

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any


class ModuleTable(Mapping[str, Any]):
    """One attribute of each module of a package, by the module's name; a module is imported when it is asked for."""

    def __init__(self, package: str, paths: list[str], attribute: str, leave_out: tuple[str, ...] = ()) -> None:
        """Args:
        package: its dotted name.
        paths: its `__path__`.
        attribute: what each module defines.
        leave_out: modules that are no row.
        """
        self._package, self._attribute = package, attribute
        self._names = sorted(module.name for module in pkgutil.iter_modules(paths) if module.name not in leave_out)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return getattr(import_module(f"{self._package}.{name}"), self._attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
