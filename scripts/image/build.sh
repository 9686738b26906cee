#!/usr/bin/env bash
# Makes the image zookeeper:3.9 available: there already, else pulled, else built.
#
# The build takes Debian packages alone: no base image, no Dockerfile, no chroot, no root (but for the
# engine). They are unpacked with `dpkg -x`, so that no maintainer script runs, and handed to `docker import`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/image/packages.sh
source "$here/packages.sh"

tag=${COORDINATOR_ZOOKEEPER_IMAGE:-zookeeper:3.9}
: "${COORDINATOR_PULL_TIMEOUT:=45}" # seconds; a registry that refuses does so at once
debs=$COORDINATOR_CACHE/image-debs
jre=openjdk-21-jre-headless
userland=(base-files libc6 libgcc-s1 libstdc++6 zlib1g busybox-static bash libtinfo6 "$jre")
# zookeeper, slf4j, metrics and snappy are what a server loads; netty is for TLS, jetty, servlet and jackson
# for the AdminServer, commons for zkCli.sh.
java=(libzookeeper-java libslf4j-java libdropwizard-metrics-java libsnappy-java libnetty-java
    libcommons-io-java libcommons-cli-java libjackson2-core-java libjackson2-databind-java
    libjackson2-annotations-java libjetty9-java libservlet-api-java)
jars=(zookeeper zookeeper-jute slf4j-api slf4j-simple metrics-core snappy-java commons-io commons-cli
    jackson-core jackson-databind jackson-annotations servlet-api
    jetty9-{server,servlet,http,io,util,util-ajax,security}
    netty-{buffer,codec,common,handler,resolver,transport,transport-native-epoll,transport-native-unix-common})

say() { printf 'image: %s\n' "$*" >&2; }
there() { docker image inspect "$tag" >/dev/null 2>&1; }

pull() {
    say "pulling $tag"
    timeout "$COORDINATOR_PULL_TIMEOUT" docker pull -q "$tag" >/dev/null 2>&1
}

fetch() {
    local package
    for package in "${userland[@]}" "${java[@]}"; do
        compgen -G "$debs/${package}_*.deb" >/dev/null && continue
        say "fetching Debian packages"
        rm -rf "$debs"
        fetch_packages "$debs" "${userland[@]}" "${java[@]}"
        return
    done
}

unpack() { # the root file system of $1, the jars' packages of $2
    local root=$1 unpacked=$2 deb
    dpkg -x "$debs"/base-files_*.deb "$root" # first: it brings /bin -> usr/bin and so on
    for deb in "$debs"/*.deb; do
        case ${deb##*/} in
        base-files_*) ;;
        lib*-java_*) dpkg -x "$deb" "$unpacked" & ;;
        *) dpkg -x "$deb" "$root" & ;;
        esac
    done
    wait
}

prune() {
    local root=$1 jvm
    rm -rf "$root"/usr/share/{doc,man,info,locale,lintian,bug,binfmts,apport,base-files,common-licenses} \
        "$root"/usr/lib/*-linux-gnu/{gconv,audit} "$root"/usr/{games,src,include} "$root"/{boot,home,media,mnt,srv}
    jvm=$(echo "$root"/usr/lib/jvm/java-[0-9][0-9]-openjdk-"$(dpkg --print-architecture)")
    rm -rf "$jvm"/{man,docs,legal} "$jvm"/lib/server/classes_nocoops.jsa \
        "$jvm"/lib/lib{awt,awt_headless,mlib_image,javajpeg,fontmanager,lcms,jsound,saproc}.so
    ln -sf "../lib/jvm/${jvm##*/}/bin/java" "$root/usr/bin/java"
}

furnish() {
    local root=$1 unpacked=$2 name
    local home=$root/opt/zookeeper
    busybox=$(cd "$root" && ls usr/bin/busybox bin/busybox 2>/dev/null | head -n 1)
    "$root/$busybox" --list | while read -r name; do
        [[ -e $root/usr/bin/$name || -e $root/usr/sbin/$name ]] || ln -s busybox "$root/usr/bin/$name"
    done
    mkdir -p "$home"/{lib,bin} "$root"/{conf,data,datalog,logs}
    for name in "${jars[@]}"; do cp -L "$unpacked/usr/share/java/$name.jar" "$home/lib/"; done
    install -m 755 "$here/zkServer.sh" "$here/zkCli.sh" "$home/bin/"
    install -m 755 "$here/entrypoint.sh" "$root/docker-entrypoint.sh"
    printf 'root:x:0:0:root:/root:/bin/bash\nzookeeper:x:1000:1000::/data:/bin/bash\n' >"$root/etc/passwd"
    printf 'root:x:0:\nzookeeper:x:1000:\n' >"$root/etc/group"
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
}

import() {
    local root=$1
    # The tar says who owns what, whoever unpacked it.
    tar -C "$root" --numeric-owner --owner=0 --group=0 --sort=name -cf - . |
        docker import \
            -c 'ENV PATH=/opt/zookeeper/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            -c 'ENV ZOO_CONF_DIR=/conf ZOO_DATA_DIR=/data ZOO_DATA_LOG_DIR=/datalog ZOO_LOG_DIR=/logs' \
            -c 'ENV ZOO_HOME=/opt/zookeeper LANG=C.UTF-8' \
            -c 'EXPOSE 2181 2888 3888 8080' -c 'WORKDIR /opt/zookeeper' \
            -c 'VOLUME ["/data", "/datalog", "/logs"]' \
            -c 'ENTRYPOINT ["/docker-entrypoint.sh"]' -c 'CMD ["zkServer.sh", "start-foreground"]' \
            -c 'LABEL coordinator.image=built' \
            -m 'ZooKeeper out of Debian packages' - "$tag" >/dev/null
    # Does its Java find all of its libraries and classes?
    # shellcheck disable=SC2016
    docker run --rm --network none --entrypoint bash "$tag" -c \
        'java -cp "$ZOO_HOME/lib/*" org.apache.zookeeper.version.VersionInfoMain' >&2
}

build() {
    work=$(mktemp -d "$COORDINATOR_CACHE/image.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir "$work"/{root,unpacked}
    chmod 755 "$work/root"
    fetch
    say "building $tag out of Debian packages"
    unpack "$work/root" "$work/unpacked"
    prune "$work/root"
    furnish "$work/root" "$work/unpacked"
    import "$work/root"
}

case ${1:-} in
'') ;;
--fetch) # needs no engine: what a build will take, while the engine is still being installed
    mkdir -p "$COORDINATOR_CACHE"
    exec 9>"$COORDINATOR_CACHE/image.lock"
    flock 9
    fetch
    exit
    ;;
*) echo "usage: $0 [--fetch]" >&2; exit 2 ;;
esac

there && exit
# Where nothing else is possible, or another image is asked for: let it take its time, and say why it fails.
if ! command -v dpkg >/dev/null || [[ $tag != zookeeper:3.9 ]]; then
    say "pulling $tag"
    exec docker pull "$tag" >&2
fi
pull && exit
say "$tag cannot be pulled (in $COORDINATOR_PULL_TIMEOUT s)"
mkdir -p "$COORDINATOR_CACHE"
exec 9>"$COORDINATOR_CACHE/image.lock" # of two runs at once one builds
flock 9
there || build
