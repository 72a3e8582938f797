"""`python -m train` is `ast-audio`."""

import sys

from train.cli import main

sys.exit(main())
