"""How much memory an import needs for files that are crafted to exhaust it: `python -m bench.hostile_files`.

Each file is unpacked, fingerprinted and read into records, as in an import, but nothing is written.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from include.files.record_files import FileRefused, fingerprint, open_records

MEGABYTES = 60
SIZE = MEGABYTES * 1_000_000
HEADER = b"create_time,ed\n"
GOOD = b"a,x\n"

FILES: dict[str, Callable[[], bytes]] = {
    "a line of NULs": lambda: HEADER + GOOD + b"\0" * SIZE + b"\n" + GOOD,
    "a line of NULs, gzipped": lambda: gzip.compress(HEADER + GOOD + b"\0" * SIZE + b"\n" + GOOD),
    "a line of NULs, bzip2": lambda: bz2.compress(HEADER + GOOD + b"\0" * SIZE + b"\n" + GOOD),
    "a line of NULs, xz": lambda: lzma.compress(HEADER + GOOD + b"\0" * SIZE + b"\n" + GOOD),
    "a line of commas": lambda: HEADER + b"," * SIZE + b"\n" + GOOD,
    "a line of bytes that are not UTF-8": lambda: HEADER + b"\xff" * SIZE + b"\n" + GOOD,
    "a line of four-byte characters": lambda: HEADER + "𝄞".encode() * (SIZE // 4) + b"\n" + GOOD,
    "a header that never ends": lambda: b"create_time," + b"x" * SIZE,
    "a quote that is never closed, in one line": lambda: HEADER + b'"' + b"x" * SIZE,
    "a quote that is never closed, short lines": lambda: HEADER + b'a,"open\n' + GOOD * (SIZE // 40),
    "a record of quoted line ends": lambda: HEADER + b'a,"\n' + b'","\n' * (SIZE // 400),
    "blank lines": lambda: HEADER + b"\n" * (SIZE // 10),
    "a JSON line that never ends": lambda: b'{"ed":1}\n{"ed":"' + b"x" * SIZE,
    "brackets in a JSON line": lambda: b'{"ed":1}\n' + b'{"ed":' + b"[" * SIZE,
}


def main() -> None:
    print(f"{'file of at most about ' + str(MEGABYTES) + ' MB, unpacked':45} {'peak MB':>8} {'seconds':>8}  outcome")
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name:
        path = Path(name) / "file"
        for what, content in FILES.items():
            path.write_bytes(content())
            tracemalloc.start()
            start = time.monotonic()
            outcome = read(path)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            print(f"{what:45} {peak / 1e6:8.1f} {time.monotonic() - start:8.1f}  {outcome}", flush=True)


def read(path: Path) -> str:
    """How many records were read and rejected, or why the file was refused."""
    good = bad = 0
    try:
        damage = fingerprint(path).damage
        with open_records(path, ("create_time", "ed"), damage=damage) as file:
            for record in file.records():
                good, bad = good + (record.problem is None), bad + (record.problem is not None)
    except FileRefused as refused:
        return str(refused).partition(": ")[2][:90]
    return f"{good} records, {bad} rejected"


if __name__ == "__main__":
    main()
