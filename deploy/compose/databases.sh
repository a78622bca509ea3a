#!/bin/sh
# The databases and their owners, made once on an empty server (the postgres image runs this by itself).
# `optuna` may not even connect to the databases of MLflow, nor `mlflow` to that of the search.
set -eu
secrets=${SECRETS:-/run/secrets}
for name in optuna-password mlflow-db-password; do
    test -s "$secrets/$name" || { echo "databases: $secrets/$name is missing" >&2; exit 2; }
done
export secrets

# The passwords are read by psql itself: arguments are shown to everybody.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="${POSTGRES_USER:-postgres}" --dbname=postgres --quiet <<'SQL'
\set optuna_password `cat "$secrets/optuna-password"`
\set mlflow_password `cat "$secrets/mlflow-db-password"`
CREATE ROLE optuna LOGIN PASSWORD :'optuna_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE optuna OWNER optuna;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT ON DATABASE optuna, mlflow, mlflow_auth FROM PUBLIC;
SQL
