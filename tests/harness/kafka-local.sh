#!/usr/bin/env bash
# Real Apache Kafka (KRaft) on 127.0.0.1, without a container engine: Java 17 and Maven.
#   kafka-local.sh up --port N --dir DIR | down --dir DIR | run --port N [--brokers N] [--doors ADDRESS,…] | fetch
# Broker i listens on port N + 2 (i - 1), its controller on the port after it. Jars are kept in $BELLWETHER_CACHE (default
# ~/.cache/bellwether).
#   --brokers 3    a quorum of three: replication factor 3, two in-sync replicas needed
#   --doors A,B,…  further listeners of a single broker, on the ports after its controller's, one for each host:port that it is
#                  to tell those who come through it: where a proxy listens
# While it runs, `kill I` and `start I` on standard input crash broker I and bring it back; each is answered by a line.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=kafka VERSION=4.4.0 GOAL=dependency:copy-dependencies READY_SECONDS=120
BROKERS=1 DOORS=""
declare -A RUNNING=()

option() { # $1 = name, $2 = value
  case $1 in
    --brokers) BROKERS=$2 ;;
    --doors) DOORS=$2 ;;
    *) return 1 ;;
  esac
}

jvm() { # $1 = heap
  local heap=$1
  shift
  # A broker that lives for a minute is not worth the second compiler.
  exec java "$heap" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData -Djava.awt.headless=true \
    "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.yaml" -cp "$FILES/*" "$@"
}

port() { echo $((PORT + 2 * ($1 - 1))); }
all() { seq 1 "$BROKERS"; }

configure() { # $1 = broker
  local at i voters="" replicas=1 in_sync=1 listeners advertised protocols doors=()
  at=$(port "$1")
  for i in $(all); do voters+="${voters:+,}$i@127.0.0.1:$(($(port "$i") + 1))"; done
  # One broker: no topic can have three replicas.
  [ "$BROKERS" -lt 3 ] || { replicas=3; in_sync=2; }
  listeners="PLAINTEXT://127.0.0.1:$at,CONTROLLER://127.0.0.1:$((at + 1))"
  advertised="PLAINTEXT://127.0.0.1:$at"
  protocols="PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
  [ -z "$DOORS" ] || IFS=, read -ra doors <<< "$DOORS"
  for i in ${doors[@]+"${!doors[@]}"}; do
    listeners+=",DOOR$i://127.0.0.1:$((at + 2 + i))"
    advertised+=",DOOR$i://${doors[$i]}"
    protocols+=",DOOR$i:PLAINTEXT"
  done
  cat << P
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$voters
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=$listeners
advertised.listeners=$advertised
listener.security.protocol.map=$protocols
log.dirs=$DIR/data-$1
# Topics are created on purpose, with the right settings; a typing error must not create one.
auto.create.topics.enable=false
default.replication.factor=$replicas
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# Short enough for a test that waits for a dead worker's partitions, or for a dead broker's.
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
P
}

begin() { # $1 = broker
  local properties=$DIR/server-$1.properties
  configure "$1" > "$properties"
  [ -e "$DIR/data-$1/meta.properties" ] \
    || (jvm -Xmx96m kafka.tools.StorageTool format -t QmVsbHdldGhlckhhcm5lcw -c "$properties") \
      > "$DIR/log-$1" 2>&1 || { cat "$DIR/log-$1" >&2; exit 1; }
  : > "$DIR/log-$1"
  (jvm -Xmx256m kafka.Kafka "$properties") < /dev/null >> "$DIR/log-$1" 2>&1 &
  RUNNING[$1]=$!
  PIDS=${RUNNING[*]}
}

launch() {
  local i
  for i in $(all); do begin "$i"; done
}

is_ready() {
  local i
  for i in "${!RUNNING[@]}"; do grep -q 'Kafka Server started' "$DIR/log-$i" || return 1; done
}

address() {
  local i addresses=""
  for i in $(all); do addresses+="${addresses:+,}127.0.0.1:$(port "$i")"; done
  echo "$addresses"
}

control() { # $1 = command, $2 = broker
  case $1 in
    kill)
      kill -KILL "${RUNNING[$2]}"
      wait "${RUNNING[$2]}" 2> /dev/null || true
      unset "RUNNING[$2]"
      PIDS=${RUNNING[*]}
      ;;
    start)
      begin "$2"
      await
      ;;
    *) echo "unknown command $1" >&2; exit 2 ;;
  esac
  echo "done $1 $2"
}

. "$HERE/service.sh"
