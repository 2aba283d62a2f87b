"""`python -m anyconsole.engine FD`: started by the screen, never by hand."""

import sys

from anyconsole.engine.server import main
from anyconsole.logs import log_to_file

if __name__ == "__main__":
    log_to_file("engine")
    sys.exit(main(sys.argv[1:]))
