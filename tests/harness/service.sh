# What both starters share; sourced, not run. A starter sets NAME, VERSION, GOAL and READY_SECONDS, and defines
# `launch` (starts the service in the background, its pids in PIDS), `is_ready` and `address`; where it takes further
# options, `option NAME VALUE`, and where it takes commands on standard input, `control COMMAND ARGUMENT`.
#
#   up    start and return; DIR holds data, log and pid          down  stop what `up` started
#   run   start, print `ready ADDRESS`, and stop when standard input ends: a service for one test process, which
#         cannot outlive it, however that ends
#   fetch only download
CACHE=${BELLWETHER_CACHE:-$HOME/.cache/bellwether}
COMMAND=${1:-}
[ $# -gt 0 ] && shift
PORT="" DIR=""
while [ $# -gt 0 ]; do
  case $1 in
    --port) PORT=$2; shift 2 ;;
    --dir) DIR=$2; shift 2 ;;
    *)
      declare -F option > /dev/null && [ $# -gt 1 ] && option "$1" "$2" || { echo "unknown argument $1" >&2; exit 2; }
      shift 2
      ;;
  esac
done

declare -F control > /dev/null || control() { :; }

need() { # $1 = command, $2 = Debian package, $3 = Homebrew formula
  command -v "$1" > /dev/null || {
    echo "$1 is missing: install it with 'apt-get install $2' (Debian, Ubuntu) or 'brew install $3' (macOS)" >&2
    exit 3
  }
}

fetch() { # the service's files into the cache, once; whole or not at all, also with several of us at work
  need java openjdk-17-jre-headless openjdk@17
  FILES=$CACHE/$NAME-$VERSION
  [ -d "$FILES" ] && return
  need mvn maven maven
  mkdir -p "$CACHE"
  local parts
  parts=$(mktemp -d "$CACHE/$NAME-parts.XXXXXX")
  mvn -B -q -f "$HERE/$NAME/pom.xml" "-D$NAME.version=$VERSION" "-Djars.directory=$parts/files" "$GOAL" >&2 || {
    rm -rf "$parts"
    echo "maven could not download $NAME $VERSION: see above" >&2
    exit 3
  }
  [ -d "$FILES" ] || mv "$parts/files" "$FILES"
  rm -rf "$parts"
}

# PIDS is a list: not quoted where it is used.
alive() {
  local pid
  for pid in $PIDS; do kill -0 "$pid" 2> /dev/null || return 1; done
}

await() {
  local tries=$((READY_SECONDS * 10))
  until is_ready; do
    alive || { echo "$NAME died:" >&2; tail -n 30 "$DIR"/log* >&2; exit 1; }
    tries=$((tries - 1))
    [ $tries -gt 0 ] || { echo "$NAME is not ready after $READY_SECONDS s:" >&2; tail -n 30 "$DIR"/log* >&2; kill -KILL $PIDS; exit 1; }
    sleep 0.1
  done
}

start() {
  mkdir -p "$DIR"
  launch
  await
}

case $COMMAND in
  fetch) fetch ;;
  up)
    [ -n "$PORT" ] && [ -n "$DIR" ] || { echo "up needs --port and --dir" >&2; exit 2; }
    fetch
    start
    echo "$PIDS" > "$DIR/pid"
    echo "ready $(address)"
    ;;
  down)
    [ -s "$DIR/pid" ] || { echo "nothing was started in '$DIR'" >&2; exit 2; }
    PIDS=$(cat "$DIR/pid")
    kill $PIDS 2> /dev/null || true
    while kill -0 $PIDS 2> /dev/null; do sleep 0.1; done
    rm -f "$DIR/pid"
    ;;
  run)
    [ -n "$PORT" ] || { echo "run needs --port" >&2; exit 2; }
    fetch
    DIR=$(mktemp -d "${TMPDIR:-/tmp}/bellwether-$NAME.XXXXXX")
    PIDS=""
    finish() {
      # The data goes too, so there is nothing to shut down in order.
      [ -z "$PIDS" ] || { kill -KILL $PIDS 2> /dev/null || true; wait $PIDS 2> /dev/null || true; }
      rm -rf "$DIR"
    }
    trap finish EXIT
    trap 'exit 1' TERM INT HUP
    start
    echo "ready $(address)"
    while read -r command argument; do control "$command" "$argument"; done
    ;;
  *) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
