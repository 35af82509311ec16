"""`vlkit COMMAND ...`: finds the command, runs it, and turns what goes wrong into one message and an exit code.

Nothing heavy is imported before a command is known, so that help answers at once.
"""

import errno
import importlib
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import vlkit
from vlkit.errors import UserError

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
PIPE_CLOSED = 128 + 13  # what a shell reports for a program that SIGPIPE ended

# command: (its arguments, what it does, the function that takes the words behind it and returns an exit code)
COMMANDS = {
    "quickstart": (
        "",
        "generate houses, train a navigator, judge it, show it",
        "vlkit.tasks.navigation.run:quickstart",
    ),
    "train": ("CONFIG.toml", "train what the file describes; go on if interrupted", "vlkit.cli:train"),
    "eval": ("RUN", "report card, probes beside it, and a submission file", "vlkit.cli:evaluate"),
    "judge": ("BENCHMARK", "score anybody's submission file, strictly", "vlkit.cli:judge"),
    "explain": ("RUN", "pictures of walks and of attention", "vlkit.cli:explain"),
    "demo": ("TASK RUN", "a web page to try a trained model on", "vlkit.cli:demo"),
    "chat": ("RUN IMAGE", "talk about a picture in the terminal", "vlkit.tasks.dialog.chat:main"),
    "view": ("SCENE", "look at a mesh: what an agent sees, where it walks", "vlkit.envs.simulator.view:main"),
    "check": ("WHAT", "compare with measurements of the original", "vlkit.cli:check"),
    "data": ("WHAT", "generate houses or buildings, convert features", "vlkit.cli:data"),
    "bench": ("WHAT", "time it on this machine, with the peer beside it", "vlkit.cli:bench"),
    "doctor": ("", "devices, versions, data: what is missing and the fix", "vlkit.doctor:main"),
}
# task, as a configuration names it: the module with its functions train, evaluate and explain of the words behind
TASKS = {
    "navigation": "vlkit.tasks.navigation.run",
    "r2r": "vlkit.tasks.r2r.run",
    "vqa": "vlkit.tasks.vqa.run",
    "dialog": "vlkit.tasks.dialog.run",
}
# WHAT: (what it is, the function)
BENCHMARKS = {
    "r2r": ("Room-to-Room: trajectories through navigation graphs", "vlkit.tasks.r2r.judge:main"),
    "visual7w": ("Visual7W: one of four answers, or regions", "vlkit.tasks.vqa.choices:visual7w"),
    "choices": ("any questions with two answers or more: POPE, SugarCrepe, one's own", "vlkit.tasks.vqa.choices:main"),
    "vqa": ("VQA: open answers, against those of ten people", "vlkit.tasks.vqa.judge:main"),
    "visdial": ("VisDial: 100 options ranked in each round of a dialog", "vlkit.tasks.dialog.judge:main"),
}
DEMOS = {
    "vqa": ("ask about a picture, beside what is said without it", "vlkit.tasks.vqa.demo:main"),
    "dialog": ("talk about a picture, and change what was said", "vlkit.tasks.dialog.demo:main"),
    "navigation": ("tell a navigator where to go, watch and steer it", "vlkit.tasks.navigation.demo:main"),
}
DATA = {
    "houses": ("generated houses, and walks in them in VLN-CE's file formats", "vlkit.envs.house.benchmark:main"),
    "house-vqa": (
        "pictures from houses with questions of four choices, in Visual7W's format",
        "vlkit.envs.house.questions:main",
    ),
    "house-dialogs": (
        "pictures from houses with dialogs of ten rounds, in VisDial's format",
        "vlkit.envs.house.dialogs:main",
    ),
    "features": ("image features of the panoramas into one memory-mapped file", "vlkit.envs.features:main"),
    "buildings": ("a small generated world in R2R's file formats", "vlkit.envs.buildings:main"),
}
CHECKS = {"simulator": ("the embedded simulator beside habitat-sim's own frames", "vlkit.envs.simulator.check:main")}
# WHAT: (what it is, the file in the repository's benchmarks/)
TIMINGS = {
    "import": ("import vlkit and vlkit --help", "startup.py"),
    "r2r-step": ("steps a second of the R2R environment", "r2r_step.py"),
    "r2r-judge": ("every metric over R2R's val_unseen", "r2r_judge.py"),
    "r2r-train": ("training steps a second of the route agent", "r2r_train.py"),
    "render": ("frames a second of the embedded simulator", "render.py"),
    "navigation": ("ground, distances and moves of the embedded simulator", "navigation.py"),
    "houses": ("walking in generated houses, and learning to", "houses.py"),
    "vqa": ("scoring answers beside the plain rules; training to answer", "vqa.py"),
    "dialog": ("ranking VisDial's options beside plain loops; training; a chat's answer", "dialog.py"),
    "scenes": ("reading meshes, and the cache of loaded scenes", "scene_files.py"),
    "text": ("the text encoder on unequal texts, packed LSTMs beside it", "text_encoder.py"),
}
# module: the extra in pyproject.toml that installs it
EXTRAS = {
    "h5py": "hdf5",
    "gradio": "demo",
    "easy_vqa": "easy-vqa",
    "imageio": "video",
    "tensorboard": "track",
    "networkx": "dev",
    "trimesh": "dev",
}


