"""Weights and training states on disk: safetensors and JSON, never pickle; a folder is complete or it is absent."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vlkit import __version__
from vlkit.errors import UserError

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
STATE = "state.json"
STATE_TENSORS = "state.safetensors"

Model = TypeVar("Model", bound=nn.Module)


def save_weights(
    model: nn.Module, folder: str | Path, config: Mapping[str, Any], files: Mapping[str, str] | None = None
) -> None:
    """Writes `model.safetensors`, `config.json` and the small text `files` (name -> content, a tokenizer say).

    `config` is what rebuilds the model and must be JSON. A checkpoint that is already there is replaced whole;
    a folder that holds something else is refused. Raises UserError where the disk is full or cannot be written.
    """
    with write_folder(folder) as temporary:
        _write_weights(model, temporary, config, files)


def load_weights(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and the tensors that `save_weights` wrote, on the CPU."""
    folder = settled(folder)
    header = _read_header(folder / CONFIG)
    tensors = _read_tensors(folder / WEIGHTS)
    for name, first in header["tied"].items():
        if first not in tensors:
            raise UserError(f"{folder / CONFIG} ties {name} to {first}, which {WEIGHTS} lacks; copy the folder again")
        tensors[name] = tensors[first]
    return header["config"], tensors


def restore(model: nn.Module, tensors: Mapping[str, Tensor], source: str | Path) -> None:
    """Copies the tensors into the model; every name and shape must be the model's own, or UserError says which are not.

    `source` is the folder that the message names.
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    missing = [name for name in own if name not in tensors]
    extra = [name for name in tensors if name not in own]
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} in the file but {tuple(value.shape)} in the model"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if missing or extra or reshaped:
        wrong = [
            f"{len(names)} {kind} ({_first(names)})"
            for names, kind in ((reshaped, "of another shape"), (missing, "missing"), (extra, "that the model lacks"))
            if names
        ]
        raise UserError(
            f"the weights in {source} are not of this model: {'; '.join(wrong)}. "
            f"Build the model from the {CONFIG} beside the weights, or name another folder"
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def from_pretrained(source: str | Path, build: Callable[[dict[str, Any]], Model], revision: str | None = None) -> Model:
    """The model that `save_weights` saved: `build(config)` makes it, the weights of `source` fill it.

    `source` is a folder or, where there is none of that name, a Hugging Face hub id `owner/name`.
    """
    folder = local_folder(source, revision)
    config, tensors = load_weights(folder)
    model = build(config)
    restore(model, tensors, source)
    return model


def local_folder(source: str | Path, revision: str | None = None) -> Path:
    """`source` itself where it is a folder; else the hub's `owner/name`, downloaded to the hub's cache.

    Raises UserError where neither can be had.
    """
    folder = settled(source)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise UserError(f"there is no folder {source}, and a hub id has the form owner/name; check the path")
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                str(source), revision=revision, allow_patterns=["*.safetensors", "*.json", "*.txt"]
            )
        )
    # The hub's errors are OSErrors (network, HTTP status) or ValueErrors (a name that cannot be one).
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"there is no folder {source}, and the Hugging Face hub did not give a model of that name ({reason}); "
            "check the name and the connection, or download the model where there is one and name its folder"
        ) from error


def save_state(
    folder: str | Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: Mapping[str, Any],
    progress: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
) -> None:
    """Writes a folder that `load_state` continues from and that `load_weights` reads too.

    `progress` is JSON; `extra` may nest dicts and lists of tensors and JSON values.
    """
    names = _optimizer_names(model, optimizer)
    moments = {names[parameter]: dict(values) for parameter, values in optimizer.state.items()}
    plain, tensors = _split({"optimizer": moments, "extra": extra})
    state = {"format": FORMAT, "vlkit": __version__, "progress": progress, "state": plain}
    with write_folder(folder) as temporary:
        _write_weights(model, temporary, config, files)
        _write_tensors(tensors, temporary / STATE_TENSORS)
        (temporary / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")


def read_progress(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config and the progress of a training state, without its tensors."""
    folder = settled(folder)
    return _read_header(folder / CONFIG)["config"], _read_json(folder / STATE, keys=("progress", "state"))["progress"]


