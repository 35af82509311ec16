import subprocess
import sys
from pathlib import Path

import pytest

from vlkit.errors import UserError
from vlkit.plugins import built, nearest, resolve


def test_nearest_says_the_near_name_or_the_choices() -> None:
    assert nearest("resnet81", ["resnet18", "vgg16"]) == " Did you mean 'resnet18'?"
    assert nearest("piano", ["a", "b"]) == " Choose one of: a, b."
    assert nearest("piano", []) == ""
    assert nearest("piano", [f"q{i}" for i in range(100)]) == ""


def test_resolve_finds_what_a_name_says() -> None:
    assert resolve("vlkit.plugins:nearest") is nearest
    assert resolve("pathlib:Path.cwd")() == Path.cwd()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nearest", "'nearest' is not of the form module:function"),
        (":nearest", "not of the form"),
        ("vlkit.plugins:", "not of the form"),
        ("no_such_module:f", "there is no module 'no_such_module'"),
        ("vlkit.no_such:f", "there is no module 'vlkit.no_such'"),
        ("vlkit.plugins:nearst", "vlkit.plugins has no 'nearst'. Did you mean 'nearest'"),
        ("vlkit.plugins:LISTED_AT_MOST", "is int, which cannot be called"),
    ],
)
def test_a_name_that_leads_nowhere_is_named(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve(name)


def test_an_error_inside_the_users_module_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        resolve("needs_more:f")


def test_the_working_directory_is_searched_where_python_would_not(tmp_path: Path) -> None:
    (tmp_path / "mine_alone.py").write_text("def f():\n    return 'found'\n")
    root = Path(__file__).parents[2]
    # -P keeps the working directory off the path, as a console script does.
    program = f"import sys; sys.path.append({str(root)!r}); from vlkit.plugins import resolve; print(resolve('mine_alone:f')())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("found\n", "")


def test_an_option_that_is_not_taken_is_named() -> None:
    def door(width: int, colour: str = "red", *, open: bool = False) -> tuple[int, str, bool]:
        return width, colour, open

    assert built("door", door, 3, colour="blue", open=True) == (3, "blue", True)
    with pytest.raises(UserError, match="'door' takes no option 'color'. Did you mean 'colour'"):
        built("door", door, 3, color="blue")
    with pytest.raises(UserError, match="takes no option 'width'"):
        built("door", door, 3, width=4)

    def anything(**options: str) -> dict[str, str]:
        return options

    assert built("any", anything, color="blue") == {"color": "blue"}
