import ast
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vlkit
from vlkit import cli
from vlkit.errors import UserError

REPOSITORY = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "rich", "tyro", "gymnasium", "transformers", "matplotlib")

# A command that does what its first argument says.
ACTIONS = """
import os, signal, sys, time
from pathlib import Path
from vlkit.errors import UserError
from vlkit.files import write_atomic

def act(words):
    action = words[0] if words else "nothing"
    if action == "mistake":
        raise UserError("lr -1 must be above 0: choose 1e-3")
    if action == "bug":
        raise RuntimeError("shapes differ\\nat a line below")
    if action == "interrupt":
        raise KeyboardInterrupt
    if action == "usage":
        sys.exit(2)
    if action == "words":
        sys.exit("no such thing")
    if action == "missing":
        import a_package_that_nobody_has
    if action == "print":
        for i in range(100_000):
            print(i)
    if action == "wait":
        with write_atomic(words[1]) as temporary:
            temporary.write_text("half")
            Path(words[2]).touch()
            time.sleep(60)
    return 3 if action == "three" else 0
"""


@pytest.fixture
def act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    (tmp_path / "actions.py").write_text(ACTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "actions", raising=False)
    monkeypatch.setitem(cli.COMMANDS, "act", ("", "", "actions:act"))
    return lambda *words: cli.main(["act", *words])


def process(tmp_path: Path, *words: str) -> "subprocess.Popen[str]":
    """`vlkit act ...` as a process of its own."""
    (tmp_path / "actions.py").write_text(ACTIONS)
    # Of a shell's background job, as the tests may be, Ctrl-C is ignored, and its children inherit that.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from vlkit import cli; "
    code += "cli.COMMANDS['act'] = ('', '', 'actions:act'); sys.exit(cli.main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, "act", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"},
    )


def test_help_lists_every_command_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n  {name}" in text
    assert max(map(len, text.splitlines())) <= 80


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vlkit {vlkit.__version__}\n"


