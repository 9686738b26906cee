#!/bin/bash
# ZooKeeper's own command line, with a JVM that starts fast.
: "${ZOO_HOME:=/opt/zookeeper}"
# shellcheck disable=SC2086
exec java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx64m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$ZOO_HOME/lib/*" ${CLIENT_JVMFLAGS:-} ${JVMFLAGS:-} \
    org.apache.zookeeper.ZooKeeperMain "$@"
