"""`python -m innvest_lite`: the command `innvest-lite`."""

import sys

from innvest_lite.cli import main

if __name__ == "__main__":
    sys.exit(main())