# Iterations that an idle OpenMP thread spins before it sleeps. With the library's own 300 000 a program that takes one of
# two cores away makes training twenty times as slow; with these twice. Alone it costs 3 %.
SPINS = "10000"
# Kernels that oneDNN keeps. Its own 1024 are fewer than the sizes of batches times the layers of a navigator: compiled
# again and again, they took up to a quarter of its training.
KERNELS = "4096"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (default: this process's) and returns its exit code.

    0 done; 1 failed, with one message on stderr; 2 wrong usage; 130 interrupted. Two more are the shell's own: 141
    where the reader of a pipe went away, 143 where the process was told to end. `--debug` anywhere shows tracebacks.
    """
    _tune_cpu()
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    plain = [word for word in words if word != "--debug"]
    if debug and plain[:1] == ["bench"]:  # whose errors are reported by the process that it starts
        plain.append("--debug")
    return _reported(lambda: _run(plain), debug=debug)


def run_timing(arguments: Sequence[str]) -> int:
    """Runs a file of benchmarks/ as `python FILE ...` would, but what goes wrong is one message here too."""
    _tune_cpu()
    file, *words = arguments
    sys.argv = [file, *(word for word in words if word != "--debug")]
    sys.path.insert(0, str(Path(file).resolve().parent))  # what lies beside it can be imported, as it can be there

    def act() -> int:
        runpy.run_path(file, run_name="__main__")
        return DONE

    return _reported(act, debug="--debug" in words)


def _tune_cpu() -> None:
    """Before torch is imported, which reads it; whoever has set one of these knows better."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)


def _reported(act: Callable[[], int], *, debug: bool) -> int:
    """The exit code of what is done; where it fails, after one message."""
    try:
        with _orderly_end():
            code = act()
            sys.stdout.flush()  # a pipe that was closed shows here at the latest
            return code
    except SystemExit as stop:  # how argparse and tyro end after help or wrong usage
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return FAILED
        return DONE if stop.code is None else stop.code
    except BrokenPipeError as error:
        return PIPE_CLOSED if _reader_went_away() else _failure(message(error), FAILED, debug)
    except KeyboardInterrupt:
        return _failure("interrupted", INTERRUPTED, debug)
    except Exception as error:
        return _failure(message(error), FAILED, debug)


def train(words: Sequence[str]) -> int:
    """`vlkit train CONFIG.toml [--key value ...]`: the file's `task` says whose training this is."""
    if not words or words[0].startswith("-"):
        return _usage(
            words,
            "usage: vlkit train CONFIG.toml [--key value ...]\n\n"
            "Trains what the file describes; `--key value` changes one of its settings.\n"
            "`vlkit train CONFIG.toml --help` lists the settings, with the file's values.",
        )
    return _call(_task(Path(words[0])), "train", words)


def evaluate(words: Sequence[str]) -> int:
    """`vlkit eval RUN ...` asks the task that RUN was trained for; `vlkit eval --agent NAME ...` needs no RUN."""
    if words and not words[0].startswith("-"):
        from vlkit import config

        return _call(_task(config.run_file(Path(words[0]))), "evaluate", words)
    if any(word.partition("=")[0] == "--agent" for word in words):
        # Agents that need no training: those of R2R's graphs are told by where their data lies.
        graphs = any(word.partition("=")[0] in ("--annotations", "--connectivity") for word in words)
        return _call(TASKS["r2r" if graphs else "navigation"], "evaluate", words)
    return _usage(
        words,
        "usage: vlkit eval RUN [--key value ...]\n"
        "       vlkit eval --agent NAME [--key value ...]\n\n"
        "RUN is a folder that `vlkit train` wrote; NAME is an agent that needs no training.\n"
        "`vlkit eval RUN --help` and `vlkit eval --agent random --help` list the settings.",
    )


def explain(words: Sequence[str]) -> int:
    """`vlkit explain RUN ...` asks the task that RUN was trained for."""
    if words and not words[0].startswith("-"):
        from vlkit import config

        return _call(_task(config.run_file(Path(words[0]))), "explain", words)
    return _usage(
        words,
        "usage: vlkit explain RUN [--key value ...]\n\n"
        "RUN is a folder that `vlkit train` wrote; `vlkit explain RUN --help` lists the settings.",
    )


def judge(words: Sequence[str]) -> int:
    """`vlkit judge BENCHMARK --predictions FILE ...`"""
    return _choose("judge", "BENCHMARK", BENCHMARKS, words)


def demo(words: Sequence[str]) -> int:
    """`vlkit demo TASK RUN ...`"""
    return _choose("demo", "TASK", DEMOS, words)


def check(words: Sequence[str]) -> int:
    """`vlkit check WHAT ...`"""
    return _choose("check", "WHAT", CHECKS, words)


def data(words: Sequence[str]) -> int:
    """`vlkit data WHAT ...`"""
    return _choose("data", "WHAT", DATA, words)


def bench(words: Sequence[str]) -> int:
    """`vlkit bench WHAT ...`: the timings live beside the code in a checkout and are not installed."""
    if not words or words[0] not in TIMINGS:
        return _choose("bench", "WHAT", TIMINGS, words)
    folder = Path(vlkit.__file__).resolve().parents[1] / "benchmarks"
    file = folder / TIMINGS[words[0]][1]
    if not file.is_file():
        raise UserError(
            f"{file} does not exist: the benchmarks are part of vlkit's repository, not of the installed package; "
            "clone the repository and run `python -m vlkit bench` in it"
        )
    import subprocess

    # A process of its own: a timing should not depend on what the command line has imported. It finds vlkit where this
    # one did, installed or not.
    places = [str(folder.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    start = "import sys; from vlkit.cli import run_timing; sys.exit(run_timing(sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", start, str(file), *words[1:]], check=False, env=environment).returncode


def message(error: Exception) -> str:
    """What to tell a user about `error`: what is wrong and what to do, without a traceback."""
    first_line = str(error).strip().partition("\n")[0]
    name = type(error).__name__
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package in EXTRAS:
            return f'{package} is not installed: pip install "vlkit[{EXTRAS[package]}]"'
        if package == "vlkit":
            return f"this installation of vlkit has no {error.name}: install it anew (`vlkit doctor` shows where it is)"
        return f"{package} is not installed: pip install it; `vlkit doctor` lists what vlkit needs"
    foreign = isinstance(error, ImportError) and (error.name or "").partition(".")[0] != "vlkit"
    if foreign or "operator torchvision::" in first_line:  # what a torchvision for another torch says
        return f"an installed package is broken ({first_line}): `vlkit doctor` says which, and how to mend it"
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename is not None else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"no space left on the disk{place}; free some, or write to another folder"
        if isinstance(error, FileNotFoundError):
            return f"no such file or folder{place or f': {first_line}'}"
        if isinstance(error, PermissionError):
            return f"no permission{place or f': {first_line}'}; change the permissions or name another place"
        return f"{error.strerror or f'{name}: {first_line}'}{place}"
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":  # the latter is torch's, not imported here
        return (
            f"out of memory ({first_line or name}): take a smaller batch (--batch-size, or the same in parts with "
            "--accumulate), fewer environments (--num-envs) or a smaller model; what was saved is whole, and the same "
            "command goes on from there"
        )
    return (
        f"{name}{': ' * bool(first_line)}{first_line} - a bug in vlkit, or in a module:function of your own; "
        "run again with --debug for the traceback"
    )


def _run(words: Sequence[str]) -> int:
    if words and words[0] in COMMANDS:
        module, _, function = COMMANDS[words[0]][-1].partition(":")
        return _call(module, function, words[1:])
    if words and words[0] == "--version":
        print(f"vlkit {vlkit.__version__}")
        return DONE
    if words and not words[0].startswith("-"):
        return _unknown("vlkit", words[0], COMMANDS)
    return _usage(words, _help())


def _help() -> str:
    rows = [(f"{name} {arguments}", summary) for name, (arguments, summary, _) in COMMANDS.items()]
    return (
        "usage: vlkit COMMAND [...]\n\n"
        "Vision-language agents in PyTorch: train them, judge them, look inside.\n\n"
        f"{_table(rows)}\n\n"
        f"{_table([('COMMAND --help', 'what the command takes'), ('COMMAND --debug', 'the traceback of an error'), ('--version', '')])}\n\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"  {left:<20}  {right}".rstrip() for left, right in rows)


def _usage(words: Sequence[str], text: str) -> int:
    """Prints `text` as the answer to --help, or as a reproach where something else was expected."""
    if words and words[0] in ("-h", "--help"):
        print(text)
        return DONE
    if words:
        print(f"vlkit: {words[0]!r} cannot stand here\n", file=sys.stderr)
    print(text, file=sys.stderr)
    return WRONG_USAGE


def _choose(command: str, what: str, choices: Mapping[str, tuple[str, str]], words: Sequence[str]) -> int:
    if words and words[0] in choices:
        module, _, function = choices[words[0]][-1].partition(":")
        return _call(module, function, words[1:])
    if words and not words[0].startswith("-"):
        return _unknown(f"vlkit {command}", words[0], choices)
    rows = [(name, summary) for name, (summary, _) in choices.items()]
    return _usage(
        words,
        f"usage: vlkit {command} {what} [...]\n\n{_table(rows)}\n\n"
        f"`vlkit {command} {what} --help` lists what each takes.",
    )


def _unknown(prefix: str, name: str, choices: Mapping[str, Any]) -> int:
    from vlkit.plugins import nearest

    print(f"vlkit: there is no `{prefix} {name}`.{nearest(name, choices)}", file=sys.stderr)
    return WRONG_USAGE


def _call(module: str, function: str, words: Sequence[str]) -> int:
    command: Callable[[list[str]], int] = getattr(importlib.import_module(module), function)
    return command(list(words))


def _task(path: Path) -> str:
    """The module of the task that the configuration file names."""
    from vlkit import config
    from vlkit.plugins import nearest

    name = config.read(path).get("task")
    if name is None:
        raise UserError(f'{path}: does not say its task; add a line such as task = "r2r"')
    if name not in TASKS:
        raise UserError(f"{path}: there is no task {name!r}.{nearest(str(name), TASKS)}")
    return TASKS[name]


def _reader_went_away() -> bool:
    """Whether it is stdout that broke (`vlkit ... | head`), and not a pipe to another process."""
    import select

    if hasattr(select, "poll"):  # not on Windows, where one such pipe is taken for the other
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # 0: errors alone
        if not poll.poll(0):
            return False
    # Python flushes stdout once more when it ends, and would complain there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _failure(text: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(f"vlkit: {text}", file=sys.stderr)
    return code


@contextmanager
def _orderly_end() -> Iterator[None]:
    """Where the process is told to end, `finally` blocks run, and no half-written temporary file stays behind."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # Python handles signals in that one only
        yield
        return
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # One that is ignored stays so: nohup means it.
    replaced = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)
