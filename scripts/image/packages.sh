# Sourced: fetches Debian packages with a private apt. Reads this machine's mirror, writes none of its state,
# needs no root; apt checks signatures and hashes.
#
#   fetch_packages FOLDER PACKAGE...

: "${COORDINATOR_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/coordinator}"
: "${COORDINATOR_DEBIAN_SUITE:=trixie}" # ZooKeeper 3.9; its jars are Java 8 byte code and run anywhere

debian_mirror() {
    local mirror
    mirror=${COORDINATOR_DEBIAN_MIRROR:-$(
        cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
            grep -v '^[[:space:]]*#' | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1
    )} || true
    [[ -n $mirror ]] || {
        echo "no Debian mirror in this machine's apt sources: set COORDINATOR_DEBIAN_MIRROR" >&2
        return 1
    }
    echo "${mirror// /}"
}

fetch_packages() {
    local to=$1 state=$COORDINATOR_CACHE/apt mirror
    shift
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "no apt-get, no dpkg" >&2; return 1; }
    mirror=$(debian_mirror) || return 1
    mkdir -p "$state"/{lists/partial,archives/partial} "$to"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $COORDINATOR_DEBIAN_SUITE main" \
        >"$state/sources.list"
    local apt=(-qq -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Dir::State::lists="$state/lists" -o Dir::State::status=/dev/null
        -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives"
        -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3
        -o APT::Update::Post-Invoke= -o APT::Update::Post-Invoke-Success=)
    # Callers that run at once (an image and a folder of jars) share the lists.
    (
        flock 9
        apt-get "${apt[@]}" update && cd "$to" && apt-get "${apt[@]}" download "$@"
    ) >&2 9>"$state/lock"
}
