# One image for the API, the workers and the dashboard: `docker run onceq api|worker|dashboard`.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /venv
# What rarely changes first: the pinned dependencies, each checked by its hash.
COPY requirements-run.lock ./
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-run.lock
COPY pyproject.toml README.md ./
COPY sdk sdk
COPY service service
COPY dashboard dashboard
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.13-slim
COPY --from=build /venv /venv
RUN useradd --create-home --uid 10001 onceq && mkdir /data && chown onceq /data
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ONCEQ_HOST=0.0.0.0 ONCEQ_DATA_DIR=/data ONCEQ_LOG_JSON=true
USER onceq
WORKDIR /home/onceq
ENTRYPOINT ["onceq"]
CMD ["--help"]
