"""`make docs`: the documentation as a site in .local/docs/site. A broken link, or a page outside the navigation, fails the
build.

MkDocs has a separate Python environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from local import bootstrap
from local.layout import DOCS, ROOT
from local.problems import Problem
from local.progress import say

LOCK = ROOT / "docs" / "requirements.lock"
SITE = DOCS / "site"


def build(folder: Path = SITE, config: Path = ROOT / "mkdocs.yml") -> None:
    """Write the site to `folder`. Raises Problem."""
    command = [DOCS / "venv" / "bin" / "mkdocs", "build", "--strict", "-f", config, "--site-dir", folder]
    # No --quiet: it would keep --strict from counting warnings. The variable turns off the theme's notice about MkDocs 2.
    result = subprocess.run(command, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    if result.returncode:
        warnings = [line for line in result.stderr.splitlines() if line.startswith(("WARNING", "ERROR"))]
        raise Problem("make docs", "\n".join(warnings) or result.stderr.strip(), "Fix these pages, then run: make docs")


def main() -> int:
    try:
        bootstrap.install_separately(DOCS, LOCK, "MkDocs", "about 40 packages")
        build()
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    say(f"The site is in {SITE}: open {SITE / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
