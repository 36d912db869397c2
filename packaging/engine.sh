#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A private container engine below one directory, for the quickstart and the tests:
#   engine.sh start DIR [--live-restore]   starts it, prints DOCKER_HOST=...
#   engine.sh stop DIR                     ends it and removes all that it made, whatever was killed
#   engine.sh status DIR                   exit status 0 when it answers
#   engine.sh base-image [DIR]             makes debian:bookworm-slim there (without DIR: DOCKER_HOST)
# The difficulty: it shares a machine with other engines and a firewall and touches neither. So it has
# its own containerd, bridge, addresses and cgroup, and what is ended must prove to be its own.
set -euo pipefail

export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # `su` alone leaves a root without them
BASE_IMAGE=debian:bookworm-slim
HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
CACHE=${KIPGATE_CACHE:-$HERE/../build/cache}

die() {
    echo "engine.sh: $*" >&2
    exit 1
}

# --- names and addresses ---------------------------------------------------------------------------

set_names() {
    DIR=$(realpath -m "$1")
    SOCKET=$DIR/docker.sock
    CONTAINERD=$DIR/containerd.sock
    MARK=$(printf %s "$DIR" | sha256sum | cut -c1-8)
    BRIDGE=kg$MARK
    # The longest name that will be bound there.
    [ ${#CONTAINERD} -lt 100 ] || die "the path is too long for sockets: $DIR"
}

in_use() { # is any address of 10.$1.0.0/16 spoken for?
    ip -4 route show table all | grep -qE "(^|[ a-z])10\.($1\.|0\.0\.0/8)" ||
        ip -4 -o address | grep -qE " 10\.$1\."
}

# A /16 from the directory's name, or the next one that is free: the bridge has its first /24, networks
# made later share its upper half.
choose_subnet() {
    local first=$((0x$MARK % 80)) i
    for ((i = 0; i < 80; i++)); do
        OCTET=$((130 + (first + i) % 80))
        in_use "$OCTET" || return 0
    done
    die "no free addresses for a bridge in 10.130.0.0 to 10.209.0.0"
}

ping_engine() {
    curl -fs -m 2 --unix-socket "$SOCKET" http://engine/_ping >/dev/null 2>&1
}

own_docker() {
    env -u DOCKER_TLS_VERIFY -u DOCKER_CERT_PATH -u DOCKER_CONTEXT \
        DOCKER_HOST="unix://$SOCKET" timeout --foreground "${LIMIT_S:-60}" docker "$@"
}

# --- start -----------------------------------------------------------------------------------------

make_bridge() {
    ip link delete "$BRIDGE" 2>/dev/null || true
    ip link add "$BRIDGE" type bridge
    ip address add "10.$OCTET.0.1/24" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    allow_own_traffic
}

# Another engine on this machine makes the kernel show bridged packets to the firewall and drop those
# that it does not know: packets between our own containers would be lost.
allow_own_traffic() {
    local sysctl=/proc/sys/net/bridge/bridge-nf-call-iptables
    if [ -e $sysctl ] && [ "$(cat $sysctl)" = 1 ] && command -v iptables >/dev/null; then
        iptables -w -I FORWARD "${OWN_TRAFFIC[@]}" 2>/dev/null || true
    fi
}

set_rule() {
    OWN_TRAFFIC=(-s "10.$OCTET.0.0/16" -d "10.$OCTET.0.0/16" -m comment --comment "kipgate $MARK"
        -j ACCEPT)
}

write_configuration() {
    echo '{}' >"$DIR/daemon.json" # not the one of /etc
    cat >"$DIR/containerd.toml" <<END
version = 2
root = "$DIR/containerd"
state = "$DIR/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$CONTAINERD"
[plugins."io.containerd.internal.v1.opt"]
path = "$DIR/opt"
END
}

spawn() { # NAME COMMAND...: in the background, in a session of its own
    local name=$1
    shift
    setsid "$@" >>"$DIR/$name.log" 2>&1 </dev/null &
    echo $! >"$DIR/$name.pid"
    disown
}

wait_for() { # SECONDS NAME COMMAND...: until it succeeds while NAME's process lives
    local tries=$(($1 * 20)) name=$2
    shift 2
    while ! "$@"; do
        kill -0 "$(cat "$DIR/$name.pid")" 2>/dev/null && ((tries-- > 0)) || return 1
        sleep 0.05
    done
}

start_daemons() {
    spawn containerd containerd --config "$DIR/containerd.toml"
    wait_for 20 containerd test -S "$CONTAINERD" || return 1
    spawn dockerd dockerd --config-file "$DIR/daemon.json" --host "unix://$SOCKET" \
        --pidfile "$DIR/docker.pid" --data-root "$DIR/data" --exec-root "$DIR/exec" \
        --containerd "$CONTAINERD" --bridge "$BRIDGE" --cgroup-parent "/$BRIDGE" \
        --exec-opt native.cgroupdriver=cgroupfs \
        --default-address-pool "base=10.$OCTET.128.0/17,size=26" \
        --iptables=false --ip6tables=false --ip-masq=false --ip-forward=false "$@"
    wait_for 30 dockerd ping_engine
}

start() {
    local program
    [ "$(id -u)" = 0 ] || die "starting an engine needs root"
    for program in dockerd containerd ip curl sha256sum; do
        command -v $program >/dev/null || die "missing: $program (packaging/install.sh engine)"
    done
    if ping_engine; then
        echo "DOCKER_HOST=unix://$SOCKET"
        return 0
    fi
    if [ -d "$DIR" ] && [ -n "$(ls -A "$DIR")" ]; then
        [ -e "$DIR/engine.env" ] || die "$DIR is not empty and no engine of ours"
        stop
    fi
    mkdir -p "$DIR"
    choose_subnet
    {
        echo "OCTET=$OCTET"
        [ -e /etc/docker/key.json ] || echo "KEY_IS_OURS=yes"
    } >"$DIR/engine.env"
    set_rule
    make_bridge
    write_configuration
    if ! start_daemons "$@"; then
        tail -n 5 "$DIR/dockerd.log" "$DIR/containerd.log" >&2 || true
        stop
        die "the engine did not come up"
    fi
    echo "DOCKER_HOST=unix://$SOCKET"
}

# --- stop ------------------------------------------------------------------------------------------

is_own_process() { # a word of its command line is a path in our directory
    local word
    while IFS= read -r -d '' word; do
        [[ ${word#unix://} != "$DIR/"* ]] || return 0
    done 2>/dev/null <"/proc/$1/cmdline"
    return 1
}

end_process() { # PID: TERM, after ten seconds KILL
    local tries=200
    is_own_process "$1" || return 0
    kill -CONT "$1" 2>/dev/null || true
    kill -TERM "$1" 2>/dev/null || true
    while is_own_process "$1"; do
        ((tries-- > 0)) || kill -KILL "$1" 2>/dev/null || true
        sleep 0.05
    done
}

end_daemon() { # NAME: by its pid file, and all of that name that use our directory
    local pid
    [ ! -e "$DIR/$1.pid" ] || end_process "$(cat "$DIR/$1.pid")"
    for pid in $(own_pids "$1"); do
        end_process "$pid"
    done
}

own_pids() { # NAME: processes of that program that name our directory
    local path program
    for path in /proc/[0-9]*; do
        is_own_process "${path#/proc/}" || continue
        IFS= read -r -d '' program 2>/dev/null <"$path/cmdline" || continue
        [ "${program##*/}" != "$1" ] || echo "${path#/proc/}"
    done
}

remove_containers() {
    local ids
    ping_engine || return 0
    ids=$(LIMIT_S=10 own_docker ps -aq) || return 0
    # shellcheck disable=SC2086  # a list of ids
    [ -z "$ids" ] || LIMIT_S=60 own_docker rm -f $ids >/dev/null 2>&1 || true
    LIMIT_S=20 own_docker network prune -f >/dev/null 2>&1 || true
}

# What a killed engine left: processes in our cgroup are containers of ours.
kill_containers() {
    local cgroup tries=100
    while ((tries-- > 0)) && own_cgroup_pids | grep -q .; do
        # shellcheck disable=SC2046  # a list of pids
        kill -KILL $(own_cgroup_pids) 2>/dev/null || true
        sleep 0.05
    done
    for cgroup in $(own_cgroups); do
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}

own_cgroups() {
    find /sys/fs/cgroup -maxdepth 2 -type d -name "$BRIDGE" 2>/dev/null || true
}

own_cgroup_pids() {
    local cgroup
    for cgroup in $(own_cgroups); do
        find "$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null || true
    done | sort -u
}

# A shim's socket is named after the engine's address and the container.
remove_shim_sockets() {
    local id name
    for id in $(ls "$DIR/data/containers" 2>/dev/null || true); do
        name=$(printf %s "$CONTAINERD/moby/$id" | sha256sum | cut -c1-64)
        rm -f "/run/containerd/s/$name"
    done
}

unmount_all() {
    local path
    awk -v dir="$DIR/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r path; do
            umount -l "$path" || true
        done
}

remove_links() {
    local link
    for link in $(ip -4 -o address | awk -v net="10.$OCTET." 'index($4, net) == 1 { print $2 }'); do
        ip link delete "$link" 2>/dev/null || true
    done
    ip link delete "$BRIDGE" 2>/dev/null || true
    while command -v iptables >/dev/null && iptables -w -D FORWARD "${OWN_TRAFFIC[@]}" 2>/dev/null; do
        :
    done
}

stop() {
    local pid OCTET=none KEY_IS_OURS=
    [ -e "$DIR/engine.env" ] || return 0
    # shellcheck source=/dev/null
    . "$DIR/engine.env"
    set_rule
    for pid in $(own_pids dockerd); do
        kill -CONT "$pid" 2>/dev/null || true # a stopped one would let us wait
    done
    remove_shim_sockets
    remove_containers
    end_daemon dockerd
    end_daemon containerd
    for pid in $(own_pids containerd-shim-runc-v2); do
        kill -KILL "$pid" 2>/dev/null || true
    done
    kill_containers
    unmount_all
    remove_links
    if [ "$KEY_IS_OURS" = yes ]; then
        rm -f /etc/docker/key.json
        rmdir /etc/docker 2>/dev/null || true
    fi
    rm -rf --one-file-system "$DIR"
}

# --- the base image --------------------------------------------------------------------------------

# In the foreground, for Ctrl-C to reach it.
any_docker() {
    if [ -n "${SOCKET:-}" ]; then own_docker "$@"; else timeout --foreground "${LIMIT_S:-60}" docker "$@"; fi
}

# The machine's own package sources as one-line entries: they are what works here.
own_sources() {
    # shellcheck disable=SC2016  # apt's own placeholders
    apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' | sed -n 's/^Debian \(deb .* bookworm[^ ]* .*\)/\1/p' | sort -u
}

can_bootstrap() {
    [ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null
}

bootstrap() { # FILE: a minimal Debian as a tar archive
    local -a options=()
    local line exclude
    while read -r line; do # a proxy and the like
        options+=(--aptopt="$line")
    done < <(apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-)' || true)
    for exclude in doc man info locale lintian; do
        options+=(--dpkgopt="path-exclude=/usr/share/$exclude/*")
    done
    # The hook takes the small way to a merged /usr, as the official image does.
    if ! own_sources | mmdebstrap --quiet --variant=minbase --format=tar "${options[@]}" \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' --aptopt='Acquire::Languages "none"' \
        --hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr bookworm "$1.new" - >"$1.log" 2>&1; then
        tail -n 5 "$1.log" >&2
        rm -f "$1.new"
        die "a base image could not be made"
    fi
    rm -f "$1.log"
    mv "$1.new" "$1"
}

pull() { # without much patience where it can be made here
    local limit_s=600
    ! can_bootstrap || limit_s=20
    LIMIT_S=${KIPGATE_PULL_S:-$limit_s} any_docker pull -q "$BASE_IMAGE" >/dev/null 2>&1
}

base_image() {
    local file=$CACHE/debian-bookworm-slim.tar
    any_docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 && return 0
    if [ ! -s "$file" ]; then
        pull && return 0
        can_bootstrap || die "$BASE_IMAGE cannot be pulled; to make it: root, and mmdebstrap" \
            "(packaging/install.sh engine)"
        echo "engine.sh: $BASE_IMAGE cannot be pulled; making it with mmdebstrap" >&2
        mkdir -p "$CACHE"
        exec 9>"$CACHE/lock" # others may be at it
        flock 9
        [ -s "$file" ] || bootstrap "$file"
        exec 9>&-
    fi
    LIMIT_S=300 any_docker import --change 'CMD ["bash"]' "$file" "$BASE_IMAGE" >/dev/null
}

# --- the command line ------------------------------------------------------------------------------

usage() {
    sed -n '3,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

main() {
    local verb=${1:-}
    if [ "$verb" = base-image ]; then
        [ -z "${2:-}" ] || set_names "$2"
        base_image
        return
    fi
    [ $# -ge 2 ] || usage
    set_names "$2"
    shift 2
    case $verb in
    start)
        [ "${1:---live-restore}" = --live-restore ] || usage
        start "$@"
        ;;
    stop) stop ;;
    status) if ping_engine; then echo running; else echo stopped && exit 1; fi ;;
    *) usage ;;
    esac
}

main "$@"
