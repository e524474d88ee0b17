"""Superset's settings for the local boards. It contains no secrets: local/dashboards.py passes them in the environment."""

import json
import os

from sqlalchemy.engine import URL

SECRET_KEY = os.environ["MINUTEMARK_SUPERSET_KEY"]
SQLALCHEMY_DATABASE_URI = f"sqlite:///{os.environ['SUPERSET_HOME']}/superset.db"

# Users who have not logged in see the login form and nothing else.
PUBLIC_ROLE_LIKE = None
AUTH_USER_REGISTRATION = False
# On loopback there is no TLS, and the cookie is good for this host alone.
SESSION_COOKIE_SAMESITE = "Lax"

# The boards except Decide reload every 15 s; a cached answer would not be new.
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
    """Superset names the types of a result by the constants of MySQLdb, whichever driver is configured."""
    import pymysql

    pymysql.install_as_MySQLdb()
    app.before_request(_open_tab)


def _open_tab():
    """/superset/dashboard/minutemark-<folder>/ was a separate board, and opens that tab now."""
    from flask import redirect, request

    parent, _, name = request.path.rstrip("/").rpartition("/")
    if request.method == "GET" and parent == "/superset/dashboard" and name.startswith("minutemark-"):
        return redirect(f"/superset/dashboard/minutemark/#TAB-{name.removeprefix('minutemark-')}")
    return None


def DB_CONNECTION_MUTATOR(uri: URL, params: dict, *_: object) -> tuple[URL, dict]:  # noqa: N802, Superset's name for it
    """Host, account and password of connection warehouse_bi, at each connect; Superset's own database holds none of them."""
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
