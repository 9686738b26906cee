#!/bin/bash
# The verb of the official zkServer.sh that a container needs, and `status`, which asks the server itself.
: "${ZOO_CONF_DIR:=/conf}" "${ZOO_HOME:=/opt/zookeeper}" "${ZK_SERVER_HEAP:=1000}"
case ${1:-} in
start-foreground)
    # JVMFLAGS stand last, so that a test's flag wins.
    # shellcheck disable=SC2086
    exec java -Xshare:auto "-Xmx${ZK_SERVER_HEAP}m" -XX:+ExitOnOutOfMemoryError \
        -Dzookeeper.log.dir="${ZOO_LOG_DIR:-/logs}" \
        -Dorg.slf4j.simpleLogger.showDateTime=true \
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS" \
        -cp "$ZOO_HOME/lib/*" ${SERVER_JVMFLAGS:-} ${JVMFLAGS:-} \
        org.apache.zookeeper.server.quorum.QuorumPeerMain "$ZOO_CONF_DIR/zoo.cfg"
    ;;
status)
    printf srvr | nc 127.0.0.1 "${2:-2181}" | grep -E '^(Zookeeper version|Mode):'
    ;;
*)
    echo "usage: zkServer.sh start-foreground|status [port]" >&2
    exit 2
    ;;
esac
