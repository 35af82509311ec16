"""What every file with Warp kernels starts from: Warp begun without a word, and torch's memory lent to a kernel.

Import `wp` from here: Warp must be told to be silent before it begins, and says on the standard error stream that a
machine has no CUDA driver, which is no news to whoever runs on a CPU.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
import warp as wp
from torch import Tensor


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """For what native code writes, past Python's own stream."""
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # closed, as daemons do
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


__all__ = ["launch", "lent", "wp"]

wp.config.log_level = wp.LOG_ERROR
wp.config.enable_backward = False
try:
    with _silent_stderr():
        wp.init()
except OSError:  # no folder of the user's can be written: kernels are then compiled anew by every process
    wp.config.kernel_cache_dir = tempfile.mkdtemp(prefix="vlkit-kernels-")
    with _silent_stderr():
        wp.init()


def lent(tensor: Tensor, dtype: Any = None) -> Any:
    """A tensor's memory as a kernel's argument, without a copy; `dtype` such as wp.vec3 takes the last axis."""
    return wp.from_torch(
        tensor, dtype=dtype, requires_grad=False, return_ctype=True
    )  # a Warp array takes twice as long


def launch(kernel: Any, dim: int | tuple[int, ...], inputs: list[Any], device: torch.device) -> None:
    """Runs a kernel, on CUDA in torch's present stream, so that each waits for what the other wrote."""
    if device.type != "cuda":
        wp.launch(kernel, dim=dim, inputs=inputs, device=str(device))
        return
    with wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(device))):
        wp.launch(kernel, dim=dim, inputs=inputs, device=str(device))
