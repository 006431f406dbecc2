#!/bin/sh
# Starts Redis in the container of docker-compose.yml. The password goes through standard input,
# because every user of the machine can read the arguments of a process.
set -eu
case "$REDISCLI_AUTH" in
  '' | *[!A-Za-z0-9]*)
    echo 'REDIS_PASSWORD must consist of letters and digits.' >&2
    exit 1
    ;;
esac
exec docker-entrypoint.sh redis-server - "$@" <<END
requirepass $REDISCLI_AUTH
END
