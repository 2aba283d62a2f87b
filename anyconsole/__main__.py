"""`python -m anyconsole`."""

import sys

from anyconsole.cli import main

if __name__ == "__main__":
    sys.exit(main())
