"""`vlkit doctor`: devices, versions and data, each with what is wrong and the exact fix.

It runs where something is broken, so it imports nothing but the standard library: packages are asked for their version
through their metadata, PyTorch is tried out in a process of its own, and a check that fails becomes a row itself.
"""

import argparse
import gzip
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import vlkit

GIB = 2**30
DISK_GIB, MEMORY_GIB = 2.0, 4.0  # below these a training run on R2R's graphs is likely to stop
# What the datasets on R2R's graphs call their files; the group is the split.
ANNOTATIONS = {
    "R2R": re.compile(r"R2R_(\w+)\.json(?:\.gz)?"),
    "R4R": re.compile(r"R4R_(\w+)\.json(?:\.gz)?"),
    "RxR": re.compile(r"rxr_(\w+)_guide\.jsonl(?:\.gz)?", re.IGNORECASE),
    "REVERIE": re.compile(r"REVERIE_(\w+)\.json(?:\.gz)?"),
}
PROBE_SECONDS = 180  # PyTorch's first import from a slow disk takes a minute

# Runs in its own process: a broken binary there ends that process and not the doctor.
PROBE = r"""
import json, sys
found = {}
try:
    import torch
    found["torch"] = torch.__version__
    found["cuda_build"] = torch.version.cuda or getattr(torch.version, "hip", None)
    found["threads"] = torch.get_num_threads()
    try:
        torch.ones(2).numpy()
    except Exception as error:
        found["numpy_error"] = f"{type(error).__name__}: {error}"
    found["cuda"] = []
    try:
        if torch.cuda.is_available():
            for i in range(torch.cuda.device_count()):
                properties = torch.cuda.get_device_properties(i)
                with torch.cuda.device(i):
                    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
                    free = torch.cuda.mem_get_info()[0]
                    worked = float((torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).sum()) == 512
                found["cuda"].append({
                    "name": properties.name, "memory": properties.total_memory, "free": free, "bf16": bf16,
                    "capability": f"{properties.major}.{properties.minor}", "worked": worked,
                })
    except Exception as error:
        found["cuda_error"] = f"{type(error).__name__}: {error}"
    found["mps"] = torch.backends.mps.is_available()
except Exception as error:
    found["torch_error"] = f"{type(error).__name__}: {error}"
else:
    try:
        import torchvision
        found["torchvision"] = torchvision.__version__
        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
        assert torchvision.ops.nms(boxes, torch.tensor([1.0, 0.5]), 0.5).tolist() == [0], "nms gave a wrong answer"
    except Exception as error:
        found["torchvision_error"] = f"{type(error).__name__}: {error}"
print("\nFOUND " + json.dumps(found))
"""

Status = Literal["ok", "note", "warning", "problem"]  # a note: absent, and nothing needs it


@dataclass(frozen=True)
class Row:
    """One line of the report."""

    name: str
    status: Status
    found: str
    fix: str = ""  # a command where there is one
    group: str = ""


def main(arguments: Sequence[str]) -> int:
    """Prints the report, and returns 1 where it has a problem, else 0."""
    parser = argparse.ArgumentParser(prog="vlkit doctor", description="What is missing on this machine, and the fix.")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of R2R's files (default: ./data)")
    options = parser.parse_args(arguments)
    rows = report(options.data)
    failed = any(row.status == "problem" for row in rows)
    if options.json:
        print(
            json.dumps({"vlkit": vlkit.__version__, "ok": not failed, "rows": [asdict(row) for row in rows]}, indent=2)
        )
    else:
        show(rows)
    return 1 if failed else 0


