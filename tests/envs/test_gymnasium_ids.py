import ast
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import pytest

import vlkit.envs

REPOSITORY = Path(__file__).parents[2]


def ours() -> list[str]:
    return [name for name in gymnasium.registry if name.startswith("vlkit/")]


def test_importing_the_environments_registers_their_ids() -> None:
    assert ours() == ["vlkit/R2R-v0", "vlkit/HouseNav-v0"]


def test_registering_twice_keeps_what_is_there() -> None:
    before = gymnasium.registry["vlkit/R2R-v0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vlkit.envs.register()
    assert gymnasium.registry["vlkit/R2R-v0"] is before


@pytest.mark.parametrize("name", ours())
def test_every_id_names_classes_that_are_there(name: str) -> None:
    spec = gymnasium.spec(name)
    for entry in (spec.entry_point, spec.vector_entry_point):
        assert isinstance(entry, str)
        module, _, attribute = entry.partition(":")
        tree = ast.parse((REPOSITORY / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        assert attribute in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


STAND_IN = """
import sys, types
import gymnasium
class Stand(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Discrete(2)
class Stands(gymnasium.vector.VectorEnv):
    metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}
    def __init__(self, num_envs):
        self.num_envs = num_envs
sys.modules["vlkit.envs.graph"] = types.SimpleNamespace(R2REnv=Stand, R2RVectorEnv=Stands)
assert isinstance(gymnasium.make("vlkit.envs:vlkit/R2R-v0").unwrapped, Stand)
assert gymnasium.make_vec("vlkit.envs:vlkit/R2R-v0", num_envs=3).num_envs == 3
assert gymnasium.make("vlkit/R2R-v0").spec.id == "vlkit/R2R-v0"
assert "torch" not in sys.modules
"""


def test_the_module_in_front_of_an_id_registers_it_and_loads_no_torch() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", STAND_IN], cwd=REPOSITORY, check=True)
