"""Find and read scenario files; what is wrong with one becomes a sentence and an exit code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from load_tests.plan.scenario import Arrival, Bound, Consults, Fault, Population, Scenario, Serving, unknown

FOLDER = Path(__file__).parent.parent / "scenarios"


class Exit(IntEnum):
    """Exit codes of a run."""

    OK = 0
    ARGUMENTS = 2
    """An unknown scenario, field or option."""
    SERVER = 3
    """The server is not there, does not start, or is of another version."""
    CREDENTIALS = 4
    """The server does not know the world's accounts."""
    GENERATOR = 5
    """A generator process cannot be reached or ended early."""
    BOUND = 6
    """A bound was passed: the figures say which."""
    INVALID = 7
    """The generator was the bottleneck: the figures say nothing about the server."""
    STORAGE = 8
    """The report cannot be written."""
    INTERRUPTED = 130


class RunError(Exception):
    """The run cannot begin or go on; the text is a sentence for the person who started it."""

    def __init__(self, exit_code: Exit, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


def names(folder: Path = FOLDER) -> list[str]:
    """The scenarios that come with the program."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def read_scenario(name: str, changes: Mapping[str, Any] | None = None) -> Scenario:
    """A scenario by its name, or by the path of a file that ends with ``.toml``.

    Args:
        changes: fields that replace the file's; dots lead into tables (``consults.count``).

    Raises:
        RunError: there is no such file, or it does not say what a scenario says.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        known = names()
        what = unknown("scenario", path.stem, known) if known else f"there is no scenario {name!r}."
        raise RunError(Exit.ARGUMENTS, what[0].upper() + what[1:])
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as problem:
        raise RunError(Exit.ARGUMENTS, f"{path.name} is not TOML: {problem}.") from None
    for key, value in (changes or {}).items():
        _replace(content, key, value)
    return parse_scenario(content, path.name)


def parse_scenario(content: Mapping[str, Any], where: str) -> Scenario:
    """Check what a file says.

    Raises:
        RunError: with the place, what is wrong there, and for an unknown name the nearest one.
    """
    try:
        return Scenario.model_validate(content)
    except ValidationError as problem:
        raise RunError(Exit.ARGUMENTS, f"{where}: {_sentence(problem)}") from None


def _sentence(problem: ValidationError) -> str:
    first = problem.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = _model_at(first["loc"]).model_fields
        return f"{place}: {unknown('field', str(first['loc'][-1]), fields)}"
    text = first["msg"].removeprefix("Value error, ")
    return f"{place}: {text}" if place else text


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    tables: dict[str, type[BaseModel]] = {
        "consults": Consults, "population": Population, "fault": Fault, "bound": Bound, "arrival": Arrival,
        "server": Serving,
    }  # fmt: skip
    inside = [str(part) for part in loc[:-1] if str(part) in tables]
    return tables[inside[-1]] if inside else Scenario


def _replace(content: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise RunError(Exit.ARGUMENTS, f"{key} does not name a field of the scenario.")
    content[last] = value
