"""`python -m app`: the command line."""

import sys

try:
    from app.cli import main

    main()
except KeyboardInterrupt:  # Ctrl-C while the modules are imported, which takes a second
    sys.exit(130)
