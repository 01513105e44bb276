"""``python -m load_tests``; see ``run.command``."""

import sys

from load_tests.run.command import main

sys.exit(main())