def report(data: Path | None = None) -> list[Row]:
    """Every check's rows; `data` is the folder of R2R's files, None where the user named none."""
    tried: dict[str, Any] = {}

    def torch_rows() -> Iterator[Row]:
        tried.update(probe())
        yield from pytorch(tried)

    checks: list[tuple[str, Callable[[], Iterator[Row]]]] = [
        ("Installation", installation),
        ("Installation", torch_rows),
        ("Devices", lambda: processors(tried.get("threads"))),
        ("Devices", lambda: accelerators(tried)),
        ("Packages", packages),
        ("Optional", optional),
        ("Folders", folders),
        ("Folders", lambda: r2r_data(data)),
    ]
    rows: list[Row] = []
    for group, check in checks:
        try:
            rows.extend(replace(row, group=group) for row in check())
        except Exception as error:
            rows.append(Row("check", "warning", f"could not be made: {type(error).__name__}: {error}", group=group))
    return rows


def show(rows: Sequence[Row]) -> None:
    """Prints the rows by group, then what to do; in plain text where rich is what is broken."""
    count = {status: sum(row.status == status for row in rows) for status in ("problem", "warning")}
    told = " and ".join(f"{number} {status}{'s' * (number > 1)}" for status, number in count.items() if number)
    summary = f"{told}." if told else "All that vlkit needs is here."
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except Exception:
        for row in rows:
            print(f"{row.status:<8} {row.name:<16} {row.found}{' -> ' * bool(row.fix)}{row.fix}")
        print(summary)
        return
    styles = {"ok": "green", "note": "dim", "warning": "yellow", "problem": "bold red"}
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")  # a long path is shown whole
    for group in dict.fromkeys(row.group for row in rows):
        table.add_row(Text(group, style="bold"))
        for row in rows:
            if row.group == group:
                table.add_row(Text(f"  {row.name}"), Text(row.status, style=styles[row.status]), Text(row.found))
    console.print(table)
    for status, title in (("problem", "To mend"), ("warning", "To look at"), ("note", "If you want it")):
        fixes = [f"  {row.name}: {row.fix}" for row in rows if row.status == status and row.fix]
        if fixes:
            console.print(Text(f"\n{title}", style=styles[status]))
        for fix in fixes:
            console.print(Text(fix), soft_wrap=True)  # a command should be copied whole
    console.print(Text(f"\n{summary}", style="bold"))


def installation() -> Iterator[Row]:
    """Python and vlkit itself."""
    yield Row("Python", "ok", f"{platform.python_version()}, {sys.executable}")
    place = Path(vlkit.__file__).resolve().parent
    try:
        installed = importlib.metadata.version("vlkit")
    except importlib.metadata.PackageNotFoundError:
        fix = f"{_pip()} install -e {place.parent}"
        yield Row("vlkit", "note", f"{vlkit.__version__}, {place}, not installed", fix)
        return
    if installed == vlkit.__version__:
        yield Row("vlkit", "ok", f"{installed}, {place}")
    else:
        found = f"{vlkit.__version__} runs, from {place}, but {installed} is what is installed"
        yield Row("vlkit", "warning", found, f"{_pip()} install -e {place.parent}")


