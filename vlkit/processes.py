"""Training in several processes of one machine's CPU, without a launcher: each core learns from its share of the batch.

Threads of one process wait for each other thousands of times a second, processes once a step: where another program takes a
core away, they lose least. Each repeats what a step costs whatever its batch, so that small batches gain nothing by it.
"""

import contextlib
import os
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from vlkit.errors import UserError

RANK = "RANK"  # the variables that torchrun, `accelerate launch` and torch.distributed agree on
MEET = timedelta(minutes=60)  # as long as the first one records or evaluates, the others wait
WAIT_S = 20.0  # for a process that has lost the first one


def launched() -> bool:
    """Whether this is one of several processes that train together."""
    return processes() > 1


def processes() -> int:
    """How many train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def cores() -> int:
    """Those that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_first() -> bool:
    """Whether this process writes files and shows progress: the first of several, or the only one."""
    return int(os.environ.get(RANK, "0")) == 0


def wait_for_all() -> None:
    """Returns when every process has come here; at once where there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def join(device: str = "cpu") -> None:
    """Meets the other processes, so that whoever fails from here on is missed by them; does nothing where that is done."""
    if not launched() or torch.distributed.is_initialized():
        return
    if device == "cpu":
        torch.distributed.init_process_group("gloo", timeout=MEET)
    else:
        from accelerate import PartialState

        PartialState(timeout=MEET)


@contextmanager
def side_by_side(count: int, work: Callable[..., Any], *arguments: Any) -> Iterator[None]:
    """In the block this process is the first of `count` that train together; the others run `work(*arguments)`.

    `fit` then averages gradients over them. Nothing is done where `count` is 1 and where a launcher has started several
    already. Each has its share of the cores: `every_core` lends the first one all of them.

    Raises UserError for what stopped another process, and RuntimeError where it ended without a word.
    """
    if count < 2 or launched():
        yield
        return
    threads = torch.get_num_threads()
    own = max(cores() // count, 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = get_context("spawn")  # not forked: Warp and torch have threads by now
    others = []
    for rank in range(1, count):
        ours, theirs = context.Pipe(duplex=False)
        environment = _environment(rank, count, port)
        other = context.Process(target=_other, args=(theirs, environment, own, work, arguments), daemon=True)
        other.start()
        theirs.close()
        others.append((other, ours))
    before = {name: os.environ.get(name) for name in _environment(0, count, port)}
    os.environ.update(_environment(0, count, port))
    torch.set_num_threads(own)
    try:
        join()
        yield
        for other, _ in others:
            other.join()
    except BaseException as error:
        # The connection to a process that failed breaks here: what it says is the cause.
        if isinstance(error, Exception) and not isinstance(error, UserError):
            for other, ours in others:
                other.join(WAIT_S)
                _raise_as_told(ours)
                if other.exitcode is not None and other.exitcode < 0:
                    raise UserError(
                        f"a process beside this one was killed (signal {-other.exitcode}), most likely for memory; take "
                        "fewer processes, a smaller batch_size, or fewer environments at once"
                    ) from error
        raise
    finally:
        for other, _ in others:
            other.terminate()
        _leave()
        torch.set_num_threads(threads)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def every_core() -> Iterator[None]:
    """Lets the block use all cores, while the other processes wait for this one."""
    threads = torch.get_num_threads()
    if launched():
        torch.set_num_threads(cores())
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    return {
        RANK: str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        # accelerate warns where nobody has said this, and says 1; how many threads there are is set by itself
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(cores() // count, 1))),
    }


def _other(
    told: Connection, environment: dict[str, str], threads: int, work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """A process beside the first: silent, for that one speaks."""
    os.environ.update(environment)
    torch.set_num_threads(threads)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            join()
            work(*arguments)
        except UserError as error:
            told.send((True, str(error)))
        except Exception:
            told.send((False, traceback.format_exc()))
        except KeyboardInterrupt:  # the first one was interrupted too, and says so
            pass
        finally:
            _leave()


def _raise_as_told(ours: Connection) -> None:
    """Raises what another process said, if it said anything."""
    with contextlib.suppress(EOFError):
        if ours.poll():
            by_user, text = ours.recv()
            raise UserError(text) if by_user else RuntimeError(f"a training process failed:\n{text}")


def _leave() -> None:
    """Ends the group, so that what comes after is alone."""
    from accelerate.state import AcceleratorState

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    AcceleratorState._reset_state(reset_partial_state=True)
