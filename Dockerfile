# The service's image: one process, any role (the command may be `python -m app serve` and so on).
# Without MONGODB_URI it cannot start: the embedded mongod is for development, not for images.

FROM python:3.11-slim AS build
# A venv is copied whole, so that pip and its cache stay behind.
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt
COPY app /srv/app
# The running user may write nothing here, so the bytecode is made now.
RUN /venv/bin/python -m compileall -q /srv/app

FROM python:3.11-slim
# A fixed number, so that volumes keep their owner from one image to the next.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin carillon \
    && install -d -o carillon -g carillon -m 0700 /data
COPY --from=build /venv /venv
COPY --from=build /srv /srv
COPY LICENSE /srv/
WORKDIR /srv
USER carillon
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/data
EXPOSE 8000
# Not urllib.request: it would ask the proxy of the environment for our own address.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=4); c.request('GET', '/health/live'); raise SystemExit(c.getresponse().status != 200)"]
# The form without a shell: signals must reach Python.
CMD ["python", "-m", "app", "all"]
