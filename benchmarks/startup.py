"""How long a newcomer waits for `import vlkit` and `vlkit --help`: whole processes, a bare Python as the peer.

vlkit bench import [--rounds 30]
"""

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass (peer)": ["-c", "pass"],
    "python -c 'import vlkit'": ["-c", "import vlkit"],
    "vlkit --help": ["-m", "vlkit", "--help"],
    "python -c 'import numpy' (peer)": ["-c", "import numpy"],
}


def main() -> None:
    """Prints the median and the range over rounds; the commands take turns, so that a busy moment hits all."""
    parser = argparse.ArgumentParser(prog="vlkit bench import", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    milliseconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for i in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            if i > 0:  # the first round reads the files from the disk
                milliseconds[name].append(1000 * (time.perf_counter() - start))
    bare = statistics.median(milliseconds["python -c pass (peer)"])
    print(f"{'command':<32} {'median':>9} {'over bare':>10} {'fastest':>9} {'slowest':>9}   ({rounds} rounds)")
    for name, times in milliseconds.items():
        median = statistics.median(times)
        print(f"{name:<32} {median:6.1f} ms {median - bare:7.1f} ms {min(times):6.1f} ms {max(times):6.1f} ms")


if __name__ == "__main__":
    main()
