#!/bin/sh
# Starts mongod in the container of docker-compose.yml. A replica set with passwords requires a key
# file by which its members recognise each other. This set has one member, so each start creates a
# new key.
set -eu
umask 077
for value in "$MONGODB_PASSWORD" "$MONGODB_ROOT_PASSWORD"; do
  case "$value" in
    '' | *[!A-Za-z0-9]*)
      echo 'MONGODB_PASSWORD and MONGODB_ROOT_PASSWORD must consist of letters and digits.' >&2
      exit 1
      ;;
  esac
done
key="${TMPDIR:-/tmp}/mongodb.key"
rm -f "$key"
head -c 48 /dev/urandom | base64 -w 0 > "$key"
chown mongodb "$key"
exec docker-entrypoint.sh mongod --keyFile "$key" "$@"
