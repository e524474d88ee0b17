"""Sets up Superset's own database, roles and accounts, and loads the boards of the folders beside this file.

Runs in Superset's environment at each start, before the server starts. Every step can be repeated.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import tabs
import yaml
from superset.app import create_app

FOLDER = Path(__file__).parent
KINDS = ("databases", "datasets", "charts")
# The boards belong to an account that nobody can log in with: users view them, and change copies.
OWNER = "minutemark"


def bundle() -> dict[str, str]:
    """Every YAML file of <folder>/<kind>/ by the name that an export would give it, and the boards as one dashboard."""
    files = {"metadata.yaml": yaml.safe_dump({"version": "1.0.0", "type": "assets"})}
    for kind in KINDS:
        for path in sorted(FOLDER.glob(f"*/{kind}/*.yaml")):
            files[f"{kind}/{path.parts[-3]}_{path.name}"] = path.read_text(encoding="utf-8")
    files[f"dashboards/{tabs.SLUG}.yaml"] = yaml.safe_dump(tabs.dashboard(tabs.boards()))
    return files


def remove_single_boards() -> None:
    """Delete the dashboards of earlier versions, which loaded each board as a separate one."""
    from superset.extensions import db
    from superset.models.dashboard import Dashboard

    for board in tabs.boards().values():
        for dashboard in db.session.query(Dashboard).filter_by(uuid=board["uuid"]):
            db.session.delete(dashboard)
    db.session.commit()


def migrate() -> None:
    from flask_migrate import upgrade
    from superset.extensions import appbuilder

    upgrade()
    appbuilder.add_permissions(update_perms=True)
    appbuilder.sm.sync_role_definitions()


def ensure_account(name: str, roles: list[str], password: str, active: bool):
    """Create or update the account with these roles and this password; returns it."""
    from superset.extensions import appbuilder, db

    manager = appbuilder.sm
    wanted = [manager.find_role(role) for role in roles]
    user = manager.find_user(name)
    if not user:
        user = manager.add_user(name, name.capitalize(), "of Minutemark", f"{name}@localhost", wanted, password)
        if not user:
            raise SystemExit(f"Superset's database: account {name} cannot be created; the lines above say why.")
    else:
        user.roles = wanted
        manager.reset_password(user.id, password)
    user.active = active
    db.session.commit()
    return user


def main() -> None:
    app = create_app()
    with app.app_context():
        migrate()
        from superset.commands.importers.v1.assets import ImportAssetsCommand
        from superset.utils.core import override_user

        owner = ensure_account(OWNER, ["Admin"], secrets.token_urlsafe(32), active=False)
        # Users can view the boards, create charts and run SQL as the read-only account, but change no settings or accounts.
        ensure_account("analyst", ["Alpha", "sql_lab"], os.environ["MINUTEMARK_SUPERSET_PASSWORD"], active=True)
        with override_user(owner):
            ImportAssetsCommand(bundle()).run()
            remove_single_boards()
    print("The boards are loaded.")


if __name__ == "__main__":
    main()
