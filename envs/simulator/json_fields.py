"""Values out of a JSON file of somebody else's: each has the kind that was asked for, or the error says where it has not."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, Self

from vlkit.errors import UserError

LARGEST_INTEGER = 2**53


class Fields:
    """An object of a JSON file, and the place where it stands, for the messages."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise UserError(f"{where}: expected an object {{...}}, found {_shown(values)}")
        self.values, self.where = values, where

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def wrong(self, name: str, expected: str) -> NoReturn:
        """Raises the error that says what should have stood there."""
        if name not in self.values:
            raise UserError(f"{self.where}: {name!r} is missing; expected {expected}")
        raise UserError(f"{self.where}: {name!r} is {_shown(self.values[name])}; expected {expected}")

    def integer(self, name: str, default: int | None = None, *, low: int = 0, high: int = LARGEST_INTEGER) -> int:
        """A whole number from `low` to `high`."""
        value = self.values.get(name, default)
        if isinstance(value, float) and value.is_integer():  # some writers have one kind of number
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.wrong(name, f"a whole number, {low} or more" if high == LARGEST_INTEGER else f"{low} to {high}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        value = _finite(self.values.get(name, default))
        if value is None:
            self.wrong(name, "a number")
        return value

    def numbers(self, name: str, count: int, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        """So many finite numbers."""
        values = self.values.get(name, default)
        listed = values if isinstance(values, (list, tuple)) else ()
        finite = tuple(number for number in map(_finite, listed) if number is not None)
        if not len(listed) == len(finite) == count:
            self.wrong(name, f"{count} numbers")
        return finite

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            self.wrong(name, "text")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of strings, empty where there is none; a lone string is a list of one."""
        values = self.values.get(name, [])
        listed = [values] if isinstance(values, str) else values
        if not isinstance(listed, list) or not all(isinstance(value, str) for value in listed):
            self.wrong(name, "a list of text")
        return listed

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            self.wrong(name, "true or false")
        return value

    def fields(self, name: str) -> Self:
        """An object; an empty one where there is none."""
        return type(self)(self.values.get(name, {}), f"{self.where}, {name}")

    def listed(self, name: str) -> list[Self]:
        """A list of objects, empty where there is none."""
        values = self.values.get(name, [])
        if not isinstance(values, list):
            self.wrong(name, "a list")
        return [type(self)(value, f"{self.where}, {name}[{i}]") for i, value in enumerate(values)]


def json_fields(data: bytes, where: str | Path) -> Fields:
    """What a JSON file holds at its top; UserError where it is no JSON or no object."""
    try:
        values = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # a wrong byte, a wrong sign, thousands of open brackets
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{where}: this is not valid JSON ({reason}); mend the file or fetch it again") from error
    return Fields(values, str(where))


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
