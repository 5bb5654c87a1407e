# syntax=docker/dockerfile:1
# The service:        docker build --tag inventory-refresh .     see README.md, "Container", for how to run it
# For AWS MSK:        docker build --build-arg REQUIREMENTS=msk .
# The OMS sandbox:    docker build --target sandbox .            for trying things out; compose.yaml uses it
ARG PYTHON=3.13.9-slim-trixie

# Builds the wheel. The sandbox's lock file pins the build tools and the sandbox's dependencies by hash.
FROM python:${PYTHON} AS sandbox-build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/pip-cache
WORKDIR /build
RUN python -m venv /venv
# Dependencies change less often than the code, so they get their own layer.
COPY requirements/sandbox.txt requirements/
RUN --mount=type=cache,target=/pip-cache \
    /venv/bin/pip install --require-hashes --only-binary :all: --requirement requirements/sandbox.txt
COPY pyproject.toml README.md LICENSE ./
COPY consumer consumer
COPY schemas schemas
RUN /venv/bin/python -m hatchling build --target wheel --directory /dist \
 && /venv/bin/pip install --no-deps /dist/*.whl \
 && /venv/bin/python -m compileall -q /venv/lib \
 && /venv/bin/pip uninstall --yes hatchling editables pip

FROM python:${PYTHON} AS build
# Which lock file of requirements/ is installed: runtime, or msk for AWS MSK with IAM.
ARG REQUIREMENTS=runtime
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/pip-cache
WORKDIR /build
RUN python -m venv /venv
COPY requirements/runtime.txt requirements/msk.txt requirements/
RUN --mount=type=cache,target=/pip-cache \
    /venv/bin/pip install --require-hashes --only-binary :all: --requirement requirements/${REQUIREMENTS}.txt
COPY --from=sandbox-build /dist /dist
RUN /venv/bin/pip install --no-deps /dist/*.whl \
 && /venv/bin/python -m compileall -q /venv/lib \
 && /venv/bin/pip uninstall --yes pip

# The base of both images: not root, no pip, no build tools.
FROM python:${PYTHON} AS base
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RUST_BACKTRACE=0
RUN groupadd --system --gid 10001 service \
 && useradd --system --uid 10001 --gid service --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin service \
 && apt-get update \
 && apt-get install --yes --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* \
 && python -m pip uninstall --yes --root-user-action ignore pip
WORKDIR /
# A number: Kubernetes can verify runAsNonRoot only with a numeric user.
USER 10001:10001
STOPSIGNAL SIGTERM
# Process 1 ignores SIGTERM until it handles it. The command does that first of all, but on a busy node the interpreter
# alone takes longer to start than some pods live; tini is there at once.
ENTRYPOINT ["tini", "--", "inventory-refresh"]

FROM base AS sandbox
LABEL org.opencontainers.image.title="inventory-refresh-sandbox" \
      org.opencontainers.image.description="A simulated order management system for trying out inventory-refresh." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=sandbox-build /venv /venv
EXPOSE 8090
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8090/sandbox/summary', timeout=2)"]
CMD ["sandbox", "--host", "0.0.0.0"]

# The last stage is the default target.
FROM base AS service
LABEL org.opencontainers.image.title="inventory-refresh" \
      org.opencontainers.image.description="Sends inventory changes from Kafka to an order management system in few, well-sized refresh requests." \
      org.opencontainers.image.licenses="Apache-2.0"
# Freed memory goes back to the kernel at once: docs/decisions/0015-pending-rows.md. The first three are glibc's (Python),
# the last one is for jemalloc (polars).
ENV INVENTORY_REFRESH_LOG__FORMAT=json \
    MALLOC_ARENA_MAX=1 \
    MALLOC_MMAP_THRESHOLD_=131072 \
    MALLOC_TRIM_THRESHOLD_=131072 \
    _RJEM_MALLOC_CONF=dirty_decay_ms:0,muzzy_decay_ms:0
COPY --from=build /venv /venv
EXPOSE 8080
# Startup takes a few seconds; /healthz reports a stalled loop after 180 s.
HEALTHCHECK --interval=30s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('INVENTORY_REFRESH_HTTP__PORT', '8080') + '/healthz', timeout=2)"]
CMD ["run"]
