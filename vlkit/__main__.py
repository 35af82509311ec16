"""`python -m vlkit` is `vlkit`."""

import sys

from vlkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
