"""The tests' own sink as a plugin of a Connect worker: StrictSink.java, which stands in for the DataStax sink."""

from __future__ import annotations

import shutil
from pathlib import Path

CLASS = "minutemark.tests.StrictSink"
JAVA = Path(__file__).with_name("connect")


def compile_classes(transform: Path, into: Path) -> Path:
    """Compile the tests' classes against those of the project's transform; returns `into`."""
    from local import connect
    from local.layout import SPARK_JARS

    connect.compile_java(JAVA, into, classes=[transform, *SPARK_JARS.glob("*.jar")])
    return into


def plugin(classes: Path, folder: Path) -> Path:
    """Make the folder of a plugin: the jar of these classes, beside those of the Cassandra driver."""
    from local.layout import SPARK_JARS

    folder.mkdir()
    jar = Path(shutil.make_archive(str(folder / "strict-sink"), "zip", classes))
    jar.rename(jar.with_suffix(".jar"))
    for driver in SPARK_JARS.glob("*.jar"):
        if not driver.name.startswith(("spark-", "mysql-", "scala-")):
            (folder / driver.name).symlink_to(driver)
    return folder