def load_state(folder: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """Fills the model and the optimizer from a training state; returns the `extra` that was saved with it."""
    folder = settled(folder)
    _, weights = load_weights(folder)
    state = _joined(
        _read_json(folder / STATE, keys=("progress", "state"))["state"], _read_tensors(folder / STATE_TENSORS)
    )
    restore(model, weights, folder)
    names = _optimizer_names(model, optimizer)
    parameters = {name: parameter for parameter, name in names.items()}
    strange = [name for name in state["optimizer"] if name not in parameters]
    if strange:
        raise UserError(
            f"{folder} holds optimizer values of parameters that are not trained now ({_first(strange)}); "
            "train into a new folder, or freeze the same parameters as before"
        )
    optimizer.state.clear()
    for name, values in state["optimizer"].items():
        parameter = parameters[name]
        optimizer.state[parameter] = {
            # The counter `step` stays on the CPU, where the optimizers make it; moments follow the weights.
            # The copies end the tie to the file, of which these tensors may be views.
            key: value.to("cpu" if key == "step" else parameter.device, copy=True)
            if isinstance(value, Tensor)
            else value
            for key, value in values.items()
        }
    return state["extra"]


def step_folder(folder: str | Path, step: int) -> Path:
    """Where the state of a step lies among a run's checkpoints."""
    return Path(folder) / f"step-{step:09d}"


def steps_saved(folder: str | Path) -> list[int]:
    """The steps whose folders are complete, smallest first; what a killed process left half-written is removed."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    for entry in list(folder.iterdir()):
        if re.fullmatch(r"\.step-\d{9}\.tmp", entry.name):
            shutil.rmtree(entry)
        elif re.fullmatch(r"\.step-\d{9}\.old", entry.name):
            _settle(folder / entry.name[1:-4])
    return sorted(int(entry.name[5:]) for entry in folder.iterdir() if re.fullmatch(r"step-\d{9}", entry.name))


def remove(folder: str | Path) -> None:
    """Deletes a folder so that a kill in between leaves nothing that looks complete."""
    temporary = _beside(Path(folder), "tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    os.rename(folder, temporary)
    shutil.rmtree(temporary)


@contextmanager
def write_folder(folder: str | Path) -> Iterator[Path]:
    """Yields an empty temporary folder beside `folder` and puts it in the place of `folder` when the block ends.

    A block that fails leaves the old folder as it was. At a kill between the two renames the old folder is still
    there under its second name, where `settled` finds it.
    """
    folder = Path(folder)
    temporary, old = _beside(folder, "tmp"), _beside(folder, "old")
    if folder.exists() and not _replaceable(folder):
        raise UserError(f"{folder} exists and is no checkpoint, so it is not replaced; name a new or an empty folder")
    try:
        _settle(folder)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _flush(path)
        if folder.exists():
            os.rename(folder, old)
        os.rename(temporary, folder)
        _flush(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    # safetensors reports a full disk as its own error.
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            f"cannot write {folder}: {reason}; what was there before is kept. "
            "Free some space or name a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def settled(folder: str | Path) -> Path:
    """`folder`, or the place where a killed `write_folder` left its content."""
    folder = Path(folder)
    old = _beside(folder, "old")
    return old if not folder.exists() and old.exists() else folder


def _settle(folder: Path) -> None:
    """Ends what a killed `write_folder` began: the old folder comes back, or goes where the new one is in place."""
    old = _beside(folder, "old")
    if old.exists() and folder.exists():
        shutil.rmtree(old)
    elif old.exists():
        os.rename(old, folder)


def _replaceable(folder: Path) -> bool:
    """Whether the folder is empty or holds nothing but a checkpoint of ours."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return folder.is_dir()
    try:
        return "config" in _read_json(folder / CONFIG, keys=())
    except UserError:
        return False


def _beside(folder: Path, ending: str) -> Path:
    return folder.parent / f".{folder.name}.{ending}"


def _flush(path: Path) -> None:
    """Without it a power cut after the rename could leave empty files under the final name."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_weights(model: nn.Module, folder: Path, config: Mapping[str, Any], files: Mapping[str, str] | None) -> None:
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} in the state of {type(model).__name__} is a {type(value).__name__}, not a tensor")
        place = (value.device, value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        if value.numel() and place in seen:
            tied[name] = seen[place]
        else:
            seen[place] = name
            tensors[name] = value
    _write_tensors(tensors, folder / WEIGHTS)
    header = {"format": FORMAT, "vlkit": __version__, "config": config, "tied": tied}
    (folder / CONFIG).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
    for name, content in (files or {}).items():
        if name != Path(name).name or name in (WEIGHTS, CONFIG, STATE, STATE_TENSORS):
            raise ValueError(f"{name!r} cannot be the name of a file beside the weights")
        (folder / name).write_text(content, encoding="utf-8")


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    # A view into a shared storage (cuDNN keeps a recurrent layer's weights in one) is written as its own tensor.
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(own, path, metadata={"format": "pt"})


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}; name a folder that holds {WEIGHTS} and {CONFIG}") from error
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors ({error}): it is cut short or damaged; "
            "copy it again, or delete its folder and use an older checkpoint"
        ) from error


def _read_header(path: Path) -> dict[str, Any]:
    header = _read_json(path, keys=("config",))
    header.setdefault("tied", {})
    return header


def _read_json(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}; name a folder that vlkit wrote, with {WEIGHTS} and {CONFIG}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); copy the folder again or use an older checkpoint") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise UserError(f"{path} was not written by vlkit: it has no format number; name another folder")
    if content["format"] > FORMAT:
        raise UserError(
            f"{path} has format {content['format']}, and this vlkit reads formats up to {FORMAT}; update vlkit"
        )
    absent = [key for key in keys if key not in content]
    if absent:
        raise UserError(f"{path} lacks {_first(absent)}; copy the folder again or use an older checkpoint")
    return content


def _optimizer_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[Tensor, str]:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {parameter: names[parameter] for group in optimizer.param_groups for parameter in group["params"]}


def _split(value: Any, path: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Nested dicts and lists -> the same with {"tensor": path} in the place of each tensor, and the tensors by path."""
    if isinstance(value, Tensor):
        return {"tensor": path}, {path: value}
    tensors: dict[str, Tensor] = {}
    if isinstance(value, Mapping):
        plain: Any = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a state's keys are text, but {path or 'the top'} has {key!r}")
            plain[key], found = _split(item, f"{path}/{key}")
            tensors.update(found)
        return plain, tensors
    if isinstance(value, list | tuple):
        plain = []
        for i, item in enumerate(value):
            entry, found = _split(item, f"{path}/{i}")
            plain.append(entry)
            tensors.update(found)
        return plain, tensors
    return value, tensors


def _joined(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(plain, dict):
        if plain.keys() == {"tensor"} and plain["tensor"] in tensors:
            return tensors[plain["tensor"]]
        return {key: _joined(value, tensors) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_joined(value, tensors) for value in plain]
    return plain


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
