#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs on Debian 12 what the named groups of work need and is missing:
#   install.sh [build|engine|test|bench ...]        (without a group: build engine)
# Quick when nothing is missing. Says in one line what is missing where it cannot install, and why.
# Nothing that is installed is removed for it.
set -euo pipefail

export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # `su` alone leaves a root without them
LOCK_S=120 # another apt-get is waited for: a machine that just came up renews itself
WHY=

packages_of() {
    case $1 in
    build) echo gcc libc6-dev cmake make pkg-config libuv1-dev libcurl4-openssl-dev libcjson-dev \
        libssl-dev libseccomp-dev libnghttp2-dev node-llhttp check ;;
    engine) echo docker.io iptables mmdebstrap ca-certificates iproute2 procps curl ;;
    test) echo clang clang-format clang-tidy libclang-rt-14-dev llvm python3 python3-pytest \
        python3-pytest-xdist python3-docker python3-jsonschema python3-yaml python3-grpcio python3-websocket python3-hpack python3-cryptography openssl \
        testssl.sh curl nghttp2-client docker-registry docker-compose shellcheck slowhttptest universal-ctags procps strace spin valgrind \
        libh2o-dev libhttp-parser-dev systemd ;;
    bench) echo wrk nginx-light haproxy nghttp2-client strace valgrind python3 python3-docker gcc libssl-dev \
        python3-cryptography openssl ;;
    *)
        echo "install.sh: no such group: $1 (build, engine, test, bench)" >&2
        exit 2
        ;;
    esac
}

# Services of packages that we want for their programs only.
services_of() {
    case $1 in
    docker-registry) echo docker-registry ;;
    nginx-light) echo nginx ;;
    haproxy) echo haproxy ;;
    esac
}

# A machine may have a package for other architectures, too.
is_installed() {
    local found
    found=$(dpkg-query -W -f '${db:Status-Status}/${Architecture} ' "$1" 2>/dev/null) || return 1
    [[ " $found" == *" installed/all "* || " $found" == *" installed/$(dpkg --print-architecture) "* ]]
}

# Docker's own packages have what docker.io has, and cannot be there together with it.
is_there() {
    [ "$1" = docker.io ] && command -v docker && command -v dockerd && command -v containerd
}

missing_of() {
    local package
    for package in "$@"; do
        is_installed "$package" || is_there "$package" >/dev/null || echo "$package"
    done
}

cannot() {
    echo "install.sh: missing: $*" >&2
    exit 1
}

apt() { # its errors go to WHY
    WHY=$(LC_ALL=C apt-get -o DPkg::Lock::Timeout=$LOCK_S -qq "$@" </dev/null 2>&1 >/dev/null)
}

# Its lock is one that apt-get does not wait for.
update() {
    local end=$((SECONDS + LOCK_S))
    until apt update; do
        [[ $WHY == *"Could not get lock"* ]] && ((SECONDS < end)) || return 1
        sleep 1
    done
}

get() {
    apt install -y --no-install-recommends --no-remove "$@"
}

reason() {
    grep -m 1 '^E: ' <<<"$WHY" || echo "apt-get could not install them"
}

# RUNLEVEL=1: maintainer scripts start no services where there is no systemd.
install() {
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    get "$@" || { update && get "$@"; }
}

# With systemd the packages' services were started: those just installed for their programs go.
silence() {
    local package service
    [ -d /run/systemd/system ] || return 0
    for package in "$@"; do
        for service in $(services_of "$package"); do
            systemctl disable --quiet --now "$service" || true
        done
    done
}

main() {
    local group missing
    local -a wanted=()
    for group in "${@:-build}"; do
        # shellcheck disable=SC2207  # package names have no spaces
        wanted+=($(packages_of "$group"))
    done
    [ $# -gt 0 ] || mapfile -t -O "${#wanted[@]}" wanted < <(packages_of engine | tr ' ' '\n')
    command -v dpkg-query >/dev/null || cannot "Debian's package manager; needed: ${wanted[*]}"
    missing=$(missing_of "${wanted[@]}" | sort -u | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || cannot "$missing(run: sudo apt-get install --no-install-recommends $missing)"
    echo "install.sh: installing $missing" >&2
    # shellcheck disable=SC2086  # a list of package names
    install $missing || cannot "$(missing_of $missing | tr '\n' ' ')($(reason))"
    # shellcheck disable=SC2086
    silence $missing
}

main "$@"
