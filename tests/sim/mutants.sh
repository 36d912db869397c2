#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Does the simulator find bugs? Each line breaks one rule of the fleet in a copy of its sources; a
# simulator that still passes is blind there. Takes minutes.
# Usage: tests/sim/mutants.sh [SEEDS [NAME]]: all, or those from that name on
set -eu
cd "$(dirname "$(realpath "$0")")/../.."
seeds=${1:-10000}
from=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blind=0

compile() { # SOURCE OBJECT
    cc -std=gnu11 -O1 -w -D_GNU_SOURCE -I. -Itests/sim -c -o "$2" "$1"
}

link() { # SOURCES-LEFT-OUT OBJECT...
    for source in $sources; do
        case " $1 " in
        *" $source "*) ;;
        *) set -- "$@" "$work/$(echo "$source" | tr / _).o" ;;
        esac
    done
    shift
    cc -o "$work/sim" "$@" -luv -lm
}

# What is broken besides: one rule may be held in two places. FILE SED-SCRIPT, for the next mutant.
also=
also() {
    also=$1
    sed "$2" "$1" >"$work/also.c"
    compile "$work/also.c" "$work/also.o"
    if cmp -s "$1" "$work/also.c"; then
        echo "$1: the patch does not apply any more"
        blind=1
    fi
}

sources=$(echo tests/sim/*.c tests/sim/orchestrator/*.c orchestrator/fleet*.c proxy/reason.c \
    reaper/*.c)
for part in attach fronts_talk gate_client instance messages reasons; do
    sources="$sources orchestrator/$part.c"
done
for part in heap map log buf str err wheel; do
    sources="$sources base/$part.c"
done
for source in $sources; do
    compile "$source" "$work/$(echo "$source" | tr / _).o"
done

# mutant NAME FILE SED-SCRIPT
mutant() {
    broken="$2 $also"
    also=
    [ -z "$from" ] || [ "$from" = "$1" ] || return 0
    from=
    sed "$3" "$2" >"$work/mutant.c"
    if cmp -s "$2" "$work/mutant.c"; then
        echo "$1: the patch does not apply any more"
        blind=1
        return
    fi
    set -- "$1" "$2" "$3" "$work/mutant.o"
    [ "$broken" = "$2 " ] || set -- "$@" "$work/also.o"
    if ! { compile "$work/mutant.c" "$work/mutant.o" && link "$broken" "$4" ${5:+"$5"}; } \
        2>"$work/out"; then
        printf '%-34s | does not build: %s\n' "$1" "$(grep -m1 error "$work/out")"
        blind=1
        return
    fi
    if "$work/sim" --seeds 1 "$seeds" --jobs "$(nproc)" >"$work/out" 2>&1; then
        printf '%-34s | NOT FOUND in %s seeds\n' "$1" "$seeds"
        blind=1
    else
        printf '%-34s | %-90s | %s\n' "$1" \
            "$(grep -m1 -E '^sim: |assertion|never' "$work/out" | sed 's/.*orchestrator/orchestrator/' | cut -c1-90 || true)" \
            "$(sed -n 's/.*replay: sim --seeds \([0-9]*\) .*/\1/p' "$work/out" | sort -n | head -n 1 || true)"
    fi
}

