"""One flat TOML file and the command line -> one frozen dataclass.

A task writes its settings as a frozen dataclass with a string under each field; the string is the help text.

    @dataclass(frozen=True)
    class Config:
        '''Train a navigator.'''

        task: Literal["r2r"] = "r2r"
        '''The task that this file is for.'''
        lr: float = 3e-4
        '''Learning rate at its highest.'''

    config = load(Config, "configs/r2r_route.toml", ["--lr", "1e-4"])

A field is a bool, int, float, str, Path, Literal, a tuple of these, or `... | None`. TOML has no null: a key left out
takes its default, so a field that may be None has None as its default. Relative paths start at the folder in which the
command runs, in the file as on the command line.
"""

import dataclasses
import json
import re
import sys
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from vlkit.errors import UserError
from vlkit.files import write_atomic
from vlkit.plugins import nearest

Settings = TypeVar("Settings")


def load(cls: type[Settings], path: str | Path | None, arguments: Sequence[str] = (), prog: str = "") -> Settings:
    """The settings of the TOML file at `path` (None: the defaults), changed by `--key value` in `arguments`.

    `prog` is the command as the help shows it. A mistake in the file raises UserError; one on the command line prints
    what was meant and exits with code 2; `--help` lists the fields with the file's values and exits with code 0.
    """
    given = {} if path is None else _checked(cls, read(path), Path(path))
    prog = prog or ("vlkit train" if path is None else f"vlkit train {path}")
    words = _words(cls, arguments, prog)
    import tyro

    # tyro shows and keeps the values of an instance. Without __post_init__ there can be one while required fields are
    # still missing, and the checks in it run once, at the end, where their message stays whole.
    unchecked = type(cls.__name__, (cls,), {"__doc__": cls.__doc__, "__post_init__": lambda self: None})
    instance: Any = object.__new__(unchecked)
    for field in _fields(cls):
        object.__setattr__(instance, field.name, given.get(field.name, _default(field, tyro.MISSING)))
    parsed = tyro.cli(
        unchecked,
        default=instance,
        args=words,
        prog=prog,
        description=cls.__doc__,
    )
    return _build(cls, _values(parsed))


def from_dict(cls: type[Settings], values: Mapping[str, Any], source: str | Path) -> Settings:
    """The settings that `as_dict` gave, checked as a file's are; `source` is what an error calls them."""
    checked = _checked(cls, values, Path(source))
    missing = [each.name for each in _fields(cls) if each.name not in checked and _default(each, _ABSENT) is _ABSENT]
    if missing:
        raise UserError(f"{source}: lacks {', '.join(map(repr, missing))}; add it, it has no default")
    return _build(cls, checked)


def as_dict(config: object) -> dict[str, Any]:
    """Field -> value, as JSON keeps it: a Path as a string, a tuple as a list."""
    return {key: _plain(value) for key, value in _values(config).items()}


