import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlkit import config
from vlkit.errors import UserError


@dataclass(frozen=True)
class Settings:
    """Train a walker."""

    task: Literal["walking"] = "walking"
    """The task that this file is for."""
    annotations: Path = Path("data")
    """Folder of the annotations."""
    lr: float = 3e-4
    """Learning rate at its highest."""
    hidden_size: int = 256
    """Width of the LSTM."""
    amp: bool = False
    """Mixed precision."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the rate falls."""
    features: str | None = None
    """File of image features."""
    limit: int | None = None
    """Use this many episodes."""
    splits: tuple[str, ...] = ("val_seen",)
    """Splits to report."""
    crop: tuple[int, float] = (1, 0.5)
    """Side and share."""

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr {self.lr} must be above 0")


@dataclass(frozen=True)
class Needy:
    """Has a field without a default."""

    annotations: Path
    """Folder of the annotations."""
    seed: int = 0
    """First seed."""


def written(folder: Path, text: str) -> Path:
    path = folder / "walker.toml"
    path.write_text(text, encoding="utf-8")
    return path


def message(cls: type, path: Path) -> str:
    with pytest.raises(UserError) as caught:
        config.load(cls, path)
    return str(caught.value)


def test_a_file_sets_values_and_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    path = written(tmp_path, 'lr = 1\nhidden_size = 8\nannotations = "here"\nsplits = ["a", "b"]\ncrop = [3, 1]\n')
    settings = config.load(Settings, path, ["--hidden-size", "16", "--splits", "c", "d"])
    assert settings == Settings(annotations=Path("here"), lr=1.0, hidden_size=16, splits=("c", "d"), crop=(3, 1.0))
    assert isinstance(settings.lr, float)
    assert type(settings) is Settings


def test_dashes_and_underscores_name_the_same_field(tmp_path: Path) -> None:
    for arguments in (["--hidden-size", "16"], ["--hidden_size", "16"], ["--hidden_size=16"], ["--hidden-size=16"]):
        assert config.load(Settings, None, arguments).hidden_size == 16


@pytest.mark.parametrize(
    ("arguments", "amp"),
    [
        (["--amp"], True),
        (["--amp", "true"], True),
        (["--amp", "True", "--lr", "1"], True),
        (["--amp=false"], False),
        (["--amp", "false"], False),
        (["--no-amp"], False),
        (["--amp", "--lr", "1"], True),
    ],
)
def test_a_switch_may_be_written_as_in_the_file(tmp_path: Path, arguments: list[str], amp: bool) -> None:
    assert config.load(Settings, written(tmp_path, f"amp = {str(not amp).lower()}\n"), arguments).amp is amp


def test_none_is_written_on_the_command_line_and_left_out_of_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'features = "views.npy"\nlimit = 4\n')
    assert config.load(Settings, path).features == "views.npy"
    settings = config.load(Settings, path, ["--features", "None", "--limit", "None"])
    assert (settings.features, settings.limit) == (None, None)


def test_an_unknown_key_is_an_error_with_place_and_nearest_name(tmp_path: Path) -> None:
    path = written(tmp_path, "# a walker\nlr = 1e-3\nhiden_size = 4\n")
    assert message(Settings, path) == f"{path}:3: unknown key 'hiden_size'. Did you mean 'hidden_size'?"


def test_a_section_is_an_error_that_says_that_settings_are_flat(tmp_path: Path) -> None:
    path = written(tmp_path, "lr = 1e-3\n\n[model]\nhidden_size = 4\n")
    assert message(Settings, path).startswith(f"{path}:3: unknown key 'model'. Settings are flat")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('lr = "fast"', 'lr = "fast", expected a number.'),
        ("lr = true", "lr = true, expected a number."),
        ("hidden_size = 4.5", "hidden_size = 4.5, expected a whole number."),
        ("hidden_size = true", "hidden_size = true, expected a whole number."),
        ("amp = 1", "amp = 1, expected true or false."),
        ("annotations = 3", "annotations = 3, expected a path in quotes."),
        ("features = 3", "features = 3, expected a string."),
        ('splits = "val_seen"', 'splits = "val_seen", expected a list, each item a string.'),
        ("splits = [1]", "splits = [1], expected a list, each item a string."),
        ("crop = [1]", "crop = [1], expected a list of 2: a whole number, a number."),
        ("limit = 1979-05-27", "limit = 1979-05-27, expected a whole number."),
        (
            'schedule = "cosin"',
            'schedule = "cosin", expected one of "cosine", "constant". Did you mean \'cosine\'?',
        ),
        ('task = "dialog"', 'task = "dialog", expected "walking".'),
    ],
)
def test_a_value_of_another_type_is_an_error_that_says_what_was_expected(
    tmp_path: Path, line: str, expected: str
) -> None:
    path = written(tmp_path, f"\n{line}\n")
    assert message(Settings, path) == f"{path}:2: {expected}"


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    assert len(message(Settings, written(tmp_path, "lr = true\nhiden_size = 4\namp = 1\n")).splitlines()) == 3


