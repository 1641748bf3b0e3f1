"""``python -m skrobust``."""

import sys

from skrobust.cli import main

sys.exit(main())
