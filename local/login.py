"""Accounts of the local Airflow: an administrator with a generated password, or no login with MINUTEMARK_LOGIN=none.

AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS, in the caller's environment or in `.env`, adds users. Each gets a generated
password here.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from local.files import write_private
from local.layout import AIRFLOW_HOME
from local.problems import Problem

SETTING = "MINUTEMARK_LOGIN"
ADMIN = "admin"
PASSWORDS = AIRFLOW_HOME / "passwords.json"
_PASSWORD, _NONE = "password", "none"
_USERS = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"


def is_required(environ: Mapping[str, str]) -> bool:
    """Whether users log in. Raises Problem for an unknown value of MINUTEMARK_LOGIN."""
    mode = environ.get(SETTING) or _PASSWORD
    if mode not in (_PASSWORD, _NONE):
        raise Problem("Login", f"{SETTING}={mode} is not a login mode", f"Use {_PASSWORD} or {_NONE}, or unset it.")
    return mode == _PASSWORD


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Airflow's settings for the login and its accounts."""
    users = [user.strip() for user in environ.get(_USERS, "").split(",")]  # Airflow strips them too
    users = [user for user in users if user and user.split(":")[0] != ADMIN]
    return {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": str(not is_required(environ)),
        _USERS: ",".join([f"{ADMIN}:admin", *users]),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(PASSWORDS),
    }


def make_passwords(airflow: Mapping[str, str]) -> None:
    """Write a password for each user without one: otherwise, Airflow would generate it and write it to its log."""
    known = _read_passwords(PASSWORDS)
    names = [user.split(":")[0] for user in airflow[_USERS].split(",")]
    write_private(PASSWORDS, json.dumps({name: secrets.token_urlsafe(12) for name in names} | known) + "\n")


def credentials(passwords: Path = PASSWORDS) -> dict[str, str]:
    """The administrator's credentials. Without a login, Airflow accepts any credentials."""
    return {"username": ADMIN, "password": _read_passwords(passwords).get(ADMIN, "")}


def _read_passwords(passwords: Path) -> dict[str, str]:
    return json.loads(passwords.read_text()) if passwords.exists() else {}
