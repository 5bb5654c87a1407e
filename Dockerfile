# syntax=docker/dockerfile:1
# Build: docker build -t inventory-refresh .     Run: see README.md, "A container".
ARG PYTHON=3.13.9-slim-trixie

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /venv
# Dependencies change less often than the code: a layer of their own.
COPY requirements/runtime.txt requirements/
RUN /venv/bin/pip install --require-hashes --only-binary :all: --requirement requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY requirements/build.in requirements/
COPY consumer consumer
COPY schemas schemas
RUN pip install --requirement requirements/build.in \
 && python -m hatchling build --target wheel --directory dist \
 && /venv/bin/pip install --no-deps dist/*.whl \
 && /venv/bin/python -m compileall -q /venv/lib \
 && /venv/bin/pip uninstall --yes pip

FROM python:${PYTHON}
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RUST_BACKTRACE=0 \
    INVENTORY_REFRESH_LOG__FORMAT=json
RUN groupadd --system --gid 10001 service \
 && useradd --system --uid 10001 --gid service --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin service
COPY --from=build /venv /venv
WORKDIR /
# By number: Kubernetes can only tell from a number that it is not root.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ.get('INVENTORY_REFRESH_HTTP__PORT', '8080') + '/healthz', timeout=2)"]
ENTRYPOINT ["inventory-refresh"]
CMD ["run"]
