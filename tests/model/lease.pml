/* SPDX-License-Identifier: Apache-2.0 */
/* The lease protocol between control and two fronts over one instance at a time, as
 * orchestrator/gate_client.c and orchestrator/fleet_lease.c speak it, with every fault that may
 * come between: the reaper, recalls, cancelled requests, failed starts, the death of the instance,
 * of a front, of control. The difficulty: to leave out all that is not the protocol, and nothing
 * that is.
 *
 * Checked: I1 (an instance with a slot out is never reaped), I4 (an acquire gets exactly one
 * answer; what was lent comes back exactly once), the limit on exchanges at once, and that no
 * request waits for ever: a run that has ended has no waiting request and no slot unaccounted for.
 */

#define FRONTS 2
#ifndef REQUESTS
#define REQUESTS 2 /* of each front's clients, over the whole run */
#endif
#ifndef CONCURRENCY
#define CONCURRENCY 2
#endif
#ifndef REAPS
#define REAPS 1
#endif
#ifndef INSTANCE_DEATHS
#define INSTANCE_DEATHS 1
#endif
#ifndef FRONT_DEATHS
#define FRONT_DEATHS 1
#endif
#ifndef CONTROL_DEATHS
#define CONTROL_DEATHS 1
#endif
#ifndef FAILED_STARTS
#define FAILED_STARTS 1
#endif
#ifndef CANCELS
#define CANCELS 1
#endif
#ifndef LINGER
#define LINGER 1 /* 0: fronts give nothing back by themselves, as where traffic never pauses */
#endif
#define QUEUE 12
#define NONE 0

mtype = { ACQUIRE, WITHDRAW, RETURN, GRANT, REFUSE, RECALL, GONE };
mtype = { ABSENT, STARTING, READY };

/* Messages: kind, ticket, slots, instance. A channel to or from a front is one stream. */
chan up[FRONTS] = [QUEUE] of { mtype, byte, byte, byte };
chan down[FRONTS] = [QUEUE] of { mtype, byte, byte, byte };

/* --- a front: struct lease and its service's waiters --- */
typedef front_state {
    byte instance;   /* of the lease held; NONE: none */
    byte slots, busy, owed;
    byte asked;      /* tickets given out */
    byte answered;   /* requests that got their one answer: a slot, a refusal, or left */
    byte waiting;    /* a bit per ticket */
};
front_state fr[FRONTS];
bool control_dead;

/* --- control: struct fleet_lease of each front, and who waits --- */
mtype state = ABSENT;
byte instance = NONE; /* rises with each one that is made */
byte out;
byte lent[FRONTS], owed[FRONTS];
bool told[FRONTS];
chan waiters = [FRONTS * REQUESTS] of { byte, byte }; /* front, ticket; in the order they came */
byte waiting_from[FRONTS];

byte reaps, instance_deaths, front_deaths, failed_starts, cancels;
bool calm; /* nothing of the kind comes any more: what is stuck then stays stuck */
byte i, t; /* of loops inside atomic steps */

#define BIT(n) (1 << (n))
#define FREE(f) (fr[f].slots - fr[f].busy)

/* ============================== front ============================== */

inline answer(f, ticket)
{
    assert(fr[f].waiting & BIT(ticket));
    fr[f].waiting = fr[f].waiting & ~BIT(ticket);
    fr[f].answered++;
}

inline use_slot(f)
{
    fr[f].busy++;
    assert(fr[f].busy <= fr[f].slots);
    /* no more exchanges at once on one instance than its service allows */
    assert(!(fr[0].instance == fr[1].instance && fr[0].busy + fr[1].busy > CONCURRENCY));
    assert(fr[f].busy <= CONCURRENCY);
}

inline first_waiting(f)
{
    t = 0;
    do
    :: t < REQUESTS && !(fr[f].waiting & BIT(t)) -> t++
    :: else -> break
    od
}

/* Free slots go to the front's own waiters; control is told that it need not answer them. */
inline serve_waiters(f)
{
    do
    :: fr[f].waiting != 0 && FREE(f) > 0 ->
        first_waiting(f);
        if
        :: !control_dead -> up[f]!WITHDRAW(t, 0, 0)
        :: else
        fi;
        answer(f, t);
        use_slot(f)
    :: else -> break
    od
}

inline send_return(f, n, recalled)
{
    fr[f].slots = fr[f].slots - n;
    assert(fr[f].slots >= fr[f].busy);
    if
    :: !control_dead -> up[f]!RETURN(recalled, n, fr[f].instance)
    :: else
    fi
}

inline lose_lease(f)
{
    fr[f].instance = NONE;
    fr[f].slots = 0;
    fr[f].busy = 0; /* the exchanges on it break off as their connections do */
    fr[f].owed = 0
}

