#!/usr/bin/env bash
# A schema registry with Confluent's API (Apicurio, in memory) on 127.0.0.1, without a container engine: Java 17 and Maven.
#   registry-local.sh up --port N --dir DIR | down --dir DIR | run --port N | fetch
# Port N + 1 serves management. Files are kept in $BELLWETHER_CACHE (default ~/.cache/bellwether).
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Apicurio 3.x needs Java 21.
NAME=registry VERSION=2.6.13.Final GOAL=dependency:unpack READY_SECONDS=90

command -v curl > /dev/null || { echo "curl is missing: install it with 'apt-get install curl' (Debian, Ubuntu)" >&2; exit 3; }

launch() {
  local jar=$FILES/quarkus-run.jar
  [ -e "$jar" ] || jar=$(ls "$FILES"/*-runner.jar)
  (
    cd "$DIR"
    exec env QUARKUS_HTTP_HOST=127.0.0.1 "QUARKUS_HTTP_PORT=$PORT" QUARKUS_MANAGEMENT_HOST=127.0.0.1 \
      "QUARKUS_MANAGEMENT_PORT=$((PORT + 1))" QUARKUS_LOG_LEVEL=WARN java -Xmx256m -XX:+UseSerialGC -jar "$jar"
  ) < /dev/null > "$DIR/log" 2>&1 &
  PIDS=$!
}
is_ready() { curl -sf -m 2 -o /dev/null "$(address)/subjects"; }
address() { echo "http://127.0.0.1:$PORT/apis/ccompat/v7"; }

. "$HERE/service.sh"