def test_no_command_is_wrong_usage_with_the_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: vlkit COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "there is no `vlkit trian`. Did you mean 'train'?"),
        (["judge", "r2"], "there is no `vlkit judge r2`. Did you mean 'r2r'?"),
        (["data", "feature"], "Did you mean 'features'?"),
        (["bench", "r2rstep"], "Did you mean 'r2r-step'?"),
        (["--verbose"], "'--verbose' cannot stand here"),
        (["judge"], "usage: vlkit judge BENCHMARK"),
        (["train"], "usage: vlkit train CONFIG.toml"),
        (["train", "--lr", "1"], "usage: vlkit train CONFIG.toml"),
        (["eval", "--split", "val_seen"], "usage: vlkit eval RUN"),
    ],
)
def test_wrong_usage_is_2_and_names_what_was_meant(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("command", ["train", "eval", "judge", "data", "bench"])
def test_help_of_a_command_is_no_mistake(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"usage: vlkit {command}" in capsys.readouterr().out


def test_exit_codes_are_those_of_the_command(act: Callable[..., int]) -> None:
    assert act() == 0
    assert act("three") == 3
    assert act("usage") == 2


def test_a_mistake_of_the_user_is_one_message_without_a_traceback(
    act: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert act("mistake") == 1
    assert capsys.readouterr().err == "vlkit: lr -1 must be above 0: choose 1e-3\n"
    assert act("words") == 1
    assert capsys.readouterr().err == "no such thing\n"


def test_a_bug_is_one_line_and_debug_anywhere_shows_the_traceback(
    act: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert act("bug") == 1
    told = capsys.readouterr().err
    assert told.startswith("vlkit: RuntimeError: shapes differ - a bug in vlkit")
    assert "--debug" in told
    assert len(told.splitlines()) == 1
    for words in (["--debug", "act", "bug"], ["act", "--debug", "bug"], ["act", "bug", "--debug"]):
        assert cli.main(words) == 1
        assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_interruption_is_130(act: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert act("interrupt") == 130
    assert capsys.readouterr().err == "vlkit: interrupted\n"


def test_a_missing_package_is_named(act: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert act("missing") == 1
    assert capsys.readouterr().err.startswith("vlkit: a_package_that_nobody_has is not installed: ")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("as it is"), "as it is"),
        (ModuleNotFoundError("No module named 'h5py'", name="h5py"), 'pip install "vlkit[hdf5]"'),
        (ModuleNotFoundError("...", name="tensorboard.summary"), 'pip install "vlkit[track]"'),
        (ModuleNotFoundError("...", name="vlkit.tasks"), "this installation of vlkit has no vlkit.tasks"),
        (ImportError("libcudart.so.13: cannot open"), "an installed package is broken (libcudart.so.13: cannot open)"),
        (RuntimeError("operator torchvision::nms does not exist"), "`vlkit doctor`"),
        (OSError(errno.ENOSPC, "No space left on device", "run/model.pt"), "no space left on the disk: run/model.pt;"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.json"), "no such file or folder: a.json"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/a"), "no permission: /root/a;"),
        (OSError(errno.EIO, "Input/output error", "a.json"), "Input/output error: a.json"),
        (ConnectionError("the host hung up"), "ConnectionError: the host hung up"),
        (MemoryError(), "out of memory (MemoryError): take a smaller batch"),
        (AssertionError(), "AssertionError - a bug in vlkit"),
    ],
)
def test_every_kind_of_error_says_what_to_do(error: Exception, told: str) -> None:
    assert told in cli.message(error)
    assert len(cli.message(error).splitlines()) == 1


def test_extras_that_errors_name_install_the_package() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for package, extra in cli.EXTRAS.items():
        name = package.replace("_", "-")  # as packages are called whose modules cannot be
        assert any(line.startswith(name) for line in project["optional-dependencies"][extra]), package


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    with process(tmp_path, "print") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == "0\n"
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait() == 141


@pytest.mark.skipif(os.name == "nt", reason="Windows ends a process without a signal")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_process_that_is_told_to_end_leaves_no_half_file(tmp_path: Path, number: signal.Signals, code: int) -> None:
    folder, started = tmp_path / "run", tmp_path / "started"
    with process(tmp_path, "wait", str(folder / "weights"), str(started)) as running:
        while running.poll() is None and not started.exists():
            time.sleep(0.01)
        running.send_signal(number)
        assert running.wait() == code
    assert list(folder.iterdir()) == []


def test_signals_are_handled_as_before_once_a_command_is_done(act: Callable[..., int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert act() == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_and_import_load_nothing_heavy() -> None:
    code = (
        "import sys; from vlkit.cli import main; assert main(['--help']) == 0; "
        f"heavy = [name for name in {HEAVY} if name in sys.modules]; assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


def test_python_m_vlkit_is_vlkit() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "vlkit", "--version"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert run.stdout == f"vlkit {vlkit.__version__}\n"


def test_train_calls_the_task_that_the_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "walking.py").write_text(
        "seen = []\n"
        "def train(words):\n    seen.append(('train', words))\n    return 0\n"
        "def evaluate(words):\n    seen.append(('evaluate', words))\n    return 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(cli.TASKS, "walking", "walking")
    monkeypatch.setitem(cli.TASKS, "navigation", "walking")
    run = tmp_path / "run"
    run.mkdir()
    file = run / "config.toml"
    file.write_text('task = "walking"\nlr = "not read here"\n')
    assert cli.main(["train", str(file), "--lr", "1"]) == 0
    assert cli.main(["eval", str(run), "--split", "val_seen"]) == 0
    assert cli.main(["eval", "--agent=random", "--seeds", "3"]) == 0
    import walking  # type: ignore[import-not-found]

    assert walking.seen == [
        ("train", [str(file), "--lr", "1"]),
        ("evaluate", [str(run), "--split", "val_seen"]),
        ("evaluate", ["--agent=random", "--seeds", "3"]),
    ]


def test_a_file_without_a_known_task_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "walker.toml"
    file.write_text("lr = 1\n")
    assert cli.main(["train", str(file)]) == 1
    assert 'add a line such as task = "r2r"' in capsys.readouterr().err
    file.write_text('task = "navigate"\n')
    assert cli.main(["train", str(file)]) == 1
    assert "there is no task 'navigate'. Did you mean 'navigation'?" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_an_error_with_the_nearest_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "route_1").mkdir()
    assert cli.main(["eval", str(tmp_path / "route_1")]) == 1
    assert "is no run: it has no config.toml" in capsys.readouterr().err
    (tmp_path / "route_1" / "config.toml").touch()
    assert cli.main(["eval", str(tmp_path / "route1")]) == 1
    assert "Did you mean 'route_1'?" in capsys.readouterr().err


def test_benchmarks_outside_a_checkout_are_an_error_that_says_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vlkit, "__file__", str(tmp_path / "site-packages" / "vlkit" / "__init__.py"))
    assert cli.main(["bench", "import"]) == 1
    assert "not of the installed package" in capsys.readouterr().err


def names(module: str) -> set[str]:
    """What a module of this repository defines or imports by name, read without running it."""
    tree = ast.parse((REPOSITORY / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return defined | {each.name for node in tree.body if isinstance(node, ast.ImportFrom) for each in node.names}


@pytest.mark.parametrize(
    "entry", [row[-1] for table in (cli.COMMANDS, cli.BENCHMARKS, cli.DATA) for row in table.values()]
)
def test_every_command_names_a_function_that_is_there(entry: str) -> None:
    module, _, function = entry.partition(":")
    assert function in names(module)


def test_every_task_has_train_and_evaluate() -> None:
    for module in cli.TASKS.values():
        assert {"train", "evaluate"} <= names(module)


def test_every_benchmark_has_its_file() -> None:
    for _, file in cli.TIMINGS.values():
        assert (REPOSITORY / "benchmarks" / file).is_file()


def test_every_benchmark_calls_itself_by_its_command_in_its_help() -> None:
    for name, (_, file) in cli.TIMINGS.items():
        source = (REPOSITORY / "benchmarks" / file).read_text(encoding="utf-8")
        assert f'prog="vlkit bench {name}"' in source
        assert f"vlkit bench {name}" in (ast.get_docstring(ast.parse(source)) or "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["text", "--rounds", "0"], "rounds is 0"),
        (["r2r-step", "--repeats", "0"], "repeats 0"),
        (["r2r-train", "--batch-size", "0"], "batch_size 0"),
    ],
)
def test_a_benchmarks_wrong_option_is_one_message_and_a_traceback_where_it_is_asked_for(
    words: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *words]) == 1
    said = capfd.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert cli.main(["bench", *words, "--debug"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_benchmark_runs_in_a_checkout(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "import", "--rounds", "1"]) == 0
    assert "python -c pass (peer)" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)]
)
def test_idle_threads_sleep_soon_unless_told_otherwise(
    given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    assert cli.main(["--version"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == expected
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == cli.KERNELS
