#!/bin/bash
# Entry point of the locally built image: turns the ZOO_* variables that users of the official image know
# into zoo.cfg, then runs the command.
set -eu

settings=( # zoo.cfg key : variable : default
    dataDir:ZOO_DATA_DIR:/data
    dataLogDir:ZOO_DATA_LOG_DIR:/datalog
    tickTime:ZOO_TICK_TIME:2000
    initLimit:ZOO_INIT_LIMIT:5
    syncLimit:ZOO_SYNC_LIMIT:2
    maxClientCnxns:ZOO_MAX_CLIENT_CNXNS:60
    standaloneEnabled:ZOO_STANDALONE_ENABLED:true
    admin.enableServer:ZOO_ADMINSERVER_ENABLED:true
    autopurge.purgeInterval:ZOO_AUTOPURGE_PURGEINTERVAL:0
    autopurge.snapRetainCount:ZOO_AUTOPURGE_SNAPRETAINCOUNT:3
    4lw.commands.whitelist:ZOO_4LW_COMMANDS_WHITELIST:
)

render() {
    local line key variable default value
    for line in "${settings[@]}"; do
        IFS=: read -r key variable default <<<"$line"
        value=${!variable:-$default}
        [[ -z $value ]] || printf '%s=%s\n' "$key" "$value"
    done
    # Both are lists of whole zoo.cfg lines, separated by blanks.
    local -a servers extra
    read -ra servers <<<"${ZOO_SERVERS:-server.1=localhost:2888:3888;2181}"
    read -ra extra <<<"${ZOO_CFG_EXTRA:-}"
    printf '%s\n' "${servers[@]}" ${extra[@]+"${extra[@]}"}
}

# What is there, mounted or from an earlier start, is left as it is.
config=${ZOO_CONF_DIR:-/conf}/zoo.cfg
id=${ZOO_DATA_DIR:-/data}/myid
[[ -e $config ]] || render >"$config"
[[ -e $id ]] || printf '%s\n' "${ZOO_MY_ID:-1}" >"$id"

exec "$@"
