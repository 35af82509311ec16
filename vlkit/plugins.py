"""Names into things: `module:function` of the user's own, and the nearest name for one that was misspelt."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vlkit.errors import UserError

LISTED_AT_MOST = 24  # a longer list of choices helps nobody


def nearest(name: str, choices: Iterable[str]) -> str:
    """A sentence to put behind an error: " Did you mean 'x'?", or the choices where none is near."""
    names = list(choices)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Choose one of: {', '.join(names)}." if 0 < len(names) <= LISTED_AT_MOST else ""


def resolve(name: str) -> Callable[..., Any]:
    """What `module:function` names; the module may lie in the working directory.

    Raises UserError, naming the value, where there is no such module, where it has no such function, and where that
    cannot be called. An error inside the module itself is passed on as it is.
    """
    module_name, colon, attribute = name.partition(":")
    if not (colon and module_name and attribute):
        raise UserError(f"{name!r} is not of the form module:function, for example my_model:encoder")
    # A console script's path does not hold the working directory, though `python -m` has it.
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"{name!r}: there is no module {error.name!r} in {here} or among the installed packages; "
            "run from the folder that has it, or install it"
        ) from error
    target: Any = module
    for part in attribute.split("."):
        if not hasattr(target, part):
            public = [each for each in vars(target) if not each.startswith("_")] if hasattr(target, "__dict__") else []
            raise UserError(f"{name!r}: {module_name} has no {attribute!r}.{nearest(part, public)}")
        target = getattr(target, part)
    if not callable(target):
        raise UserError(f"{name!r} is {type(target).__name__}, which cannot be called; name a function or a class")
    return target  # type: ignore[no-any-return]


def built(name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """`function(*arguments, **options)`; an option that it does not take is an error with the nearest one it takes."""
    parameters = list(inspect.signature(function).parameters.values())[len(arguments) :]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        known = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL]
        for option in options:
            if option not in known:
                raise UserError(f"{name!r} takes no option {option!r}.{nearest(option, known)}")
    return function(*arguments, **options)
