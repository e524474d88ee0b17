"""What tests need from the machine's Java."""

from __future__ import annotations

import subprocess

import pytest


def needs_java_compiler() -> None:
    """Skip the test if Java is a JRE, which has no compiler."""
    from local.servers.java import java

    modules = subprocess.run([java(), "--list-modules"], capture_output=True, text=True).stdout
    if "jdk.compiler" not in modules:
        pytest.skip("This Java has no compiler: install a JDK (Debian: apt-get install openjdk-17-jdk-headless).")
