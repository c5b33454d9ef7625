"""``python -m linuxkit_rules`` is the command ``moby``."""

import sys

from linuxkit_rules.cli import main

sys.exit(main())
