"""Compare trained generators with interpolations on static scans of held-out micrographs."""

import sys

from adaptive_scan.commands import compare_completers_main

if __name__ == "__main__":
    sys.exit(compare_completers_main())
