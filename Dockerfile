# The image of the service. It runs one process; the command chooses the role (for example
# `python -m app serve`). It requires MONGODB_URI: the embedded mongod, which is for development
# only, is not in the image.

FROM python:3.11.14-slim-bookworm AS build
# Only the virtual environment is copied to the final image, without pip's cache.
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt
COPY app /srv/app
# The user that runs the service cannot write here, so the bytecode is compiled now.
RUN /venv/bin/python -m compileall -q /srv/app

FROM python:3.11.14-slim-bookworm
# The user id is fixed, so that volumes have the same owner with every image.
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
# http.client, because urllib.request would send the request through the environment's proxy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=4); c.request('GET', '/health/live'); raise SystemExit(c.getresponse().status != 200)"]
# This form starts no shell, so that signals reach Python.
CMD ["python", "-m", "app", "all"]
