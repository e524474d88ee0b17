"""Replace this process with a program of the stack: `python -I -S launch.py FILE`.

FILE is private (mode 0600) and holds the program's command and its whole environment. The supervisor thus starts
each program with the values of its newest definition, and no password is in a command line or a file that others can read.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    program = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.execvpe(program["command"][0], program["command"], program["environment"])


if __name__ == "__main__":
    main()
