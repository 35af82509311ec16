import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import vlkit
from vlkit import checkpoint
from vlkit.checkpoint import from_pretrained, load_state, load_weights, restore, save_state, save_weights
from vlkit.errors import UserError


class Tied(nn.Module):
    """Word vectors that are also the output layer, and a buffer."""

    def __init__(self, words: int = 5, dim: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(words, dim)
        self.output = nn.Linear(dim, words)
        self.output.weight = self.words.weight
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))


def layers(dim: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, dim), nn.ReLU(), nn.Linear(dim, 1))


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.full((1, 2), float(step + 1))).sum().backward()
        optimizer.step()


def same(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.state_dict().values(), right.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_model_comes_back_from_its_folder(tmp_path: Path) -> None:
    model = layers(dim=7)
    save_weights(model, tmp_path / "model", {"dim": 7})
    assert same(from_pretrained(tmp_path / "model", lambda config: layers(**config)), model)


def test_the_folder_holds_safetensors_and_json_and_no_pickle(tmp_path: Path) -> None:
    save_weights(layers(), tmp_path / "model", {"dim": 3, "names": ["a", "b"]}, files={"words.txt": "red\n"})
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
        "words.txt",
    ]
    header = json.loads((tmp_path / "model" / "config.json").read_text())
    assert header == {
        "format": 1,
        "vlkit": vlkit.__version__,
        "config": {"dim": 3, "names": ["a", "b"]},
        "tied": {},
    }
    assert (tmp_path / "model" / "words.txt").read_text() == "red\n"


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    model = Tied()
    save_weights(model, tmp_path / "model", {})
    assert "output.weight" not in load_file(tmp_path / "model" / "model.safetensors")
    loaded = from_pretrained(tmp_path / "model", lambda config: Tied())
    assert same(loaded, model)
    assert loaded.output.weight is loaded.words.weight


def test_every_dtype_and_an_empty_tensor_survive(tmp_path: Path) -> None:
    model = nn.Module()
    for i, dtype in enumerate((torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8)):
        model.register_buffer(f"b{i}", torch.arange(3).to(dtype))
    model.register_buffer("empty", torch.zeros(0, 4))
    model.register_buffer("strided", torch.arange(6.0).reshape(2, 3).T)
    save_weights(model, tmp_path / "model", {})
    _, tensors = load_weights(tmp_path / "model")
    for name, value in model.state_dict().items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)


def test_weights_of_another_model_are_refused_with_names_and_shapes(tmp_path: Path) -> None:
    save_weights(layers(dim=3), tmp_path / "model", {"dim": 3})
    other = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1), nn.Linear(1, 1))
    before = [value.clone() for value in other.state_dict().values()]
    with pytest.raises(UserError) as error:
        restore(other, load_weights(tmp_path / "model")[1], tmp_path / "model")
    text = str(error.value)
    assert "3 of another shape" in text
    assert "0.weight (3, 2) in the file but (4, 2) in the model" in text
    assert "2 missing (3.weight, 3.bias)" in text
    assert "Build the model from the config.json" in text
    assert all(torch.equal(a, b) for a, b in zip(before, other.state_dict().values(), strict=True))


def test_only_the_first_names_of_many_are_listed(tmp_path: Path) -> None:
    save_weights(nn.Sequential(*(nn.Linear(1, 1) for _ in range(30))), tmp_path / "model", {})
    with pytest.raises(UserError, match="60 that the model lacks \\(0.bias, 0.weight, 1.bias and 57 more\\)"):
        restore(nn.Sequential(), load_weights(tmp_path / "model")[1], tmp_path)


