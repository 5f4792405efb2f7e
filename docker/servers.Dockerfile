# What the servers of compose.yaml run, without PyTorch and without mimic: they only keep and show.
#   docker build -f docker/servers.Dockerfile --target servers -t mimic-servers:local .
# A new volume takes the owner of the folder that it is mounted on: these belong to the server's user.

FROM rclone/rclone:1.75.2@sha256:2687085f718d3c628f7fdfb77c52a1d344332aed543110bb88088f2c70d43eb5 AS store
RUN mkdir -p /data/lab && chown -R 10001:10001 /data
USER 10001:10001

FROM python:3.11.16-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84 AS servers
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true PREFECT_SERVER_ANALYTICS_ENABLED=false
COPY constraints.txt /srv/
RUN pip install --constraint /srv/constraints.txt prefect mlflow psycopg2-binary \
    && install -d -o 10001 -g 10001 /prefect /artifacts
WORKDIR /srv
ENV HOME=/tmp
USER 10001:10001
CMD ["prefect", "version"]
