import os
import subprocess
import sys

STEP = "import torch; from vlkit.envs.simulator.noise import Streams, uniform; "
STEP += "one = torch.ones(1, dtype=torch.int64); assert 0 <= float(uniform(Streams(one, one), 1)) < 1"


def test_kernels_run_and_say_nothing_even_where_no_cache_can_be_written_and_standard_error_is_closed() -> None:
    for before, environment in (("", {}), ("import sys; sys.stderr = None; ", {"XDG_CACHE_HOME": "/proc"})):
        command = [sys.executable, "-c", before + STEP]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