def test_broken_toml_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    assert message(Settings, written(tmp_path, "lr = 1\nschedule = cosine\n")).startswith(f"{tmp_path}/walker.toml:2: ")
    assert message(Settings, written(tmp_path, "lr = 1\nlr = 2\n")).startswith(f"{tmp_path}/walker.toml:2: ")
    assert "not TOML" in message(Settings, written(tmp_path, "splits = ["))


def test_a_missing_file_is_an_error_with_the_nearest_file(tmp_path: Path) -> None:
    written(tmp_path, "")
    assert message(Settings, tmp_path / "waker.toml").endswith("Did you mean 'walker.toml'?")
    assert "is a folder" in message(Settings, tmp_path)
    assert "no configuration file" in message(Settings, tmp_path / "nowhere" / "waker.toml")


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "weights.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in message(Settings, path)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "walker.toml"
    path.write_bytes(b"\xef\xbb\xbflr = 1\r\n")
    assert config.load(Settings, path).lr == 1


def test_the_checks_of_the_dataclass_are_the_users_errors(tmp_path: Path) -> None:
    assert message(Settings, written(tmp_path, "lr = -1\n")) == "lr -1.0 must be above 0"
    with pytest.raises(UserError, match="lr 0.0 must be above 0"):
        config.load(Settings, None, ["--lr", "0"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--hiden-size", "3"], "unknown option --hiden-size. Did you mean '--hidden-size'?"),
        (["--hiden_size=3"], "Did you mean '--hidden-size'?"),
        (["--no-lr"], "unknown option --no-lr."),
        (["--lr", "fast"], "--lr"),
        (["--schedule", "cosin"], "'cosine'"),
        (["--amp", "maybe"], "maybe"),
        (["--lr"], "--lr"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_option(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        config.load(Settings, None, arguments)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_a_field_without_a_default_may_come_from_either_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config.load(Needy, None, ["--annotations", "here"]) == Needy(Path("here"))
    assert config.load(Needy, written(tmp_path, 'annotations = "there"\n')) == Needy(Path("there"))
    with pytest.raises(SystemExit) as caught:
        config.load(Needy, written(tmp_path, "seed = 3\n"))
    assert caught.value.code == 2
    assert "--annotations" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        config.load(Needy, None, ["--sed", "3"])
    assert "Did you mean '--seed'?" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"run/config: lacks 'annotations'"):
        config.from_dict(Needy, {"seed": 3}, "run/config")


def test_help_lists_every_field_with_its_text_and_the_value_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        config.load(Settings, written(tmp_path, "hidden_size = 77\n"), ["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "Train a walker." in text
    assert f"usage: vlkit train {tmp_path}/walker.toml" in " ".join(text.split())
    for field in fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in text
    for words in ("Learning rate at its highest.", "Width of the LSTM. (default: 77)"):
        assert words in text


settings_of_any_value = st.builds(
    Settings,
    annotations=st.text(min_size=1).map(Path),
    lr=st.floats(min_value=1e-300, allow_infinity=True),
    hidden_size=st.integers(min_value=-(2**63), max_value=2**63 - 1),
    amp=st.booleans(),
    schedule=st.sampled_from(["cosine", "constant"]),
    features=st.none() | st.text(),
    limit=st.none() | st.integers(),
    splits=st.lists(st.text()).map(tuple),
    crop=st.tuples(st.integers(), st.floats(allow_nan=False)),
)


@given(settings=settings_of_any_value)
def test_saved_settings_load_to_equal_ones(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.toml"
    config.save(settings, path)
    assert config.from_dict(Settings, config.read(path), path) == settings
    assert config.from_dict(Settings, json.loads(json.dumps(config.as_dict(settings))), "run") == settings


def test_a_none_that_a_file_could_not_say_is_not_saved(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Wrong:
        limit: int | None = 3

    with pytest.raises(TypeError, match="limit is None and TOML has no null"):
        config.save(Wrong(limit=None), tmp_path / "wrong.toml")
    assert list(tmp_path.iterdir()) == []
