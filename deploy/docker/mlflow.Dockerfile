# The MLflow server of sweeps. Build it in the repository's root:
#   docker build -f deploy/docker/mlflow.Dockerfile -t raysched-mlflow:3.17.2 .
# To pin the base by content as well: --build-arg BASE=python:3.11.15-slim-trixie@sha256:<digest>, the digest from
#   docker buildx imagetools inspect python:3.11.15-slim-trixie
ARG BASE=python:3.11.15-slim-trixie

FROM ${BASE} AS packages
COPY deploy/mlflow/requirements.txt /tmp/requirements.txt
# Wheels only: nothing is compiled, so no compiler is ever there.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary=:all: --no-deps \
        -r /tmp/requirements.txt \
    && /opt/venv/bin/pip check \
    && /opt/venv/bin/pip uninstall --yes pip \
    && find /opt/venv -name tests -type d -prune -exec rm -rf {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="raysched-mlflow" \
      org.opencontainers.image.description="MLflow server of raysched's sweeps" \
      org.opencontainers.image.version="3.17.2" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 1000 mlflow \
    && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mlflow \
    && install --directory --owner=1000 --group=1000 --mode=0750 /artifacts
COPY --from=packages /opt/venv /opt/venv
COPY --chmod=0555 deploy/mlflow/*.py /opt/raysched-mlflow/
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true
USER 1000:1000
WORKDIR /tmp
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python", "/opt/raysched-mlflow/start.py", "health"]
ENTRYPOINT ["python", "/opt/raysched-mlflow/start.py"]
CMD ["serve"]
