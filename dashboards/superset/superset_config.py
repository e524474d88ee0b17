"""Superset's settings for the local boards. This file contains no secrets: local/dashboards.py sets them in the environment."""

import json
import os

from sqlalchemy.engine import URL

SECRET_KEY = os.environ["MINUTEMARK_SUPERSET_KEY"]
SQLALCHEMY_DATABASE_URI = f"sqlite:///{os.environ['SUPERSET_HOME']}/superset.db"

# Users who have not logged in see the login form and nothing else.
PUBLIC_ROLE_LIKE = None
AUTH_USER_REGISTRATION = False
# Superset listens on loopback without TLS, and the cookie is valid only for this host.
SESSION_COOKIE_SAMESITE = "Lax"

# The boards except Decide reload every 15 s; a cached answer would be stale.
CACHE_CONFIG = DATA_CACHE_CONFIG = {"CACHE_TYPE": "NullCache"}
FEATURE_FLAGS = {"ALERT_REPORTS": False, "ENABLE_TEMPLATE_PROCESSING": False}

# Superset's default policy, without other hosts: nothing is loaded from elsewhere, not even the pixel that counts
# installations.
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "object-src": "'none'",
        "style-src": ["'self'", "'unsafe-inline'"],
        "script-src": ["'self'", "'strict-dynamic'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,
    "session_cookie_secure": False,
}


def FLASK_APP_MUTATOR(app) -> None:  # noqa: N802, Superset's name for it
    """Redirect old addresses, and install PyMySQL as MySQLdb: Superset reads the type constants of MySQLdb with any driver."""
    import pymysql

    pymysql.install_as_MySQLdb()
    app.before_request(_open_tab)


def _open_tab():
    """Redirect /superset/dashboard/minutemark-<folder>/, which was a separate board, to the tab of that folder."""
    from flask import redirect, request

    parent, _, name = request.path.rstrip("/").rpartition("/")
    if request.method == "GET" and parent == "/superset/dashboard" and name.startswith("minutemark-"):
        return redirect(f"/superset/dashboard/minutemark/#TAB-{name.removeprefix('minutemark-')}")
    return None


def DB_CONNECTION_MUTATOR(uri: URL, params: dict, *_: object) -> tuple[URL, dict]:  # noqa: N802, Superset's name for it
    """Use host, account and password of the connection warehouse_bi. Superset's own database contains none of them."""
    if uri.host != "warehouse":
        return uri, params
    account = json.loads(os.environ["AIRFLOW_CONN_WAREHOUSE_BI"])
    extra = account.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    arguments = {
        **params.get("connect_args", {}),
        "connect_timeout": 5,
        "init_command": "SET SESSION TRANSACTION READ ONLY",
    }
    if isinstance(extra.get("ssl"), dict):
        arguments["ssl"] = extra["ssl"]
    changed = uri.set(
        host=account["host"],
        port=int(account.get("port") or 3306),
        username=account["login"],
        password=account.get("password") or "",
    )
    return changed, {**params, "connect_args": arguments}
