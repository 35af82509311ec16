"""Where an environment computes."""

import torch

from vlkit.errors import UserError


def present(device: torch.device | str) -> torch.device:
    """The device, if it is there and an environment can run on it: cpu, cuda or cuda:N. UserError otherwise."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device is {device!r}; known are cpu, cuda and cuda:0 to cuda:N") from error
    if found.type == "cuda":
        count = torch.cuda.device_count()
        if (found.index or 0) < count:
            return torch.device("cuda", torch.cuda.current_device() if found.index is None else found.index)
        raise UserError(
            f"device {device} was asked for, but torch finds {count} CUDA devices here; use device='cpu', or run "
            "`vlkit doctor` to see what is missing"
        )
    if found.type != "cpu":  # Apple's mps lacks the float64 that distances are compared in, and Warp's kernels
        raise UserError(f"device is {str(device)!r}, on which this environment cannot run; use cpu or cuda")
    return torch.device("cpu")