proctype front(byte f)
{
    byte ticket, n, id;

end:
    do
    /* a request comes */
    :: d_step { fr[f].asked < REQUESTS && !control_dead ->
        ticket = fr[f].asked;
        fr[f].asked++;
        if
        :: fr[f].waiting == 0 && FREE(f) > 0 ->
            fr[f].answered++;
            use_slot(f)
        :: else ->
            fr[f].waiting = fr[f].waiting | BIT(ticket);
            up[f]!ACQUIRE(ticket, 0, 0)
        fi;
        ticket = 0 }
    /* an exchange ends: gate_release */
    :: d_step { fr[f].busy > 0 ->
        fr[f].busy--;
        if
        :: fr[f].owed > 0 ->
            fr[f].owed--;
            send_return(f, 1, 0)
        :: else -> serve_waiters(f)
        fi }
    /* the linger is over */
    :: d_step { LINGER && fr[f].busy == 0 && fr[f].slots > 0 ->
        n = fr[f].slots;
        send_return(f, n, 0);
        n = 0 }
    /* a client leaves: gate_cancel */
    :: d_step { !calm && cancels < CANCELS && fr[f].waiting != 0 && !control_dead ->
        cancels++;
        first_waiting(f);
        answer(f, t);
        up[f]!WITHDRAW(t, 0, 0) }
    /* from control */
    :: d_step { down[f]?GRANT(ticket, n, id) ->
        assert(fr[f].instance == NONE || fr[f].instance == id);
        fr[f].instance = id;
        fr[f].slots = fr[f].slots + n;
        if
        :: (fr[f].waiting & BIT(ticket)) && FREE(f) > 0 ->
            answer(f, ticket);
            use_slot(f)
        :: else
        fi;
        serve_waiters(f);
        ticket = 0; n = 0; id = 0 }
    :: d_step { down[f]?REFUSE(ticket, _, _) ->
        if
        :: fr[f].waiting & BIT(ticket) -> answer(f, ticket)
        :: else
        fi;
        ticket = 0 }
    :: d_step { down[f]?RECALL(_, _, id) ->
        if
        :: fr[f].instance == id ->
            fr[f].owed = fr[f].busy;
            n = FREE(f);
            send_return(f, n, 1);
            n = 0
        :: else
        fi;
        id = 0 }
    :: d_step { down[f]?GONE(_, _, id) ->
        if
        :: fr[f].instance == id -> lose_lease(f)
        :: else
        fi;
        id = 0 }
    /* control is gone and all that it had said is read: whoever waits is told so */
    :: d_step { control_dead && empty(down[f]) && fr[f].waiting != 0 ->
        first_waiting(f);
        answer(f, t) }
    od
}

/* ============================== control ============================== */

/* grant_size: more than one only while nobody else waits, no front beyond its share */
inline grant(f, ticket)
{
    n = 1;
    if
    :: len(waiters) == 0 && CONCURRENCY / FRONTS > lent[f] + 1 ->
        n = CONCURRENCY / FRONTS - lent[f];
        if
        :: n > CONCURRENCY - out -> n = CONCURRENCY - out
        :: else
        fi
    :: else
    fi;
    assert(state == READY && n >= 1 && out + n <= CONCURRENCY);
    out = out + n;
    lent[f] = lent[f] + n;
    told[f] = true;
    down[f]!GRANT(ticket, n, instance);
    n = 0
}

inline recall(f)
{
    if
    :: lent[f] > owed[f] ->
        owed[f] = lent[f];
        down[f]!RECALL(0, 0, instance)
    :: else
    fi
}

/* fleet_attend: serve, recall for those of other fronts, or start an instance */
inline attend()
{
    if
    :: state == READY ->
        do
        :: len(waiters) > 0 && out < CONCURRENCY ->
            waiters?from, ticket;
            waiting_from[from]--;
            grant(from, ticket)
        :: else -> break
        od;
        i = 0;
        do
        :: i < FRONTS ->
            if
            :: len(waiters) > waiting_from[i] -> recall(i)
            :: else
            fi;
            i++
        :: else -> break
        od
    :: state == ABSENT && len(waiters) > 0 -> state = STARTING
    :: else
    fi;
    from = 0; ticket = 0; i = 0
}

/* The instance is gone: no front may use it, what they still return is not counted. */
inline void_instance()
{
    i = 0;
    do
    :: i < FRONTS ->
        if
        :: told[i] -> down[i]!GONE(0, 0, instance)
        :: else
        fi;
        told[i] = false; lent[i] = 0; owed[i] = 0;
        i++
    :: else -> break
    od;
    out = 0;
    state = ABSENT
}

