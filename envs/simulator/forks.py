"""What a process that was forked, as a DataLoader's workers are, cannot take over from its parent.

Threads stay behind with the parent, and a lock that one of them held stays locked for ever.
"""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A thing that every process makes for itself when it first asks; threads that ask at once get the same one."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def __call__(self) -> T:
        process = os.getpid()
        if process not in self._made:
            self._made.setdefault(process, self._make())  # setdefault is atomic
        return self._made[process]
