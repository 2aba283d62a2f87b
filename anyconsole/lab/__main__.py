"""`python -m anyconsole.lab`."""

import sys

from anyconsole.lab.command import main

sys.exit(main())
