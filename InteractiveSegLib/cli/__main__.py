"""`python -m InteractiveSegLib.cli` is `interactive-seg`."""
import sys

from . import main

sys.exit(main())
