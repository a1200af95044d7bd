# The daemon in a container. The home is the volume /data; TORCH=cu126 and the like build it for a GPU.
FROM python:3.12-slim
ARG TORCH=cpu
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/flywheel
COPY Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY scripts/install scripts/install
COPY flywheel flywheel
COPY consumers consumers
COPY trainer trainer
RUN make setup TORCH=${TORCH}
RUN useradd --create-home flywheel && mkdir /data && chown flywheel /data
USER flywheel
ENV PATH=/opt/flywheel/.venv/bin:$PATH FLYWHEEL_HOME=/data
VOLUME /data
EXPOSE 8642
CMD ["sh", "-c", "flywheel init && exec flywheel run"]
