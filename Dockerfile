# The daemon in a container. The home is the volume /data, the key that outlives it (docs/security.md) the volume /keys;
# nothing else is written but /tmp, so the root may be read-only. TORCH=cu126 and the like build it for a GPU.
FROM python:3.12-slim
ARG TORCH=cpu
# nothing that was fetched stays in the image
ARG UV_NO_CACHE=1
ARG PIP_NO_CACHE_DIR=1
RUN command -v make || { apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*; }
WORKDIR /opt/flywheel
COPY Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY scripts/install scripts/install
COPY flywheel flywheel
COPY consumers consumers
COPY trainer trainer
RUN make setup ONLY=model TORCH=${TORCH}
RUN useradd --uid 10001 --create-home flywheel && mkdir /data /keys && chown flywheel /data /keys
USER 10001
ENV PATH=/opt/flywheel/.venv/bin:$PATH FLYWHEEL_HOME=/data FLYWHEEL__KEEPING__ERASURE_KEY_FILE=/keys/erasure.key
VOLUME /data /keys
EXPOSE 8642
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8642/healthz', timeout=5)"]
CMD ["sh", "-c", "flywheel init && exec flywheel run"]
