#!/usr/bin/env bash
# Makes a Docker engine available where none answers.
#
#   eval "$(scripts/engine.sh start)"   # exports what a client needs to reach it
#   scripts/engine.sh status            # 0: one answers; says which
#   scripts/engine.sh stop              # stops the one that this script started
#
# An engine that answers is used as it is: DOCKER_HOST's, the default one, or one with a socket of its own
# below /run (two dockerds would share docker0 and hand out the same addresses twice). Where none does,
# root on Debian gets docker.io from its own package sources and a private dockerd that touches no
# /var/run/docker.sock. Only `export` lines go to stdout. Exit code 3: none, and none can be started.
set -euo pipefail

: "${COORDINATOR_ENGINE_DATA:=/var/lib/coordinator-docker}" # images: kept from run to run
: "${COORDINATOR_ENGINE_RUN:=/run/coordinator-docker}"      # a socket's path may have 108 bytes
socket=$COORDINATOR_ENGINE_RUN/docker.sock
pidfile=$COORDINATOR_ENGINE_RUN/dockerd.pid
log=$COORDINATOR_ENGINE_RUN/dockerd.log

say() { printf 'engine: %s\n' "$*" >&2; }

answers() { # $1: a unix:// or tcp:// address, or nothing for what the environment says
    if command -v docker >/dev/null; then
        env ${1:+DOCKER_HOST="$1"} timeout 5 docker version --format '{{.Server.Version}}' >/dev/null 2>&1
    else
        local at=${1:-${DOCKER_HOST:-unix:///var/run/docker.sock}}
        [[ $at == unix://* && -S ${at#unix://} ]] &&
            [[ $(curl -sm 5 --unix-socket "${at#unix://}" http://docker/_ping 2>/dev/null) == OK ]]
    fi
}

private() { # prints the address of an engine with a socket of its own
    local candidate
    for candidate in "$socket" /run/*/docker.sock "${XDG_RUNTIME_DIR:-/nonexistent}/docker.sock"; do
        [[ -S $candidate ]] && answers "unix://$candidate" && { echo "unix://$candidate"; return; }
    done
    return 1
}

# A zombie still has a name in /proc, but no command line.
runs() { [[ -f $1 ]] && tr '\0' ' ' 2>/dev/null <"/proc/$(cat "$1")/cmdline" | grep -q "^\S*$2 "; }
ours() { runs "$pidfile" dockerd; }

tell() { # a private engine serves this machine only, and has no registry to fetch testcontainers' Ryuk from
    printf 'export DOCKER_HOST=%q\n' "$1"
    # /.dockerenv may be there although the engine's ports are on this very host.
    echo 'export TESTCONTAINERS_CONNECTION_MODE=docker_host'
    echo 'export TESTCONTAINERS_RYUK_DISABLED=true'
}

install_packages() {
    command -v apt-get >/dev/null || { say "no dockerd, and no apt-get to install it with"; return 3; }
    say "installing docker.io"
    export DEBIAN_FRONTEND=noninteractive
    apt-cache show docker.io >/dev/null 2>&1 || apt-get update -qq >&2 || true
    local policy=/usr/sbin/policy-rc.d made='' status=0
    local packages=(docker.io iptables)
    # Debian 13 moved the client into a package of its own.
    apt-cache show docker-cli >/dev/null 2>&1 && packages+=(docker-cli)
    # The package must not start a daemon on the machine's default socket.
    [[ -e $policy ]] || { printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; made=1; }
    {
        apt-get install -qq -y --no-install-recommends "${packages[@]}" ||
            { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${packages[@]}"; }
    } >&2 </dev/null || status=3
    [[ -z $made ]] || rm -f "$policy"
    ((status == 0)) || say "docker.io could not be installed"
    return $status
}

launch() {
    mkdir -p "$COORDINATOR_ENGINE_DATA" "$COORDINATOR_ENGINE_RUN"
    # dockerd believes in the pid file of a containerd that was killed with it.
    local containerd=$COORDINATOR_ENGINE_RUN/exec/containerd/containerd.pid
    ! runs "$containerd" containerd || kill -9 "$(cat "$containerd")"
    rm -f "$pidfile" "$socket" "$containerd"
    # A session of its own and no inherited descriptors: it outlives this shell, and whoever waits for the
    # end of this script's output does not wait for the engine.
    # shellcheck disable=SC2016
    setsid -f bash -c '
        for fd in /proc/self/fd/*; do fd=${fd##*/}; ((fd > 2)) && eval "exec $fd>&-" 2>/dev/null; done
        exec "$@"' _ \
        dockerd --host "unix://$socket" --data-root "$COORDINATOR_ENGINE_DATA" \
        --exec-root "$COORDINATOR_ENGINE_RUN/exec" --pidfile "$pidfile" \
        --shutdown-timeout 3 --log-level warn >"$log" 2>&1 </dev/null
}

await() {
    local tenth
    for ((tenth = 0; tenth < 300; tenth++)); do
        ! answers "unix://$socket" || return 0
        ((tenth < 20)) || ours || break
        sleep 0.1
    done
    say "dockerd does not answer; the end of $log:"
    tail -n 20 "$log" >&2
    return 3
}

start() {
    local found
    if answers; then
        [[ -z ${DOCKER_HOST:-} ]] || printf 'export DOCKER_HOST=%q\n' "$DOCKER_HOST"
    elif found=$(private); then
        say "using $found"
        tell "$found"
    else
        [[ -z ${DOCKER_HOST:-} ]] || say "nothing answers at DOCKER_HOST=$DOCKER_HOST"
        [[ $(uname -s) == Linux && $(id -u) == 0 ]] ||
            { say "none answers, and only root on Linux can start one here"; return 3; }
        local command
        for command in docker dockerd iptables; do
            command -v "$command" >/dev/null || { install_packages || return 3; break; }
        done
        ours || launch
        await || return 3
        say "started (log: $log)"
        tell "unix://$socket"
    fi
}

stop() {
    if ours; then
        local pid tenth
        pid=$(cat "$pidfile")
        kill -TERM "$pid"
        for ((tenth = 0; tenth < 200; tenth++)); do ours || break; sleep 0.1; done
        ! ours || { say "still alive: kill -9"; kill -9 "$pid"; }
        say "stopped"
    fi
    [[ ! -d $COORDINATOR_ENGINE_RUN ]] || rm -f "$socket" "$pidfile"
}

status() {
    local found
    if answers; then
        echo "${DOCKER_HOST:-the default engine} answers"
    elif found=$(private); then
        echo "$found answers"
    else
        echo "no engine answers"
        return 3
    fi
}

case ${1:-start} in
start | stop | status) "${1:-start}" ;;
*) echo "usage: $0 start|stop|status" >&2; exit 2 ;;
esac
