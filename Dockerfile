# Two stages: wheels are installed with their hashes in the first, the second holds only what runs.
FROM python:3.11-slim AS build
# For server/gateway/_outlet.c; without it the gateway writes in Python, at a higher cost.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY .requirements.lock pyproject.toml README.md ./
RUN python -m venv /opt/fourtalk \
    && /opt/fourtalk/bin/pip install --no-cache-dir --require-hashes -r .requirements.lock
COPY server server
COPY rooms rooms
COPY billing billing
COPY migrations migrations
# Node, for the browser client, comes as a wheel and stays in this stage.
RUN /opt/fourtalk/bin/pip install --no-cache-dir --no-deps . \
    && /opt/fourtalk/bin/python -c "import server.gateway._outlet"

FROM python:3.11-slim
RUN useradd --system --create-home --home-dir /var/lib/fourtalk --shell /usr/sbin/nologin fourtalk
COPY --from=build /opt/fourtalk /opt/fourtalk
ENV PATH=/opt/fourtalk/bin:$PATH FOURTALK_DATA_DIR=/var/lib/fourtalk/data PYTHONUNBUFFERED=1
USER fourtalk
WORKDIR /var/lib/fourtalk
VOLUME /var/lib/fourtalk
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
CMD ["fourtalk", "serve", "--host", "0.0.0.0"]
