"""Installs eai-delphi in .bench/delphi, an environment of its own that borrows this one's torch and transformers.

    python -m benchmarks.install_delphi

Its requirements name vllm, bitsandbytes and a web server, which its cache and its examples never import. So it is
installed without them, with the few packages that those two do import; the rest comes from this environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.common import ROOT

PACKAGES = (
    "eai-delphi==0.1.3",
    "asyncer==0.0.18",
    "blobfile==3.3.0",
    "lxml==6.1.3",
    "orjson==3.13.0",
    "pycryptodomex==3.24.2",
)
FOLDER = ROOT / ".bench" / "delphi"


def delphi_python() -> Path:
    """The Python that has eai-delphi, installed when it is first asked for."""
    python = FOLDER / "bin" / "python"
    done = FOLDER / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True, stdout=sys.stderr)
        pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", *PACKAGES]
        subprocess.run(pip, check=True, stdout=sys.stderr, env={**os.environ, "PIP_NO_INPUT": "1"})
        (site_packages,) = FOLDER.glob("lib/python*/site-packages")
        (site_packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        done.touch()
    return python


if __name__ == "__main__":
    print(delphi_python())