inline drop_waiter(f, which)
{
    if
    :: waiters??[eval(f), eval(which)] ->
        waiters??eval(f), eval(which);
        waiting_from[f]--
    :: else
    fi
}

inline on_acquire()
{
    waiters!f, ticket;
    waiting_from[f]++;
    attend();
    f = 0
}

inline on_withdraw()
{
    drop_waiter(f, ticket);
    attend();
    f = 0; ticket = 0
}

inline on_return()
{
    if
    :: id == instance && state == READY ->
        assert(n <= lent[f]); /* I4: what was lent, and not more */
        lent[f] = lent[f] - n;
        if
        :: owed[f] < n -> owed[f] = 0
        :: else -> owed[f] = owed[f] - n
        fi;
        out = out - n;
        attend()
    :: else
    fi;
    f = 0; n = 0; id = 0
}

proctype control()
{
    byte f, from, ticket, n, id;

end:
    do
    /* what fronts say */
    :: d_step { up[0]?ACQUIRE(ticket, _, _) -> f = 0; on_acquire() }
    :: d_step { up[0]?WITHDRAW(ticket, _, _) -> f = 0; on_withdraw() }
    :: d_step { up[0]?RETURN(_, n, id) -> f = 0; on_return() }
    :: d_step { up[1]?ACQUIRE(ticket, _, _) -> f = 1; on_acquire() }
    :: d_step { up[1]?WITHDRAW(ticket, _, _) -> f = 1; on_withdraw() }
    :: d_step { up[1]?RETURN(_, n, id) -> f = 1; on_return() }
    /* the engine: the instance is ready, or its start failed */
    :: d_step { !control_dead && state == STARTING ->
        instance++;
        state = READY;
        attend() }
    :: d_step { !control_dead && !calm && state == STARTING && failed_starts < FAILED_STARTS ->
        failed_starts++;
        state = ABSENT;
        do
        :: len(waiters) > 0 ->
            waiters?from, ticket;
            waiting_from[from]--;
            down[from]!REFUSE(ticket, 0, 0)
        :: else -> break
        od;
        from = 0; ticket = 0 }
    /* the reaper: due, and looked at once more */
    :: d_step { !control_dead && !calm && state == READY && out == 0 && reaps < REAPS ->
        reaps++;
        i = 0;
        do
        :: i < FRONTS -> /* I1 */
            assert(fr[i].instance != instance || (fr[i].busy == 0 && fr[i].slots == 0));
            i++
        :: else -> break
        od;
        void_instance();
        attend() }
    :: d_step { !control_dead && !calm && state == READY && instance_deaths < INSTANCE_DEATHS ->
        instance_deaths++;
        void_instance();
        attend() }
    :: d_step { CONTROL_DEATHS > 0 && !control_dead && !calm ->
        control_dead = true;
        i = 0;
        do
        :: i < FRONTS -> do :: up[i]?_, _, _, _ :: empty(up[i]) -> break od; i++
        :: else -> break
        od;
        i = 0 }
    od
}

/* A front dies and is started again: its stream is a new one, its leases are void. And peace. */
proctype environment()
{
    byte f, from, ticket, n;

end:
    do
    :: d_step { !calm -> calm = true }
    :: d_step { !calm && front_deaths < FRONT_DEATHS && !control_dead ->
        front_deaths++;
        f = front_deaths % FRONTS;
        do :: up[f]?_, _, _, _ :: empty(up[f]) -> break od;
        do :: down[f]?_, _, _, _ :: empty(down[f]) -> break od;
        fr[f].answered = fr[f].asked; /* its clients see their connections end */
        fr[f].waiting = 0;
        lose_lease(f);
        do
        :: waiters??[eval(f), ticket] -> waiters??eval(f), ticket; waiting_from[f]--
        :: else -> break
        od;
        out = out - lent[f];
        lent[f] = 0; owed[f] = 0; told[f] = false;
        attend();
        f = 0; ticket = 0 }
    od
}

/* Nothing moves any more: nobody waits, nothing is out that no front holds. */
proctype judge()
{
end:
    atomic { timeout ->
        assert(fr[0].waiting == 0 && fr[1].waiting == 0);
        assert(fr[0].answered == fr[0].asked && fr[1].answered == fr[1].asked);
        if
        :: control_dead
        :: !control_dead && LINGER -> assert(out == 0 && lent[0] == 0 && lent[1] == 0)
        :: else -> assert(lent[0] == fr[0].slots && lent[1] == fr[1].slots &&
                          out == lent[0] + lent[1])
        fi }
}

init
{
    atomic {
        run front(0);
        run front(1);
        run control();
        run environment();
        run judge()
    }
}
