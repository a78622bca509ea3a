"""Settings of the MLflow server: environment variables, or files that NAME_FILE names. None is an argument."""

from __future__ import annotations

import configparser
import os
import sys
import tempfile
from pathlib import Path

DATABASES = {
    "MLFLOW_BACKEND_STORE_URI": "runs, metrics and the model registry",
    "MLFLOW_AUTH_DATABASE_URI": "users and their grants",
}
SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg2://")
LEAST_PASSWORD = 12
"""MLflow's own least length."""


class Refused(Exception):
    """A setting is missing or wrong; the message never holds a value that may be secret."""

    def __init__(self, name: str, rule: str, hint: str) -> None:
        super().__init__(f"{name}: {rule}\n  next:  {hint}")


def optional(name: str, default: str = "") -> str:
    """The value of NAME, or of the file in NAME_FILE without the line's end."""
    value, path = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if value is not None and path is not None:
        raise Refused(name, f"both {name} and {name}_FILE are set", "leave one of them out")
    if path is not None:
        try:
            value = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise Refused(f"{name}_FILE", f"{path} cannot be read: {reason}", "mount the secret there") from None
    return value or default


def required(name: str, what: str) -> str:
    if not (value := optional(name)):
        raise Refused(name, f"is not set ({what})", f"give {name}, or a file of it as {name}_FILE")
    return value


def password(name: str, what: str) -> str:
    value = required(name, what)
    if len(value) < LEAST_PASSWORD:
        raise Refused(name, f"is too short ({what})", f"at least {LEAST_PASSWORD} characters")
    return value


def number(name: str, default: str) -> str:
    if not (value := optional(name, default)).isdecimal():
        raise Refused(name, "is no whole number", f"such as {default}, or leave it out")
    return value


def database(name: str) -> str:
    """A PostgreSQL URI with its driver named: SQLAlchemy 2.1 would take another one."""
    uri = required(name, f"the database of {DATABASES[name]}")
    for scheme in SCHEMES:
        if uri.startswith(scheme):
            return f"postgresql+psycopg2://{uri.removeprefix(scheme)}"
    raise Refused(name, "is no PostgreSQL database", "postgresql://USER:PASSWORD@HOST:5432/DATABASE")


def allowed_hosts() -> str:
    """Every Host header that is answered; one that is not listed gets 403."""
    name = "MLFLOW_SERVER_ALLOWED_HOSTS"
    hosts = [one.strip() for one in required(name, "the names that clients call it by").split(",") if one.strip()]
    if not hosts or any("*" in host for host in hosts):
        raise Refused(name, "every name must be written out", "such as mlflow:5000,mlflow.raysched.svc:5000")
    return ",".join(hosts)


def auth_config(uri: str) -> Path:
    """MLflow's own file of the authentication, in a new folder that only this user can enter."""
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": uri.replace("%", "%%"),  # MLflow reads it with interpolation: %40 is an error there
        "admin_username": optional("MLFLOW_AUTH_ADMIN_USERNAME", "admin"),
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
        "grant_default_workspace_access": "false",
        "auth_cache_ttl_seconds": number("MLFLOW_AUTH_CACHE_S", "30"),  # for so long an old password still opens
    }
    path = Path(tempfile.mkdtemp(prefix="mlflow-auth-")) / "basic_auth.ini"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        config.write(file)
    return path


def say(text: str) -> None:
    """One line for the container's log."""
    sys.stderr.write(f"mlflow: {text}\n")
    sys.stderr.flush()
