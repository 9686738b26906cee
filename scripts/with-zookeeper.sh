#!/usr/bin/env bash
# Prepares where a ZooKeeper comes from, then runs a command.
#
#   scripts/with-zookeeper.sh [--beside COMMAND] [--all] [CMD...]
#
# --beside: a shell command that runs while the preparation does (`make venv`). --all: fetch what a child
# process needs as well, if it can be had, so that the tests of both kinds run. Without CMD: prepare only.
# The order is that of coordinator.testing.provide(): COORDINATOR_TEST_HOSTS, a Docker engine, a child
# process. With CI=true or COORDINATOR_REQUIRE_DOCKER=1 an engine that cannot be had is an error.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'with-zookeeper: %s\n' "$*" >&2; }

required() { [[ ${CI:-} == true || ${COORDINATOR_REQUIRE_DOCKER:-} == 1 ]]; }

prepare_container() {
    local exports
    # Installing an engine and fetching packages for the image wait for different things.
    if ! command -v dockerd >/dev/null && [[ $(id -u) == 0 ]] && command -v dpkg >/dev/null &&
        ! "$scripts/engine.sh" status >/dev/null; then
        "$scripts/image/build.sh" --fetch &
    fi
    exports=$("$scripts/engine.sh" start) || return 1
    eval "$exports"
    "$scripts/image/build.sh" || return 1
    say "ZooKeeper comes from a container (engine: ${DOCKER_HOST:-the default one})"
}

prepare_process() {
    if [[ -z ${ZOOKEEPER_HOME:-} ]]; then
        ZOOKEEPER_HOME=$("$scripts/zookeeper-home.sh") || return 1
        export ZOOKEEPER_HOME
    fi
    say "ZooKeeper comes from a child process (ZOOKEEPER_HOME=$ZOOKEEPER_HOME)"
}

prepare() {
    if [[ -n ${COORDINATOR_TEST_HOSTS:-} ]]; then
        say "ZooKeeper is at $COORDINATOR_TEST_HOSTS"
    elif [[ ${COORDINATOR_ZOOKEEPER:-} == process ]]; then
        prepare_process
    elif ! prepare_container; then
        ! required || { say "no Docker engine or no image, and this run requires both"; return 1; }
        [[ ${COORDINATOR_ZOOKEEPER:-} != container ]] || { say "COORDINATOR_ZOOKEEPER=container, but none can be had"; return 1; }
        say "no container can be had: a plain process instead"
        prepare_process
    fi
}

beside= all=
while [[ ${1:-} == --* ]]; do
    case $1 in
    --beside) beside=$2; shift 2 ;;
    --all) all=1; shift ;;
    *) say "unknown option $1"; exit 2 ;;
    esac
done
if [[ -n $beside ]]; then
    bash -c "$beside" &
    beside=$!
fi
status=0
prepare || status=$?
if [[ -n $all && -z ${ZOOKEEPER_HOME:-} ]] && home=$("$scripts/zookeeper-home.sh"); then
    export ZOOKEEPER_HOME=$home
fi
[[ -z $beside ]] || wait "$beside" || status=$?
((status == 0)) || exit "$status"
(($# > 0)) || exit 0

exec "$@"
