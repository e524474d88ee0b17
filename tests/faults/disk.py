"""A small separate disk for the warehouse's data, which can be full while the machine's disk is not."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

SIZE = 1_500 * 1024**2  # bytes: a fresh data folder takes 300 MB, the events of all scenarios less than another 300 MB
FILLER = "filler"


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Mount a small file system on `folder` for the duration of the block, if that is allowed."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "minutemark-faults", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def is_small(folder: Path) -> bool:
    """Whether `folder` is a separate disk."""
    return folder.is_mount()


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill the disk of `folder` to the last byte during the block."""
    filler = folder / FILLER
    try:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        yield
    finally:
        filler.unlink()
