"""`python -m featuredb`, the command line without its script."""

from __future__ import annotations

from featuredb.cli.main import main

if __name__ == "__main__":
    main(prog_name="featuredb")
