# batcher's image: the CLI and the workers. Built with: docker compose build
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY batcher batcher
COPY workers workers
COPY jobs jobs
RUN python -m venv /opt/batcher \
    && /opt/batcher/bin/pip install --no-cache-dir --constraint constraints.txt ".[office,parquet,postgres,metrics]"

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 batcher
COPY --from=build /opt/batcher /opt/batcher
ENV PATH=/opt/batcher/bin:$PATH PYTHONUNBUFFERED=1 BATCHER_HOME=/tmp/batcher
USER batcher
WORKDIR /home/batcher
# Celery stops warmly on SIGTERM: calls in flight are answered and stored first.
STOPSIGNAL SIGTERM
CMD ["batcher", "worker"]
