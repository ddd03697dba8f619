"""``python -m scarce``: the command line."""

import sys

from scarce.cli import main

if __name__ == "__main__":
    sys.exit(main())
