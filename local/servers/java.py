"""The Java that runs Cassandra, Kafka, Kafka Connect and Spark's standalone servers, and the flags that they share."""

from __future__ import annotations

import os
import shutil

from local.problems import Problem


def java() -> str:
    """The path of java, of JAVA_HOME if that is set. Raises Problem if there is none."""
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if not path and home:
        remedy = "Set it to the folder of a Java 17 installation, or unset it to use PATH."
        raise Problem("Java", f"JAVA_HOME={home} has no bin/java", remedy)
    if not path:
        remedy = "Install Java 17 (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME."
        raise Problem("Java", "java is not on the PATH", remedy)
    return path


def flags(heap_mb: int, *, first_mb: int = 64, small: bool = True) -> list[str]:
    """Memory, collector and compiler. A `small` server has the serial collector and only the first compiler."""
    return [
        f"-Xms{first_mb}M",
        f"-Xmx{heap_mb}M",
        *(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"] if small else ["-XX:+UseG1GC"]),
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.net.preferIPv4Stack=true",
    ]