def probe() -> dict[str, Any]:
    """What PyTorch and torchvision answer in a process of their own, or the errors they raise there."""
    try:
        # -P: a file torch.py in the working directory is not PyTorch.
        run = subprocess.run(
            [sys.executable, "-P", "-c", PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"torch_error": f"importing it took more than {PROBE_SECONDS} seconds"}
    answers = [line for line in run.stdout.splitlines() if line.startswith("FOUND ")]
    if answers:
        return dict(json.loads(answers[-1].removeprefix("FOUND ")))
    last = (run.stderr.strip().splitlines() or [""])[-1]
    return {"torch_error": f"importing it ended the process with code {run.returncode}. {last}".strip()}


def pytorch(tried: dict[str, Any]) -> Iterator[Row]:
    """PyTorch and torchvision: whether they import, and whether the two belong together."""
    if "torch_error" in tried:
        missing = "No module named 'torch'" in tried["torch_error"]
        found = "not installed" if missing else f"{_version('torch') or 'unknown version'}: {tried['torch_error']}"
        yield Row("torch", "problem", found, f"{_pip()} install torch torchvision" if missing else _both_anew())
        return
    build = f"built for CUDA {tried['cuda_build']}" if tried.get("cuda_build") else "built for CPU only"
    if "numpy_error" in tried:
        found = f"{tried['torch']} cannot use NumPy {_version('numpy')}: {tried['numpy_error']}"
        yield Row("torch", "problem", found, f"{_pip()} install --upgrade numpy torch torchvision")
    else:
        yield Row("torch", "ok", f"{tried['torch']}, {build}")
    if "torchvision_error" not in tried:
        yield Row("torchvision", "ok", f"{tried['torchvision']}, matches torch")
    elif "No module named 'torchvision'" in tried["torchvision_error"]:
        yield Row("torchvision", "problem", "not installed", f"{_pip()} install torchvision")
    else:
        found = f"{_version('torchvision')} does not work with torch {tried['torch']}: {tried['torchvision_error']}"
        yield Row("torchvision", "problem", found, _both_anew())


def processors(threads: int | None) -> Iterator[Row]:
    """Cores that this process may use, PyTorch's threads, memory."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _first_line("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():  # "max 100000" where a container has no limit
        cores = min(cores, int(quota[0]) / int(quota[1]))
    found = f"{cores:g} cores" + (f", PyTorch uses {threads} threads" if threads else "")
    if threads and threads > cores + 0.5:
        fix = f"export OMP_NUM_THREADS={max(1, round(cores))}"
        yield Row("CPU", "warning", f"{found}: more threads than cores are slow", fix)
    else:
        yield Row("CPU", "ok", found)
    if not hasattr(os, "sysconf"):  # Windows
        return
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _first_line("/sys/fs/cgroup/memory.max")
    total = min(total, int(limit)) if limit.isdigit() else total
    enough = total >= MEMORY_GIB * GIB
    found = f"{total / GIB:.1f} GiB" + ("" if enough else f", less than {MEMORY_GIB:g}: training may be ended for it")
    yield Row("memory", "ok" if enough else "warning", found, "" if enough else "take a smaller batch_size")


def accelerators(tried: dict[str, Any]) -> Iterator[Row]:
    """CUDA and Apple's MPS: what PyTorch can use, and why not where there is one that it cannot."""
    driver = nvidia_driver()
    update = "update the NVIDIA driver (nvidia.com/drivers), then restart"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    for device in tried.get("cuda", []):
        found = (
            f"{device['name']}, {device['free'] / GIB:.0f} of {device['memory'] / GIB:.0f} GiB free, compute "
            f"{device['capability']}, {'bf16' if device['bf16'] else 'no bf16'}, driver {driver or 'unknown'}"
        )
        if device["worked"]:
            yield Row("CUDA", "ok", found)
        else:
            yield Row("CUDA", "problem", f"{found}: computed a wrong product", "restart the machine")
    if "cuda_error" in tried:
        yield Row("CUDA", "problem", f"driver {driver or 'unknown'}: {tried['cuda_error']}", update)
    elif not driver and not tried.get("cuda"):
        yield Row("CUDA", "note", "no NVIDIA driver: vlkit computes on the CPU")
    elif "torch" in tried and not tried.get("cuda"):
        found = f"driver {driver} is there, but this PyTorch is built for CPU only"
        row = Row("CUDA", "warning", found, _both_anew())
        if tried.get("cuda_build"):
            found = f"driver {driver} is there, but PyTorch for CUDA {tried['cuda_build']} sees no device"
            row = Row("CUDA", "warning", f"{found}: the driver is too old for it", update)
            if hidden is not None:
                row = Row("CUDA", "warning", f"{found}: CUDA_VISIBLE_DEVICES={hidden!r}", "unset CUDA_VISIBLE_DEVICES")
        yield row
    if sys.platform == "darwin":
        mps = bool(tried.get("mps"))
        yield Row("MPS", "ok" if mps else "note", "available" if mps else "not available to this PyTorch")


def nvidia_driver() -> str:
    """Version of the running NVIDIA driver, empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip().partition("\n")[0] if run.returncode == 0 else ""


def packages() -> Iterator[Row]:
    """What vlkit always needs: version and minimum."""
    for extra, name, minimum in requirements():
        row = _package(name, minimum, absent="problem")
        told = name in ("torch", "torchvision") and (row.status == "ok" or _version(name) is None)  # by their own rows
        if not extra and not told:
            yield row


def optional() -> Iterator[Row]:
    """What only some commands need: the extras of pyproject.toml, and simulators that have their own installers."""
    extras: dict[str, list[tuple[str, str]]] = {}
    for extra, name, minimum in requirements():
        if extra and name != "vlkit":
            extras.setdefault(extra, []).append((name, minimum))
    for extra, needed in sorted(extras.items()):
        rows = [_package(name, minimum, absent="note") for name, minimum in needed]
        lacking = [row for row in rows if row.status != "ok"]
        found = ", ".join(f"{row.name} {row.found.partition(' (')[0]}" for row in lacking or rows)
        what = f'-e "{project.parent}[{extra}]"' if (project := _project()) else f'"vlkit[{extra}]"'
        fix = f"{_pip()} install {what}" if lacking else ""
        yield Row(f"[{extra}]", "note" if lacking else "ok", found, fix)
    habitat = _version("habitat-sim") or _version("habitat_sim")
    fix = "" if habitat else "conda install habitat-sim headless -c conda-forge -c aihabitat"
    yield Row("habitat-sim", "ok" if habitat else "note", habitat or "not installed; nothing here needs it", fix)


def folders() -> Iterator[Row]:
    """Whether the working directory can be written, and has room."""
    here = Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=here):
            pass
        yield Row("working folder", "ok", f"{here}, can be written")
    except OSError as error:
        fix = "cd to a folder of your own: runs are written below the working folder"
        yield Row("working folder", "warning", f"{here} cannot be written: {error.strerror}", fix)
    free = shutil.disk_usage(here).free
    if free >= DISK_GIB * GIB:
        yield Row("free disk", "ok", f"{free / GIB:.1f} GiB")
    else:
        found = f"{free / GIB:.2f} GiB, less than {DISK_GIB:g}"
        yield Row("free disk", "warning", found, "free some space, or work on another disk")


def r2r_data(named: Path | None) -> Iterator[Row]:
    """Annotations on R2R's graphs and the graphs: how many, and whether each annotated building has its graph."""
    folder = named or Path("data")
    source = "R2R's annotations and connectivity/ come with github.com/peteanderson80/Matterport3DSimulator; then: "
    fix = source + "vlkit doctor --data DIR"
    if not folder.is_dir():
        if named:
            yield Row("R2R data", "problem", f"there is no folder {folder}", fix)
        else:
            yield Row("R2R data", "note", "no folder ./data; the quickstart needs none", fix)
        return
    tops = [folder, *(folder / name.lower() for name in ANNOTATIONS)]
    places = [place for top in tops for place in (top, top / "annotations", top / "connectivity")]
    files = [file for place in places if place.is_dir() for file in sorted(place.iterdir())]
    annotations = [(name, file) for name, form in ANNOTATIONS.items() for file in files if form.fullmatch(file.name)]
    graphs = {
        file.name.removesuffix("_connectivity.json") for place in places for file in place.glob("*_connectivity.json")
    }
    scans: set[str] = set()
    counts: dict[tuple[str, Path], list[str]] = {}
    for name, file in annotations:
        try:
            items = _annotated(file)
            scans.update(items)
            split = ANNOTATIONS[name].fullmatch(file.name)[1]  # type: ignore[index]
            counts.setdefault((name, file.parent), []).append(f"{split} {len(items)}")
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            found = f"{file} cannot be read: {type(error).__name__}: {error}"
            yield Row(f"{name} annotations", "problem", found, f"fetch {file.name} again")
    absent: Status = "problem" if named else "note"
    for (name, place), told in counts.items():
        items_are = "instructions" if name == "RxR" else "paths"
        yield Row(f"{name} annotations", "ok", f"{', '.join(told)} {items_are} in {place}")
    if not annotations:
        yield Row("R2R annotations", absent, f"no R2R_*.json in {folder}, and none of R4R, RxR or REVERIE", fix)
    counted = f"{len(graphs)} graph{'s' * (len(graphs) != 1)}"
    missing = sorted(scans - graphs)
    if not graphs:
        yield Row("R2R graphs", absent, f"no *_connectivity.json in {folder}", fix)
    elif missing:
        found = f"{counted}; {len(missing)} of {len(scans)} annotated buildings have none: {', '.join(missing[:3])}"
        more = ", ..." if len(missing) > 3 else ""
        yield Row("R2R graphs", "problem", found + more, f"fetch {missing[0]}_connectivity.json{more} again")
    elif scans:
        yield Row("R2R graphs", "ok", f"{counted}; {len(scans)} of them of annotated buildings, and none is missing")
    else:
        yield Row("R2R graphs", "ok", counted)


def _annotated(file: Path) -> list[str]:
    """The building of each item in an annotations file."""
    packed = file.suffix == ".gz"
    with gzip.open(file, "rt", encoding="utf-8") if packed else open(file, encoding="utf-8") as opened:
        lines = ".jsonl" in file.name
        items = (json.loads(line) for line in opened if line.strip()) if lines else json.load(opened)
        return [item["scan"] for item in items]


def requirements() -> Iterator[tuple[str, str, str]]:
    """(extra or '', package, minimum version or '') from pyproject.toml in a checkout, else from the installed metadata."""
    if project := _project():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        lines = [("", line) for line in table["dependencies"]]
        lines += [(extra, line) for extra, some in table["optional-dependencies"].items() for line in some]
    else:
        marked = [line.partition(";") for line in importlib.metadata.requires("vlkit") or []]
        lines = [("".join(re.findall(r"extra == [\"'](\w+)", marker)), line) for line, _, marker in marked]
    for extra, line in lines:
        name = "".join(re.findall(r"^[\w.-]+", line))
        yield extra, name, "".join(re.findall(r">=\s*([\d.]+)", line))


def _project() -> Path | None:
    """pyproject.toml of the checkout that this code lies in, None where it was installed."""
    file = Path(vlkit.__file__).resolve().parents[1] / "pyproject.toml"
    return file if file.is_file() else None


def _package(name: str, minimum: str, absent: Status) -> Row:
    version = _version(name)
    wanted = f"{name}>={minimum}" if minimum else name
    if version is None:
        return Row(name, absent, "not installed", f'{_pip()} install "{wanted}"')
    if minimum and _release(version) < _release(minimum):
        status: Status = "problem" if absent == "problem" else "warning"
        return Row(name, status, f"{version} is older than {minimum}", f'{_pip()} install --upgrade "{wanted}"')
    return Row(name, "ok", version + (f" (at least {minimum})" if minimum else ""))


def _version(package: str) -> str | None:
    try:
        # A folder whose metadata is damaged counts as found and has no version.
        return importlib.metadata.version(package) or None
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return None


def _release(version: str) -> tuple[int, ...]:
    """(2, 15, 0) of 2.15.0+cu130; short ones are equal to those with zeros behind them."""
    numbers = [int(number) for number in re.findall(r"^[\d.]+", version)[0].strip(".").split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _pip() -> str:
    """`python -m pip` where `python` in the shell is this one, else this one by its path."""
    shell = shutil.which("python")
    same = shell is not None and Path(shell).parent == Path(sys.executable).parent
    return "python -m pip" if same else f"{sys.executable} -m pip"


def _both_anew() -> str:
    # Not --force-reinstall, which would fetch everything that the two depend on once more.
    return f"{_pip()} uninstall -y torch torchvision && {_pip()} install torch torchvision"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return ""
