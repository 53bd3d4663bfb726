#!/usr/bin/env bash
# A real Apache Kafka broker (KRaft, one node) on 127.0.0.1, without a container engine: Java 17 and Maven.
#   kafka-local.sh up --port N --dir DIR | down --dir DIR | run --port N | fetch
# The controller listens on port N + 1. Jars are kept in $BELLWETHER_CACHE (default ~/.cache/bellwether).
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NAME=kafka VERSION=4.4.0 GOAL=dependency:copy-dependencies READY_SECONDS=60

jvm() { # $1 = heap
  local heap=$1
  shift
  exec java "$heap" -XX:+UseSerialGC -XX:-UsePerfData -Djava.awt.headless=true \
    "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.yaml" -cp "$FILES/*" "$@"
}

launch() {
  cat > "$DIR/server.properties" << P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((PORT + 1))
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:$PORT,CONTROLLER://127.0.0.1:$((PORT + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$DIR/data
# Topics are created on purpose, with the right settings; a typing error must not create one.
auto.create.topics.enable=false
# One broker: no internal topic can have three replicas.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# Short enough for a test that waits for a dead worker's partitions.
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
P
  [ -e "$DIR/data/meta.properties" ] \
    || (jvm -Xmx96m kafka.tools.StorageTool format -t QmVsbHdldGhlckhhcm5lcw -c "$DIR/server.properties") \
      > "$DIR/log" 2>&1 || { cat "$DIR/log" >&2; exit 1; }
  : > "$DIR/log"
  (jvm -Xmx256m kafka.Kafka "$DIR/server.properties") < /dev/null >> "$DIR/log" 2>&1 &
  PID=$!
}
is_ready() { grep -q 'Kafka Server started' "$DIR/log"; }
address() { echo "127.0.0.1:$PORT"; }

. "$HERE/service.sh"