O=orchestrator
mutant one-slot-too-many $O/fleet_lease.c 's/concurrency > i->out ? concurrency - i->out : 0/concurrency + 1 - i->out/'
mutant queue-off-by-one $O/fleet_demand.c 's/return waiting > cap \&\& /return --waiting > cap \&\& /'
mutant idle-from-ready $O/fleet_lease.c 's/if (i->idle.watched && used_ms > 0)/if (false)/'
mutant over-return-believed $O/fleet_lease.c 's/if (slots > i->leases\[front\].slots)/if (false)/'
mutant no-recall $O/fleet_lease.c 's/if (s->waiting > s->waiting_from\[front\])/if (false)/'
mutant drained-while-out $O/fleet_step.c 's/i->state == INSTANCE_DRAINING && i->out == 0/i->state == INSTANCE_DRAINING/'
mutant reaped-while-held $O/fleet_reconcile.c 's/i->held = f->hold && is_up(c)/i->held = false/'
mutant no-successor $O/fleet_scale.c 's/^        raise_demand(f, s, c);$/        (void)raise_demand;/'
mutant unknown-create-is-failure $O/fleet_call.c '/^static void on_created/,/^}/s/fleet_ask_again(i)/not_created(i, a)/'
mutant labels-not-checked $O/fleet_found.c 's/return c->id\[0\] && c->sealed && strcmp(c->owner.*/return true ||/'
mutant seal-not-checked $O/fleet_found.c 's/return c->id\[0\] && c->sealed &&/return c->id[0] \&\&/'
mutant seal-of-the-found-not-checked $O/fleet_reconcile.c 's/if (c->id\[0\] == .* || !c->sealed ||/if (c->id[0] == 0 ||/;s/bool ours = c->sealed && /bool ours = /'
mutant create-before-list $O/fleet_call.c 's/return !f->listed || i->service->strays > 0/return i->service->strays > 0/;s/f->engine_up && f->listed &&/f->engine_up \&\&/'
mutant create-beside-stray $O/fleet_call.c 's/!f->listed || i->service->strays > 0/!f->listed/;s/&& i->service->strays == 0//'
mutant start-handed-on-at-once $O/fleet_call.c 's/^    i->fleet->starts--;/&\n    fleet_start_next(i->fleet);/'
mutant death-not-told $O/fleet_lease.c 's/if (i->leases\[front\].told)/if (false)/'
mutant death-not-heard $O/fleet_reconcile.c 's/case ENGINE_EVENT_DIE:/case ENGINE_EVENT_DIE: break;/'
mutant probe-of-the-dead $O/fleet_lease.c 's/if (i->died)/if (false)/'
mutant ending-adopted $O/fleet_reconcile.c 's/ && !is_ending(i)/ \&\& (is_ending(i) || true)/'
mutant start-slot-leaked $O/fleet_call.c 's/i->fleet->starts--;/(void)0;/'
mutant list-missing-ignored $O/fleet_reconcile.c 's/^    not_listed(f, began_ms);/    (void)not_listed;/'
mutant late-ghost-ignored $O/fleet_reconcile.c 's/^        return fleet_stray(f, c);/        return true;/;s/^        fleet_stray(f, &event->container);/        (void)0;/'
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
mutant claims-not-waited-for $O/fleet_reconcile.c 's/if (ours && .* && fleet_claims_pending(i->fleet))/if (false)/'
mutant served-before-claims $O/fleet_reconcile.c '/^static void take_claims/,/^}/{s/^        fleet_claims_bind(i);.*/        (void)0;/;s/^}/    if (as != INSTANCE_ON_ADOPTED_STOPPED) fleet_claims_bind(i);\n}/}'
mutant claim-of-the-stopped-kept $O/fleet_reconcile.c 's/^        fleet_claims_refuse(i->fleet, i->name);.*/        (void)0;/'
mutant claimed-slot-forgotten $O/fleet_claim.c 's/fleet_lend(i, c->front, c->slots)/fleet_lend(i, c->front, c->slots - 1)/'
mutant claim-accepted-twice $O/fleet_claim.c 's/(strcmp(c->name, name) == 0 || ++count/(++count/'
also $O/fleet_reconcile.c 's/(is_up(c) || c->state == ENGINE_EXITED)/is_up(c)/'
mutant claim-of-a-former-life $O/fleet_claim.c 's/ \&\& !i->provisioned \&\&/ \&\&/'
mutant claims-of-the-dead-kept $O/fleet_demand.c 's/^        fleet_claims_forget(f, front);/        (void)fleet_claims_forget;/'
mutant claim-makes-fit-what-ends $O/fleet_reconcile.c 's/return i->clock_ms <= 0;/return i->clock_ms <= 0 \&\& !fleet_is_claimed(i->fleet, i->name);/'
mutant bound-though-perhaps-dead $O/fleet_reconcile.c 's/if (as == INSTANCE_ON_ADOPTED \&\& i->died)/if (false)/'
mutant claimed-and-frozen-left-so $O/fleet_reconcile.c 's/if (c->state == ENGINE_PAUSED && (i->out/if (false \&\& (i->out/'
mutant end-not-written-down $O/fleet_step.c 's/if (o->ending \&\& /if (false \&\& /'
mutant unfound-clocks-lost $O/fleet_view.c 's/^        each_remembered(f, each, arg);/        (void)each_remembered;/'
mutant held-use-not-counted $O/fleet_reconcile.c 's/^        touch_remembered(f);/        (void)touch_remembered;/'
mutant late-use-not-told $O/fleet_claim.c 's/^        note_use(f, name, used_ms);.*/        (void)0;/'
mutant waiter-dropped-at-attach $O/gate_client.c 's/^        ask_anew(g, KG_LIST_ENTRY.*/        (void)ask_anew;/'
mutant lease-not-claimed $O/gate_client.c 's/^    each_lease(g, claim);/    (void)claim;/'
mutant returned-before-renamed $O/gate_client.c 's/return !l->claimed \&\& !l->gate->away;/return true;/'
mutant owed-forgotten $O/gate_client.c 's/^    l->owed = l->busy;/    l->owed = 0;/'
mutant granted-slot-not-counted $O/gate_client.c 's/^    l->slots += m->slots;/    l->slots += 1;/'
mutant sent-off-goes-on $O/attach.c 's/ || m->set_up != set_up/ || false/'
mutant full-though-idle-elsewhere $O/fleet_demand.c 's/ \&\& waiting > cap + fleet_slots_elsewhere(s, front)//'
mutant asleep-though-it-serves $O/fleet_demand.c 's/if (quiet \&\& c.serving == 0 \&\& /if (quiet \&\& /'
mutant asleep-before-the-list $O/fleet_demand.c 's/bool unknown = .*/bool unknown = false;/'
exit $blind
