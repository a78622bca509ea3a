"""The users of the server, as the secrets name them. To repeat it with new passwords is how they are rotated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import databases
import settings

if TYPE_CHECKING:
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

WORKSPACE = "default"
VIEWERS = "viewers"
"""Role of people who look at every sweep and change none."""
SEEN = ("experiment", "registered_model")


def provision() -> None:
    """Make, or correct, the administrator, the user of raysched, and the role and user of people who only look.

    The user of raysched needs no grant: who makes an experiment or a registered model may manage it, and sees no
    other's.
    """
    uri = settings.database("MLFLOW_AUTH_DATABASE_URI")
    admin = settings.optional("MLFLOW_AUTH_ADMIN_USERNAME", "admin")
    users = [(admin, settings.password("MLFLOW_AUTH_ADMIN_PASSWORD", "of the administrator"), True)]
    service = settings.required("MLFLOW_SERVICE_USERNAME", "the user that sweeps log in as")
    users.append((service, settings.password("MLFLOW_SERVICE_PASSWORD", "of the user that sweeps log in as"), False))
    if viewer := settings.optional("MLFLOW_VIEWER_USERNAME"):
        users.append((viewer, settings.password("MLFLOW_VIEWER_PASSWORD", "of the user who only looks"), False))
    if len({name for name, _, _ in users}) < len(users):
        raise settings.Refused("MLFLOW_SERVICE_USERNAME", "two users have one name", "give each a name of its own")

    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    with databases.locked(uri):
        store = SqlAlchemyStore()
        store.init_db(uri)
        try:
            for name, password, is_admin in users:
                settings.say(f"user {name}: {_bring_up(store, name, password, is_admin)}")
            _bring_up_viewers(store, viewer)
        finally:
            store.engine.dispose()


def _bring_up(store: SqlAlchemyStore, name: str, password: str, is_admin: bool) -> str:
    """What was done."""
    if not store.has_user(name):
        store.create_user(name, password, is_admin=is_admin)
        return "made"
    done = []
    if not store.authenticate_user(name, password):
        store.update_user(name, password=password)
        done.append("new password")
    if store.get_user(name).is_admin != is_admin:
        store.update_user(name, is_admin=is_admin)
        done.append("administrator" if is_admin else "no administrator any more")
    return ", ".join(done) or "as it was"


def _bring_up_viewers(store: SqlAlchemyStore, viewer: str) -> None:
    roles = {role.name: role for role in store.list_roles([WORKSPACE])}
    role = roles.get(VIEWERS) or store.create_role(VIEWERS, WORKSPACE, "sees every sweep, changes none")
    granted = {(one.resource_type, one.resource_pattern) for one in store.list_role_permissions(role.id)}
    for kind in SEEN:
        if (kind, "*") not in granted:
            store.add_role_permission(role.id, kind, "*", "READ")
    if viewer:
        user = store.get_user(viewer)
        if role.id not in {one.id for one in store.list_user_roles(user.id)}:
            store.assign_role_to_user(user.id, role.id)
