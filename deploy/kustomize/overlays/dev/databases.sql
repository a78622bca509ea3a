-- The server makes `optuna` itself (POSTGRES_DB).
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
