#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh Debian 12 to a picture resized by a container that was not there before and is gone
# afterwards. Run as root: examples/quickstart.sh
# Uses the engine that the docker client leads to (DOCKER_HOST, its context or the usual socket); where
# none answers, a private one that ends with this script. KIPGATE_BIN: a program that is built already.
set -euo pipefail

ROOT=$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")
IMAGE=kipgate-image-worker:quickstart
OWNER=qs$$
IDLE_S=3

BINARY=${KIPGATE_BIN:-}
PREPARED=${KIPGATE_CACHE:-}
for variable in ${!KIPGATE_@}; do # Kipgate would take them for its options
    unset "$variable"
done
[ -z "$PREPARED" ] || export KIPGATE_CACHE=$PREPARED

WORK=
PRIVATE_ENGINE=
GATE_PID=
EVENTS_PID=

say() {
    printf '%s\n' "$*"
}

step() {
    printf '\n== %s\n' "$*"
}

die() {
    echo "quickstart: $*" >&2
    exit 1
}

# --- the end, whatever happened --------------------------------------------------------------------

end_process() {
    [ -z "$1" ] || { kill -TERM "$1" 2>/dev/null && wait "$1" 2>/dev/null; } || true
}

remove_ours() {
    local ids
    ids=$(timeout 20 docker ps -aq --filter "label=io.kipgate.owner=$OWNER" 2>/dev/null) || return 0
    # shellcheck disable=SC2086  # a list of ids
    [ -z "$ids" ] || timeout 60 docker rm -f $ids >/dev/null 2>&1 || true
    ids=$(timeout 20 docker network ls -q --filter "label=io.kipgate.owner=$OWNER" 2>/dev/null) || return 0
    # shellcheck disable=SC2086
    [ -z "$ids" ] || timeout 20 docker network rm $ids >/dev/null 2>&1 || true
}

# A second signal does not end it halfway: each step has an end of its own.
cleanup() {
    trap - EXIT
    trap '' HUP INT TERM
    end_process "$EVENTS_PID"
    end_process "$GATE_PID"
    [ -z "$WORK" ] || remove_ours
    [ -z "$PRIVATE_ENGINE" ] || "$ROOT/packaging/engine.sh" stop "$PRIVATE_ENGINE" || true
    [ -z "$WORK" ] || rm -rf "$WORK"
}

# --- steps -----------------------------------------------------------------------------------------

