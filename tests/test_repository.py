"""What no linter knows about this repository: its folders, its import rule, and whether its papers tell the truth."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import vlkit
from vlkit import cli

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {"vlkit": "vlkit", "tasks": "vlkit.tasks", "envs": "vlkit.envs"}
# What starts slowly or may be absent is imported in the function that uses it.
LAZY = {
    "accelerate",
    "h5py",
    "habitat_sim",
    "huggingface_hub",
    "imageio",
    "matplotlib",
    "networkx",
    "tensorboard",
    "torchvision",
}
LAZY |= {"transformers", "warp"}
# The path to `vlkit --help` and `vlkit doctor` needs the standard library alone.
LIGHT = {
    "vlkit",
    "vlkit.__main__",
    "vlkit.cli",
    "vlkit.config",
    "vlkit.doctor",
    "vlkit.errors",
    "vlkit.files",
    "vlkit.plugins",
}
# A world knows nothing of who walks in it.
MODELS = {"vlkit.encoders", "vlkit.rnn", "vlkit.attention", "vlkit.train", "vlkit.generation"}
NO_DISTRIBUTION = {"habitat_sim"}  # conda or source; the adapter's error says how
TEST_COMMAND = 'python -m pip install -e ".[dev]" && python -m pytest'


def modules() -> Iterator[tuple[str, Path]]:
    """Every source file of the library and the name by which it is imported."""
    for folder, package in FOLDERS.items():
        for root, folders, files in os.walk(REPOSITORY / folder):  # does not follow the links vlkit/tasks, vlkit/envs
            folders[:] = [each for each in folders if each != "__pycache__"]
            for file in files:
                if file.endswith(".py"):
                    path = Path(root, file)
                    parts = path.relative_to(REPOSITORY / folder).with_suffix("").parts
                    yield ".".join([package, *parts]).removesuffix(".__init__"), path


MODULES = dict(modules())
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every name that `tree` imports, `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def imported_at_import(tree: ast.Module) -> Iterator[str]:
    """As `imported`, but without what stands in functions or under `if TYPE_CHECKING`."""
    for node in tree.body:
        checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not checking and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imported(ast.Module(list(inner(node)), []))


def inner(node: ast.AST) -> Iterator[ast.stmt]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from inner(child)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def forbidden(module: str) -> set[str]:
    """The packages that `module` must not import: cli -> tasks -> envs -> core, and no task imports another."""
    if module in ("vlkit.__main__", "vlkit.cli"):
        return {"vlkit.tasks", "vlkit.envs"}  # the command line reaches them by name, when a command asks
    if within(module, "vlkit.tasks"):
        own = ".".join(module.split(".")[:3])
        tasks = {".".join(each.split(".")[:3]) for each in MODULES if each.startswith("vlkit.tasks.")}
        return (tasks - {own}) | {"vlkit.cli"}
    if within(module, "vlkit.envs"):
        return {"vlkit.tasks", "vlkit.cli", *MODELS}
    return {"vlkit.tasks", "vlkit.envs", "vlkit.cli"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_from_tasks_to_envs_to_the_core(module: str) -> None:
    wrong = [name for name in imported(TREES[module]) for package in forbidden(module) if within(name, package)]
    wrong += [
        name for name in imported(TREES[module]) if name.startswith(".") or name.split(".")[0] in ("tasks", "envs")
    ]
    if module != "vlkit.cli":
        named = [node.value for node in ast.walk(TREES[module]) if isinstance(node, ast.Constant)]
        dotted = [value for value in named if isinstance(value, str) and re.fullmatch(r"[\w.]+(:\w+)?", value)]
        wrong += [each for each in dotted for package in forbidden(module) if within(each.partition(":")[0], package)]
    assert not wrong, f"{module} may not reach {wrong}"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_and_optional_packages_are_imported_where_they_are_used(module: str) -> None:
    wrong = {name for name in imported_at_import(TREES[module]) if name.split(".")[0] in LAZY}
    wrong -= {"warp"} if module == "vlkit.envs.simulator.kernels" else set()  # its kernels are decorated functions
    assert not wrong, f"{module}: move the import of {wrong} into the function that uses it"


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_what_help_needs_is_the_standard_library(module: str) -> None:
    for name in imported_at_import(TREES[module]):
        package = name.split(".")[0]
        assert package in sys.stdlib_module_names or any(within(name, light) for light in LIGHT), f"{module}: {name}"


def test_only_the_adapter_imports_habitat_sim() -> None:
    users = {module for module, tree in TREES.items() if any(within(name, "habitat_sim") for name in imported(tree))}
    assert users <= {"vlkit.envs.habitat"}


def test_the_import_rule_finds_what_it_forbids() -> None:
    source = "import torch\nfrom vlkit import tasks\ndef f():\n    import matplotlib.pyplot\nif 1:\n    import h5py\n"
    tree = ast.parse(source)
    assert set(imported(tree)) == {"torch", "vlkit.tasks", "h5py", "matplotlib.pyplot"}
    assert set(imported_at_import(tree)) == {"torch", "vlkit.tasks", "h5py"}
    assert "vlkit.tasks" in forbidden("vlkit.train")
    assert "vlkit.envs" not in forbidden("vlkit.tasks.r2r.run")
    assert forbidden("vlkit.envs.graph") >= MODELS
    assert all(any(within(module, model) for module in MODULES) for model in MODELS)


def test_every_forward_says_its_shapes() -> None:
    silent = [
        f"{MODULES[module].relative_to(REPOSITORY)}:{node.lineno}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "forward"
        if len(node.args.args) > 1 and not node.args.vararg  # a network's own, and not one that passes all on
        if "->" not in (ast.get_docstring(node) or "")
    ]
    assert not silent, f"forward without a line (shape) -> (shape): {silent}"


def test_the_list_of_packages_is_the_folders() -> None:
    found = {
        ".".join([FOLDERS[parts[0]], *parts[1:]])
        for path in MODULES.values()
        for parts in [path.parent.relative_to(REPOSITORY).parts]
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found
    assert found <= set(MODULES), f"without __init__.py: {found - set(MODULES)}"


def test_what_is_imported_is_what_is_declared() -> None:
    declared = PROJECT["project"]["dependencies"] + [
        line for extra, lines in PROJECT["project"]["optional-dependencies"].items() if extra != "dev" for line in lines
    ]
    wanted = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in declared}
    names = packages_distributions()
    used = set()
    for module, tree in TREES.items():
        for name in imported(tree):
            package = name.split(".")[0]
            if package in sys.stdlib_module_names | NO_DISTRIBUTION | {"vlkit"}:
                continue
            # torch writes TensorBoard's files through the package tensorboard
            package = "tensorboard" if within(name, "torch.utils.tensorboard") else package
            assert package in names, f"{module} imports {package}, which no installed package provides"
            used.add(names[package][0].lower().replace("_", "-"))
    assert used - wanted == set(), "add these to pyproject.toml"
    assert wanted - used == set(), "nothing imports these: take them out of pyproject.toml"


@pytest.mark.parametrize("name", ["tasks", "envs"])
def test_the_links_are_relative_and_lead_to_the_folders(name: str) -> None:
    link = REPOSITORY / "vlkit" / name
    assert link.is_symlink(), f"vlkit/{name} must be a link: ln -s ../{name} vlkit/{name}"
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == REPOSITORY / name


def test_tests_are_no_packages_and_have_names_of_their_own() -> None:
    files = [path for path in (REPOSITORY / "tests").rglob("*.py") if "__pycache__" not in path.parts]
    assert not [path for path in files if path.name == "__init__.py"]
    names = [path.name for path in files if path.name != "conftest.py"]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.toml")), ids=lambda path: path.name)
def test_every_configuration_loads(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", str(path), "--help"]) == 0, capsys.readouterr().err


def readme() -> str:
    path = REPOSITORY / "README.md"
    assert path.is_file(), "there is no README.md"
    return path.read_text(encoding="utf-8")


def test_commands_in_the_readme_exist() -> None:
    choices = {"judge": cli.BENCHMARKS, "data": cli.DATA, "bench": cli.TIMINGS}
    lines = [
        line
        for block in re.findall(r"^```\w*\n(.*?)^```", readme(), re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    commands = [
        words
        for line in lines
        for words in re.findall(r"(?:^|&& |\$ |-m )vlkit ([\w-]+)(?: ([\w./-]+))?", line.strip())
    ]
    assert commands
    for command, word in commands:
        assert command in cli.COMMANDS or command.startswith("--"), f"README: vlkit {command}"
        if command in choices and word:
            assert word in choices[command], f"README: vlkit {command} {word}"


def test_files_in_the_readme_exist() -> None:
    for path in re.findall(
        r"\b((?:configs|benchmarks|tests|tasks|envs|vlkit)/[\w/.-]+\.(?:py|toml|json|md))\b", readme()
    ):
        assert (REPOSITORY / path).is_file(), f"README names {path}"
    for path in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", readme()):
        assert (REPOSITORY / path).exists(), f"README links to {path}"


def test_the_readme_has_the_test_command_that_ci_runs() -> None:
    assert TEST_COMMAND in readme().splitlines()
    script = REPOSITORY / ".ci" / "run"
    assert f"test_command='{TEST_COMMAND}'" in script.read_text(encoding="utf-8")
    assert os.name == "nt" or os.access(script, os.X_OK)


def test_the_changelog_has_this_version_on_top() -> None:
    headings = re.findall(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == vlkit.__version__


def test_importing_vlkit_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import vlkit; print(*set(sys.modules) - before)"
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["vlkit"]
