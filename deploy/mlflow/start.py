"""The MLflow server of sweeps: `start.py [migrate] [provision] [serve]`, or `start.py health`.

All settings come from the environment or from files (settings.py). Needs mlflow[auth] and psycopg2.
"""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Callable
from typing import NoReturn

import settings

OURS = ("MLFLOW_AUTH_DATABASE_URI", "MLFLOW_VIEWER_PASSWORD", "MLFLOW_SERVICE_USERNAME", "MLFLOW_SERVICE_PASSWORD")
WEAKER = ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_GUNICORN_OPTS", "MLFLOW_BASIC_AUTH_FAIL_CLOSED")
"""Settings that would turn the check of hosts or the refusal of unknown routes off."""
LEAST_KEY = 32


def serve() -> NoReturn:
    """Become the server. Its command line holds no secret, and its environment only those that it needs."""
    backend = settings.database("MLFLOW_BACKEND_STORE_URI")
    auth = settings.database("MLFLOW_AUTH_DATABASE_URI")
    key = settings.required("MLFLOW_FLASK_SERVER_SECRET_KEY", "what protects forms from other sites")
    if len(key) < LEAST_KEY:
        raise settings.Refused("MLFLOW_FLASK_SERVER_SECRET_KEY", "is too short", f"at least {LEAST_KEY} characters")
    admin_password = settings.optional("MLFLOW_AUTH_ADMIN_PASSWORD")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in (*OURS, *WEAKER) and not (name.startswith("MLFLOW_") and name.endswith("_FILE"))
    }
    environment |= {
        "MLFLOW_BACKEND_STORE_URI": backend,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": key,
        "MLFLOW_ARTIFACTS_DESTINATION": settings.required("MLFLOW_ARTIFACTS_DESTINATION", "a folder, or s3://..."),
        "MLFLOW_SERVER_ALLOWED_HOSTS": settings.allowed_hosts(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_AUTH_CONFIG_PATH": str(settings.auth_config(auth)),
    }
    environment.pop("MLFLOW_AUTH_ADMIN_PASSWORD", None)
    if admin_password:  # only a first start without `provision` needs it
        environment["MLFLOW_AUTH_ADMIN_PASSWORD"] = admin_password
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--serve-artifacts"]
    command += ["--host", settings.optional("MLFLOW_HOST", "0.0.0.0"), "--port", _port()]
    command += ["--workers", settings.number("MLFLOW_WORKERS", "1")]
    os.execve(sys.executable, command, environment)


def health() -> None:
    """For probes that run a command; /health needs neither a password nor a listed host."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{_port()}/health", timeout=5).close()
    except OSError as error:
        raise settings.Refused("health", f"the server does not answer: {error}", "look at its log") from None


def _port() -> str:
    return settings.number("MLFLOW_PORT", "5000")


def migrate() -> None:
    import databases

    databases.migrate()


def provision() -> None:
    import users

    users.provision()


STEPS: dict[str, Callable[[], None]] = {"migrate": migrate, "provision": provision, "serve": serve, "health": health}


def main(steps: list[str]) -> int:
    unknown = [step for step in steps if step not in STEPS]
    if unknown or not steps:
        settings.say(f"{' '.join(unknown) or 'no step'}: the steps are {', '.join(STEPS)}")
        return 2
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        for step in steps:
            STEPS[step]()
    except settings.Refused as refused:
        settings.say(str(refused))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