# One engine for the docker client and for Kipgate, which knows nothing of the client's contexts.
name_engine() {
    [ -n "${DOCKER_HOST:-}" ] || DOCKER_HOST=$(docker context inspect \
        --format '{{.Endpoints.docker.Host}}' 2>/dev/null) || DOCKER_HOST=
    export DOCKER_HOST=${DOCKER_HOST:-unix:///var/run/docker.sock}
}

engine_answers() {
    command -v docker >/dev/null && timeout 10 docker version >/dev/null 2>&1
}

install_missing() {
    local -a groups=()
    step "What is missing"
    [ -n "$BINARY" ] || groups+=(build)
    engine_answers || groups+=(engine)
    [ ${#groups[@]} = 0 ] || "$ROOT/packaging/install.sh" "${groups[@]}" || exit 1
    command -v curl >/dev/null || "$ROOT/packaging/install.sh" engine || exit 1
    say "nothing is missing now"
}

compile() {
    mkdir -p "$ROOT/build"
    (
        flock 9 # another one may be at it
        cmake -S "$ROOT" -B "$ROOT/build/quickstart" -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF &&
            cmake --build "$ROOT/build/quickstart" --target kipgate -j "$(nproc)"
    ) 9>"$ROOT/build/quickstart.lock"
}

build_kipgate() {
    step "Kipgate"
    if [ -z "$BINARY" ]; then
        BINARY=$ROOT/build/quickstart/kipgate
        if ! compile >"$WORK/build.log" 2>&1; then
            tail -n 20 "$WORK/build.log" >&2
            die "the build failed"
        fi
    fi
    [ -x "$BINARY" ] || die "no program at $BINARY"
    say "$("$BINARY" version)"
}

find_engine() {
    step "The engine"
    if ! engine_answers; then
        say "none answers at $DOCKER_HOST ($(timeout 10 docker version 2>&1 >/dev/null | tail -n 1));" \
            "starting a private one"
        unset DOCKER_TLS_VERIFY DOCKER_CERT_PATH # they were for the other one
        PRIVATE_ENGINE=$WORK/engine # whenever a signal comes, it is known what to stop
        "$ROOT/packaging/engine.sh" start "$PRIVATE_ENGINE" >/dev/null ||
            die "no engine could be started"
        export DOCKER_HOST=unix://$PRIVATE_ENGINE/docker.sock
    fi
    say "version $(docker version --format '{{.Server.Version}}') at $DOCKER_HOST"
}

build_worker() {
    step "The image worker"
    "$ROOT/packaging/engine.sh" base-image || die "no base image"
    docker build --network host -t "$IMAGE" "$ROOT/examples/image-worker" >"$WORK/worker.log" 2>&1 || {
        tail -n 20 "$WORK/worker.log" >&2
        die "the image worker could not be built"
    }
    say "image $IMAGE, built from examples/image-worker"
    docker run --rm "$IMAGE" sh -c 'vips sines /tmp/p.jpg 1600 1200 --uchar && cat /tmp/p.jpg' \
        >"$WORK/picture.jpg" || die "no test picture could be made"
}

free_port() {
    local port
    for port in $(shuf -i 10000-14999 -n 100); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return 0
        fi
    done
    die "no free port"
}

ready() {
    "$BINARY" health --ready --admin "unix:$WORK/admin.sock" >/dev/null 2>&1
}

start_kipgate() {
    local port tries=200
    port=$(free_port)
    URL=http://127.0.0.1:$port
    step "Kipgate at $URL, idle timeout $IDLE_S s"
    "$BINARY" serve --listen "127.0.0.1:$port" --admin "unix:$WORK/admin.sock" --owner "$OWNER" \
        --state-dir "$WORK/state" --image "$IMAGE" --name images --pull never \
        --idle-timeout "${IDLE_S}s" </dev/null >"$WORK/kipgate.log" 2>&1 &
    GATE_PID=$!
    until ready; do
        if ! kill -0 "$GATE_PID" 2>/dev/null || ((tries-- <= 0)); then
            tail -n 10 "$WORK/kipgate.log" >&2
            die "Kipgate did not become ready"
        fi
        sleep 0.05
    done
    say "ready; containers of ours: $(count_containers)"
}

# Workers; a sandbox is a network kept ready for the next of them.
count_containers() {
    docker ps -aq --filter "label=io.kipgate.owner=$OWNER" --filter label=io.kipgate.service | wc -l
}

# The engine's own word on removals, followed from now on.
follow_removals() {
    mkfifo "$WORK/removals"
    docker events --filter type=container --filter event=destroy \
        --filter "label=io.kipgate.owner=$OWNER" --filter label=io.kipgate.service \
        --format '{{.Actor.Attributes.name}}' \
        >"$WORK/removals" &
    EVENTS_PID=$!
    exec 3<"$WORK/removals"
}

ask() { # NAME: the request, its time and how long it waited
    local took status
    read -r status took < <(curl -q -s -m 60 --noproxy '*' -D "$WORK/$1.head" -o "$WORK/$1.jpg" \
        -w '%{http_code} %{time_total}\n' --data-binary "@$WORK/picture.jpg" "$URL/resize?width=200") || true
    [ "${status:-000}" = 200 ] || {
        head -c 500 "$WORK/$1.jpg" >&2 2>/dev/null || true
        tail -n 5 "$WORK/kipgate.log" >&2
        die "the $1 request was answered with ${status:-nothing}"
    }
    say "$1 request: 200 in $took s $(timing "$1")"
}

timing() {
    local line
    line=$(tr -d '\r' <"$WORK/$1.head" | grep -i '^Server-Timing:' || true)
    say "${line:+($line)}"
}

# Width and height from a JPEG's own frame header, its first SOF marker.
jpeg_size() {
    od -An -v -tu1 -w1 "$1" | awk '
        { b[NR - 1] = $1 }
        END {
            if (b[0] != 255 || b[1] != 216) exit 1
            for (i = 2; i < NR && b[i] == 255; i += 2 + b[i + 2] * 256 + b[i + 3])
                if (b[i + 1] >= 192 && b[i + 1] <= 207 && b[i + 1] != 196 && b[i + 1] != 204) {
                    print b[i + 7] * 256 + b[i + 8] "x" b[i + 5] * 256 + b[i + 6]
                    exit 0
                }
            exit 1
        }'
}

requests() {
    local size
    step "The first request makes the container"
    ask cold
    grep -qi '^Server-Timing: kipgate;desc="cold"' "$WORK/cold.head" ||
        die "the first request does not say that it was cold"
    size=$(jpeg_size "$WORK/cold.jpg") || die "the answer is no JPEG"
    say "picture: $(jpeg_size "$WORK/picture.jpg") -> $size"
    [ "$size" = 200x150 ] || die "the picture was not resized to 200x150"
    docker ps --filter "label=io.kipgate.owner=$OWNER" --filter label=io.kipgate.service \
        --format 'container: {{.Names}} ({{.Image}})'
    step "The second finds it warm"
    ask warm
}

removal() {
    local name began=$SECONDS
    step "Nobody asks for $IDLE_S s"
    read -r -t $((IDLE_S + 20)) name <&3 || die "the container was not removed"
    say "removed: $name, after about $((SECONDS - began)) s"
    [ "$(count_containers)" = 0 ] || die "a container of ours is left"
    say "containers of ours: 0"
}

main() {
    trap cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    WORK=$(mktemp -d /tmp/kgq.XXXXXX)
    chmod 755 "$WORK"
    name_engine
    install_missing
    build_kipgate
    find_engine
    build_worker
    start_kipgate
    follow_removals
    requests
    removal
    step "Clean-up"
    [ -n "$PRIVATE_ENGINE" ] || say "the image $IMAGE stays on your engine (docker rmi $IMAGE)"
    cleanup
    say "quickstart: done"
}

main "$@"
