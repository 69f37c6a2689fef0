# coordd as an image that can stand in for Milvus' own where a coordinator runs: same command line
# (`milvus run rootcoord`), same configuration file (/milvus/configs/milvus.yaml), same ports.
#
#   docker build -t coordd .
#   docker run --rm -e ETCD_ENDPOINTS=etcd:2379 coordd milvus run rootcoord

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src

# What changes seldom comes first. The dependencies are those of pyproject.toml in the versions of
# constraints.txt, for the build as for the image; of the extras the clients of Kafka and Pulsar, no etcd server.
COPY constraints.txt pyproject.toml deploy/docker/requirements.py ./
RUN python requirements.py build > build.txt \
    && python requirements.py runtime > runtime.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --constraint constraints.txt --requirement build.txt \
    && python -m venv /opt/coordd \
    && /opt/coordd/bin/pip install --constraint constraints.txt --requirement runtime.txt

COPY README.md LICENSE hatch_build.py ./
COPY proto proto
COPY coordd coordd
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /dist . \
    && /opt/coordd/bin/pip install --no-deps /dist/*.whl \
    && /opt/coordd/bin/pip check \
    && /opt/coordd/bin/python -m compileall -q /opt/coordd/lib \
    && /opt/coordd/bin/pip uninstall --yes --quiet setuptools pip


FROM ${PYTHON_IMAGE}
# tini is process 1: it forwards signals from the first moment on and reaps orphans. Its version is not
# pinned because Debian's mirrors keep the newest only.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 coordd \
    && useradd --uid 10001 --gid 10001 --no-log-init --home-dir /milvus --no-create-home \
        --shell /usr/sbin/nologin coordd

COPY --from=build /opt/coordd /opt/coordd
COPY --chmod=0755 deploy/docker/milvus deploy/docker/healthcheck /usr/local/bin/
COPY config/milvus.yaml /milvus/configs/milvus.yaml

ENV PATH=/opt/coordd/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# `<working directory>/configs` is where milvus.yaml is looked for unless MILVUSCONF says otherwise.
WORKDIR /milvus
USER 10001:10001

# rootcoord, datacoord, querycoord, management (health, metrics, log level)
EXPOSE 53100 13333 19531 9091
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["healthcheck"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["coordd", "--help"]
