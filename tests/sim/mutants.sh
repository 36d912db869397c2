#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Does the simulator find bugs? Each line breaks one rule of the fleet in a copy of its sources; a
# simulator that still passes is blind there. Usage: tests/sim/mutants.sh [SEEDS]. Takes minutes.
set -eu
cd "$(dirname "$0")/../.."
seeds=${1:-10000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blind=0

build() {
    cc -std=gnu11 -O1 -D_GNU_SOURCE -I"$work" -I"$work/tests/sim" -o "$work/sim" \
        "$work"/tests/sim/*.c "$work"/orchestrator/fleet*.c "$work/orchestrator/instance.c" \
        "$work/orchestrator/reasons.c" "$work/proxy/reason.c" "$work"/reaper/*.c \
        "$work"/base/heap.c "$work"/base/map.c "$work"/base/log.c "$work"/base/buf.c \
        "$work"/base/str.c "$work"/base/err.c "$work"/base/clock.c -luv -lm
}

# mutant NAME FILE SED-SCRIPT
mutant() {
    rm -rf "${work:?}"/*
    cp -r base proxy reaper orchestrator "$work"
    mkdir -p "$work/tests" && cp -r tests/sim "$work/tests"
    sed -i "$3" "$work/$2"
    if cmp -s "$2" "$work/$2"; then
        echo "$1: the patch does not apply any more"
        blind=1
        return
    fi
    build
    if "$work/sim" --seeds 1 "$seeds" >"$work/out" 2>&1; then
        echo "$1: NOT FOUND in $seeds seeds"
        blind=1
    else
        echo "$1: found ($(grep -m1 -E '^sim: |assertion|never seen' "$work/out" | sed 's/.*orchestrator/orchestrator/' | cut -c1-90 || true);" \
            "$(grep -o 'seeds [0-9]* 1' "$work/out" | head -1 || true))"
    fi
}

O=orchestrator
mutant one-slot-too-many $O/fleet_lease.c 's/concurrency > i->out ? concurrency - i->out : 0/concurrency + 1 - i->out/'
mutant queue-off-by-one $O/fleet_demand.c 's/s->waiting >= (size_t)s->config->queue/s->waiting > (size_t)s->config->queue/'
mutant idle-from-ready $O/fleet_lease.c 's/if (i->idle.watched && used_ms > 0)/if (false)/'
mutant over-return-believed $O/fleet_lease.c 's/if (slots > i->leases\[front\].slots)/if (false)/'
mutant no-recall $O/fleet_lease.c 's/if (s->waiting > s->waiting_from\[front\])/if (false)/'
mutant drained-while-out $O/fleet_step.c 's/i->state == INSTANCE_DRAINING && i->out == 0/i->state == INSTANCE_DRAINING/'
mutant reaped-while-held $O/fleet_reconcile.c 's/i->held = f->hold && is_up(c)/i->held = false/'
mutant no-successor $O/fleet_scale.c 's/^        raise_demand(f, s, c);$/        (void)raise_demand;/'
mutant unknown-create-is-failure $O/fleet_call.c '/^static void on_created/,/^}/s/fleet_ask_again(i)/not_created(i, a)/'
mutant labels-not-checked $O/fleet_found.c 's/return c->id\[0\] && strcmp(c->owner.*/return true ||/'
mutant create-before-list $O/fleet_call.c 's/return !f->listed || i->service->strays > 0/return i->service->strays > 0/;s/f->listed && i->service->strays == 0 &&//'
mutant create-beside-stray $O/fleet_call.c 's/!f->listed || i->service->strays > 0/!f->listed/;s/&& i->service->strays == 0//'
mutant death-not-told $O/fleet_lease.c 's/if (i->leases\[front\].told)/if (false)/'
mutant death-not-heard $O/fleet_reconcile.c 's/case ENGINE_EVENT_DIE:/case ENGINE_EVENT_DIE: break;/'
mutant probe-of-the-dead $O/fleet_lease.c 's/if (i->died)/if (false)/'
mutant due-adopted $O/fleet_reconcile.c 's/ && !is_due(i, as)/ \&\& (is_due(i, as) || true)/'
mutant start-slot-leaked $O/fleet_call.c 's/i->fleet->starts--;/(void)0;/'
mutant list-missing-ignored $O/fleet_reconcile.c 's/^    not_listed(f, began_ms);/    (void)not_listed;/'
mutant late-ghost-ignored $O/fleet_reconcile.c 's/^static bool name_is_ours.*/&/;s/^            fleet_stray(f, c);/            (void)0;/;s/^        fleet_stray(f, &event->container);/        (void)0;/'
mutant no-deadline $O/fleet_step.c 's/due_ms = kg_earliest(due_ms, i->deadline_ms);/(void)0;/'
mutant backoff-forgotten $O/fleet_scale.c 's/if (fleet_backoff_left(f, s) > 0 \&\& c.paused == 0/if (false/'
mutant front-death-keeps-slots $O/fleet_lease.c '/^void fleet_lease_void/,/^}/s/take_back(i, front, slots, i->fleet->now_ms);/(void)0;/'
mutant one-instance-too-many $O/fleet_scale.c 's/c.paused < (unsigned)s->config->max_instances/c.paused <= (unsigned)s->config->max_instances/'
mutant resume-without-unpause $O/instance.c 's/RESUMING, DO(UNPAUSE) | DO(SERVE)/RESUMING, DO(SERVE)/'
mutant use-not-held $O/fleet_lease.c 's/^        reaper_hold(&f->reaper, &i->idle);/        (void)0;/'
mutant stop-kept-though-unanswered $O/fleet_call.c 's/^        fleet_not_kept(i); .*/        (void)0;/'
mutant need-not-released $O/fleet_scale.c 's/need->needed += active ? 1 : (unsigned)-1;/need->needed += active;/'
mutant overtaken-look-believed $O/fleet_found.c 's/if (is_overtaken(i, c))/if (false \&\& is_overtaken(i, c))/'
mutant kept-for-ever $O/fleet_idle.c 's/^    s->kept = false;/    return;/'
exit $blind