@contextmanager
def full_disk(room: int = 5000) -> Iterator[None]:
    """A limit on the size of a file acts as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def garble(path: Path) -> None:
    path.write_bytes(b"\xff" * 64)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, garble, empty, Path.unlink])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, file: str, damage: Callable[[Path], Any]) -> None:
    save_weights(layers(), tmp_path / "model", {})
    damage(tmp_path / "model" / file)
    with pytest.raises(UserError, match=file):
        load_weights(tmp_path / "model")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": 2, "config": {}}, "format 2, and this vlkit reads formats up to 1; update vlkit"),
        ({"model_type": "bert"}, "not written by vlkit"),
        ({"format": 1}, "lacks config"),
        (["a"], "not written by vlkit"),
        ({"format": 1, "config": {}, "tied": {"a": "b"}}, "ties a to b"),
    ],
)
def test_a_config_that_is_not_ours_is_explained(tmp_path: Path, content: object, message: str) -> None:
    save_weights(layers(), tmp_path / "model", {})
    (tmp_path / "model" / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        load_weights(tmp_path / "model")


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is no checkpoint, so it is not replaced"):
        save_weights(layers(), tmp_path / "thesis", {})
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["config.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_a_file_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(UserError, match="is no checkpoint"):
        save_weights(layers(), tmp_path / "model", {})
    assert (tmp_path / "model").read_text() == "mine"


def test_a_config_that_is_not_json_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    save_weights(layers(), tmp_path / "model", {"dim": 3})
    with pytest.raises(TypeError, match="JSON"):
        save_weights(layers(), tmp_path / "model", {"dim": torch.zeros(1)})
    assert load_weights(tmp_path / "model")[0] == {"dim": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["../out.txt", "a/b.txt", "config.json", "state.safetensors"])
def test_a_file_beside_the_weights_has_a_plain_name_of_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        save_weights(layers(), tmp_path / "model", {}, files={name: ""})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_the_old_checkpoint_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    model = layers(dim=2)
    save_weights(model, tmp_path / "model", {"dim": 2})
    with full_disk(), pytest.raises(UserError) as error:
        save_weights(layers(dim=2000), tmp_path / "model", {"dim": 2000})
    assert f"cannot write {tmp_path}/model: " in str(error.value)
    assert "File too large" in str(error.value)
    assert "what was there before is kept. Free some space" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert same(from_pretrained(tmp_path / "model", lambda config: layers(**config)), model)


def test_a_full_disk_in_the_middle_of_a_training_state_keeps_the_steps_before(tmp_path: Path) -> None:
    model = layers(dim=100)
    optimizer = torch.optim.Adam(model.parameters())
    trained(model, optimizer)
    save_state(checkpoint.step_folder(tmp_path, 1), model, optimizer, config={}, progress={})
    # Room for the weights, none for the optimizer's two tensors beside each of them.
    with full_disk(3000), pytest.raises(UserError, match="cannot write .*step-000000002: "):
        save_state(checkpoint.step_folder(tmp_path, 2), model, optimizer, config={}, progress={})
    assert checkpoint.steps_saved(tmp_path) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
    load_state(checkpoint.step_folder(tmp_path, 1), model, optimizer)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "best"
    save_weights(layers(), folder, {"version": "old"})
    rename = os.rename

    def killed(source: Path, target: Path) -> None:
        if target == folder:
            raise SystemExit
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(SystemExit):
        save_weights(layers(), folder, {"version": "new"})
    monkeypatch.undo()
    assert not folder.exists()
    assert load_weights(folder)[0] == {"version": "old"}
    assert from_pretrained(folder, lambda config: layers())
    save_weights(layers(), folder, {"version": "newer"})
    assert load_weights(folder)[0] == {"version": "newer"}
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad])
def test_a_training_state_continues_to_the_same_weights(tmp_path: Path, make: Any) -> None:
    model = layers()
    optimizer = make(model.parameters(), lr=0.1)
    trained(model, optimizer)
    save_state(tmp_path / "state", model, optimizer, config={"dim": 3}, progress={"step": 2})
    trained(model, optimizer)

    again = layers()
    optimizer = make(again.parameters(), lr=0.1)
    assert load_state(tmp_path / "state", again, optimizer) is None
    assert checkpoint.read_progress(tmp_path / "state") == ({"dim": 3}, {"step": 2})
    trained(again, optimizer)
    assert same(model, again)


def test_a_training_state_can_be_loaded_as_weights(tmp_path: Path) -> None:
    model = layers()
    save_state(tmp_path / "state", model, torch.optim.Adam(model.parameters()), config={"dim": 3}, progress={})
    assert same(from_pretrained(tmp_path / "state", lambda config: layers(**config)), model)


def test_the_extra_state_may_nest_tensors_and_json(tmp_path: Path) -> None:
    model = layers()
    optimizer = torch.optim.Adam(model.parameters())
    extra = {"scale": 0.1 + 0.2, "mean": torch.tensor([1.0, 2.0]), "list": [torch.tensor(3), {"a": None}], "on": True}
    save_state(tmp_path / "state", model, optimizer, config={}, progress={}, extra=extra)
    loaded = load_state(tmp_path / "state", model, optimizer)
    assert torch.equal(loaded.pop("mean"), torch.tensor([1.0, 2.0]))
    assert torch.equal(loaded["list"].pop(0), torch.tensor(3))
    assert loaded == {"scale": 0.1 + 0.2, "list": [{"a": None}], "on": True}


def test_an_extra_state_with_keys_that_json_would_change_is_refused(tmp_path: Path) -> None:
    model = layers()
    with pytest.raises(TypeError, match="keys are text, but /extra has 3"):
        save_state(tmp_path / "s", model, torch.optim.Adam(model.parameters()), {}, {}, extra={3: torch.ones(1)})  # type: ignore[dict-item]


def test_a_state_of_parameters_that_are_frozen_now_is_refused(tmp_path: Path) -> None:
    model = layers()
    optimizer = torch.optim.Adam(model.parameters())
    trained(model, optimizer)
    save_state(tmp_path / "state", model, optimizer, config={}, progress={})
    with pytest.raises(UserError, match="not trained now \\(0.weight, 0.bias\\)"):
        load_state(tmp_path / "state", model, torch.optim.Adam(model[2].parameters()))


def test_only_complete_steps_are_listed_and_leftovers_go(tmp_path: Path) -> None:
    for name in ("step-000000020", "step-000000003", ".step-000000040.tmp", "notes", ".step-000000007.old"):
        (tmp_path / name).mkdir()
    assert checkpoint.steps_saved(tmp_path) == [3, 7, 20]
    assert not (tmp_path / ".step-000000040.tmp").exists()
    assert (tmp_path / "notes").exists()
    assert checkpoint.steps_saved(tmp_path / "absent") == []


@pytest.mark.parametrize("source", ["runs/walker/best", "walker", "/nowhere/at/all"])
def test_a_folder_that_is_not_there_is_no_hub_name(source: str) -> None:
    with pytest.raises(UserError, match=f"there is no folder {source}, and a hub id has the form owner/name"):
        from_pretrained(source, lambda config: layers())


def test_a_hub_name_without_a_connection_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*names: str, **options: Any) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(UserError, match="hub did not give a model of that name \\(no route to host\\)"):
        from_pretrained("someone/walker", lambda config: layers())


def test_the_hub_itself_refuses_to_be_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="check the name and the connection"):
        from_pretrained("someone/a-walker-that-nobody-has-downloaded", lambda config: layers())


def test_a_model_of_the_hub_is_built_from_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    model = layers(dim=6)
    save_weights(model, tmp_path / "snapshot", {"dim": 6})
    asked = []

    def download(name: str, **options: Any) -> str:
        asked.append((name, options["revision"]))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert same(from_pretrained("someone/walker", lambda config: layers(**config), revision="v1"), model)
    assert asked == [("someone/walker", "v1")]


def test_a_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Odd(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 3}

        def set_extra_state(self, state: dict[str, int]) -> None:
            pass

    with pytest.raises(TypeError, match="_extra_state in the state of Odd is a dict, not a tensor"):
        save_weights(Odd(1, 1), tmp_path / "model", {})


def test_loading_runs_no_code_from_the_folder(tmp_path: Path) -> None:
    save_weights(layers(), tmp_path / "model", {})
    # A pickled model under the expected name is data that cannot be read, not a program.
    torch.save({"weight": torch.ones(1)}, tmp_path / "model" / "model.safetensors")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_weights(tmp_path / "model")


def test_views_of_one_storage_are_stored_apart(tmp_path: Path) -> None:
    storage = torch.arange(8.0)

    class Views(nn.Module):
        first: Tensor
        second: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("first", storage[:5])
            self.register_buffer("second", storage[3:])

    save_weights(Views(), tmp_path / "model", {})
    _, tensors = load_weights(tmp_path / "model")
    assert tensors["first"].tolist() == [0, 1, 2, 3, 4]
    assert tensors["second"].tolist() == [3, 4, 5, 6, 7]
