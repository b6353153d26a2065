"""Train an actor and a generator together, then compare scans."""

import sys

from adaptive_scan.commands import train_rdpg_main

if __name__ == "__main__":
    sys.exit(train_rdpg_main())