def save(config: object, path: str | Path) -> None:
    """Writes `config` as TOML that `load` reads back to an equal one."""
    lines = []
    for field in _fields(type(config)):
        value = getattr(config, field.name)
        if value is not None:
            lines.append(f"{field.name} = {_toml(_plain(value))}\n")
        elif _default(field, _ABSENT) is not None:
            raise TypeError(f"{field.name} is None and TOML has no null: give the field the default None")
    with write_atomic(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def read(path: str | Path) -> dict[str, Any]:
    """What the TOML file at `path` says, not yet checked against a dataclass."""
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        beside = sorted(each.name for each in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        raise UserError(f"no configuration file {path}.{nearest(path.name, beside)}") from error
    except IsADirectoryError as error:
        beside = sorted(each.name for each in path.glob("*.toml"))
        raise UserError(f"{path} is a folder, not a configuration file.{nearest('', beside)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text file in UTF-8 ({error.reason} at byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        message, line = re.fullmatch(r"(.*?)(?: \(at line (\d+), column \d+\))?", str(error), re.DOTALL).groups()  # type: ignore[union-attr]
        place = f"{path}:{line}" if line else str(path)
        raise UserError(
            f"{place}: not TOML: {message}; a line reads `key = value`, and a string stands in quotes"
        ) from error


_ABSENT = object()


def run_file(run: Path) -> Path:
    """RUN/config.toml of a folder that `vlkit train` wrote; UserError that says what it is instead."""
    if (run / "config.toml").is_file():
        return run / "config.toml"
    if run.is_dir():
        raise UserError(f"{run} is no run: it has no config.toml; name a folder that `vlkit train` wrote")
    runs = [each.parent.name for each in run.parent.glob("*/config.toml")] if run.parent.is_dir() else []
    raise UserError(f"there is no run {run}; name a folder that `vlkit train` wrote.{nearest(run.name, sorted(runs))}")


def _fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def _default(field: dataclasses.Field[Any], otherwise: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return otherwise if field.default_factory is dataclasses.MISSING else field.default_factory()


def _values(config: object) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in _fields(type(config))}


def _build(cls: type[Settings], values: dict[str, Any]) -> Settings:
    try:
        return cls(**values)
    except ValueError as error:  # from __post_init__, which names the key and the value
        raise UserError(str(error)) from error


def _checked(cls: type, values: Mapping[str, Any], source: Path) -> dict[str, Any]:
    """`values` as the fields of `cls` have them; UserError with every mistake, one a line, where there are some."""
    annotations = typing.get_type_hints(cls)
    names = [field.name for field in _fields(cls)]
    mistakes = []
    checked = {}
    for key, value in values.items():
        if key not in names:
            remedy = nearest(key, names)
            if isinstance(value, dict):
                remedy = " Settings are flat: `key = value` lines, without [sections] and without dots in a key."
            mistakes.append(f"{_place(source, key)}: unknown key {key!r}.{remedy}")
            continue
        try:
            checked[key] = _converted(annotations[key], value)
        except ValueError:
            wanted, remedy = _wanted(annotations[key]), ""
            if isinstance(value, str) and (choices := _choices(annotations[key])):
                remedy = nearest(value, choices) if len(choices) > 1 else ""
            mistakes.append(f"{_place(source, key)}: {key} = {_shown(value)}, expected {wanted}.{remedy}")
    if mistakes:
        raise UserError("\n".join(mistakes))
    return checked


def _place(source: Path, key: str) -> str:
    """`file:line` of a key; tomllib does not tell the line, so the text is searched for the first such key."""
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        return str(source)
    pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    numbers = [number for number, line in enumerate(lines, start=1) if pattern.match(line)]
    return f"{source}:{numbers[0]}" if numbers else str(source)


def _converted(annotation: Any, value: Any) -> Any:
    """`value` as `annotation` has it; ValueError where it is of another type."""
    arguments = typing.get_args(annotation)
    if _is_union(annotation):
        for each in arguments:
            try:
                return _converted(each, value)
            except ValueError:
                pass
        raise ValueError
    if typing.get_origin(annotation) is Literal:
        for each in arguments:
            if type(each) is type(value) and each == value:
                return value
        raise ValueError
    if typing.get_origin(annotation) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError
        if arguments[-1] is ...:
            return tuple(_converted(arguments[0], each) for each in value)
        return tuple(_converted(each, item) for each, item in zip(arguments, value, strict=True))
    if annotation is types.NoneType and value is None:
        return None
    if annotation is Path and isinstance(value, str | Path):
        return Path(value)
    if annotation is float and type(value) in (int, float):
        return float(value)
    if annotation in (bool, int, str) and type(value) is annotation:  # not isinstance: a bool is an int there
        return value
    if annotation not in (bool, int, float, str, Path, types.NoneType):
        raise TypeError(f"{annotation} is no type of a setting; use bool, int, float, str, Path, Literal or a tuple")
    raise ValueError


def _wanted(annotation: Any) -> str:
    arguments = typing.get_args(annotation)
    if _is_union(annotation):
        # A file cannot say None: the key is left out.
        return " or ".join(_wanted(each) for each in arguments if each is not types.NoneType)
    if typing.get_origin(annotation) is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(map(_shown, arguments))
    if typing.get_origin(annotation) is tuple:
        if arguments[-1] is ...:
            return f"a list, each item {_wanted(arguments[0])}"
        return f"a list of {len(arguments)}: {', '.join(map(_wanted, arguments))}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path in quotes"}
    return names[annotation]


def _choices(annotation: Any) -> list[str]:
    if typing.get_origin(annotation) is Literal:
        return [each for each in typing.get_args(annotation) if isinstance(each, str)]
    return [each for inner in typing.get_args(annotation) if inner is not ... for each in _choices(inner)]


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _shown(value: Any) -> str:
    try:
        text = _toml(value)
    except TypeError:  # a date or a table
        text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # A JSON string is a TOML one, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    raise TypeError(f"{value!r} has no form in TOML")


def _words(cls: type, arguments: Sequence[str], prog: str) -> list[str]:
    """`arguments` for tyro. Lets a switch be written as in the file: `--amp true` beside tyro's `--amp` and `--no-amp`.

    Exits with code 2 on an unknown option: tyro would first complain of fields that are missing.
    """
    annotations = typing.get_type_hints(cls)
    names = [field.name for field in _fields(cls)]
    switches = [name for name in names if annotations[name] is bool]
    rest = list(arguments)
    written: list[str] = []
    while rest:
        argument = rest.pop(0)
        option, equals, value = argument.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        known = name in [*names, "help"] or name.removeprefix("no_") in switches
        if option.startswith("--") and not known:
            remedy = nearest(option, [f"--{each.replace('_', '-')}" for each in names])
            sys.stderr.write(
                f"{prog}: unknown option {option}.{remedy} `{prog} --help` lists them with their values.\n"
            )
            raise SystemExit(2)
        if option.startswith("--") and name in switches:
            if not equals and rest and rest[0].lower() in ("true", "false"):
                value = rest.pop(0)
            if value.lower() in ("true", "false") or not equals:
                argument = f"--no-{name}" if value.lower() == "false" else f"--{name}"
        written.append(argument)
    return written
