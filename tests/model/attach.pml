/* SPDX-License-Identifier: Apache-2.0 */
/* Fronts that outlive control: what they hold and who waits is told to the next one, which finds
 * the container, waits for all claims, and judges then; as orchestrator/gate_client.c,
 * fleet_claim.c and fleet_reconcile.c do it. Control dies between any two messages; what it had
 * ordered of the engine may be carried out after it. The difficulty: to leave out all that
 * lease.pml has already, and nothing that a death could cut in two.
 *
 * Checked: I1 (nothing is ended by order that a front holds slots of), the limit on exchanges at
 * once, I4 (one answer to each request; lent is what is held), and that no request waits for ever.
 */

#define FRONTS 2
#ifndef REQUESTS
#define REQUESTS 1 /* of each front's clients, in all */
#endif
#ifndef CONCURRENCY
#define CONCURRENCY 1
#endif
#ifndef CONTROL_DEATHS
#define CONTROL_DEATHS 1
#endif
#ifndef FRONT_DEATHS
#define FRONT_DEATHS 1
#endif
#ifndef INSTANCE_DEATHS
#define INSTANCE_DEATHS 1
#endif
#ifndef REAPS
#define REAPS 1
#endif
#ifndef UNFIT
#define UNFIT 1 /* found, but of a configuration that is no longer in force */
#endif
#define QUEUE 8
#define NONE 0

mtype = { ACQUIRE, WITHDRAW, RETURN, CLAIM, SAID_ALL, GRANT, RECALL, RENAMED, GONE };
mtype = { ABSENT, STARTING, READY, DRAINING, ENDING, STOPPING };

/* Messages: kind and three numbers. A channel ends with the control that it leads to. */
chan up[FRONTS] = [QUEUE] of { mtype, byte, byte, byte };
chan down[FRONTS] = [QUEUE] of { mtype, byte, byte, byte };
bool cut[FRONTS]; /* its control died: what comes last may not have been written any more */

/* --- a front: struct lease and its service's waiters --- */
typedef front_state {
    byte life;      /* the control that it is attached to */
    bool away;      /* it has noticed that there is none */
    byte container; /* of the lease held; NONE: none */
    byte lender;    /* the control under whose number it holds it: another one until RENAMED */
    byte slots, busy, owed;
    byte asked;     /* requests that came */
    byte answered;  /* requests that got their one answer: a slot, or left */
    byte waiting;   /* a bit per request */
};
front_state fr[FRONTS];

/* --- control --- */
byte life = 1; /* one more with each start */
bool control_dead;
mtype state = ABSENT;
byte instance = NONE; /* the container that it is about */
byte out;
byte lent[FRONTS], owed[FRONTS];
bool told[FRONTS];
chan waiters = [FRONTS * REQUESTS] of { byte, byte }; /* front, request; in the order they came */
byte waiting_from[FRONTS];
bool listed = true; /* it has seen what there is */
bool stray;         /* `instance` was found, and is not judged yet */
bool pending[FRONTS];
byte claim[FRONTS], claim_of[FRONTS]; /* slots, of that container */

/* --- what outlives it --- */
byte made;           /* containers, over all */
byte alive = NONE;   /* the one that runs */
byte order = NONE;   /* to be stopped: on its way to the engine, or there */
byte written = NONE; /* on disk: it is being ended */

byte control_deaths, front_deaths, instance_deaths, reaps, unfit;
bool calm; /* nothing goes wrong any more: what is stuck then stays stuck */
byte i, t; /* of loops inside atomic steps */

#define BIT(n) (1 << (n))
#define FREE(f) (fr[f].slots - fr[f].busy)
#define CONNECTED(f) (fr[f].life == life && !control_dead)
#define CLAIMED(f) (fr[f].lender != fr[f].life)
#define HOLDS(f, c) (fr[f].container == c && (fr[f].slots > 0 || fr[f].busy > 0))

/* ============================== front ============================== */

inline answer(f, ticket)
{
    assert(fr[f].waiting & BIT(ticket));
    fr[f].waiting = fr[f].waiting & ~BIT(ticket);
    fr[f].answered++
}

inline use_slot(f)
{
    fr[f].busy++;
    assert(fr[f].busy <= fr[f].slots && fr[f].busy <= CONCURRENCY);
    /* no more exchanges at once on one container than its service allows, whoever lent */
    assert(!(fr[0].container == fr[1].container && fr[0].busy + fr[1].busy > CONCURRENCY))
}

inline first_waiting(f)
{
    t = 0;
    do
    :: t < REQUESTS && !(fr[f].waiting & BIT(t)) -> t++
    :: else -> break
    od
}

/* What is said to a control that is dead is lost. */
inline tell(f, kind, a, b, c)
{
    if
    :: CONNECTED(f) -> up[f]!kind(a, b, c)
    :: else
    fi
}

inline serve_waiters(f)
{
    do
    :: fr[f].waiting != 0 && FREE(f) > 0 ->
        first_waiting(f);
        tell(f, WITHDRAW, t, 0, 0);
        answer(f, t);
        use_slot(f)
    :: else -> break
    od
}

inline send_return(f, n)
{
    fr[f].slots = fr[f].slots - n;
    assert(fr[f].slots >= fr[f].busy);
    tell(f, RETURN, n, fr[f].container, fr[f].lender)
}

inline lose_lease(f)
{
    fr[f].container = NONE;
    fr[f].lender = fr[f].life;
    fr[f].slots = 0;
    fr[f].busy = 0; /* the exchanges on it break off as their connections do */
    fr[f].owed = 0
}

/* gate_client_attached: all that it holds, then all who wait, then that this was all */
inline attach(f)
{
    fr[f].life = life;
    fr[f].away = false;
    cut[f] = false;
    if
    :: fr[f].slots > 0 -> up[f]!CLAIM(fr[f].slots, fr[f].container, 0)
    :: else -> lose_lease(f) /* a claim of nothing is answered so */
    fi;
    t = 0;
    do
    :: t < REQUESTS ->
        if
        :: fr[f].waiting & BIT(t) -> up[f]!ACQUIRE(t, 0, 0)
        :: else
        fi;
        t++
    :: else -> break
    od;
    up[f]!SAID_ALL(0, 0, 0)
}

proctype front(byte f)
{
    byte ticket, n, id;

end:
    do
    /* a request comes, whether there is a control or not */
    :: d_step { fr[f].asked < REQUESTS ->
        ticket = fr[f].asked;
        fr[f].asked++;
        if
        :: fr[f].waiting == 0 && FREE(f) > 0 ->
            fr[f].answered++;
            use_slot(f)
        :: else ->
            fr[f].waiting = fr[f].waiting | BIT(ticket);
            tell(f, ACQUIRE, ticket, 0, 0)
        fi;
        ticket = 0 }
    /* an exchange ends: gate_release */
    :: d_step { fr[f].busy > 0 ->
        fr[f].busy--;
        if
        :: fr[f].owed > 0 ->
            fr[f].owed--;
            send_return(f, 1)
        :: else -> serve_waiters(f)
        fi }
    /* the linger is over: nothing goes back before the next control has taken it over */
    :: d_step { fr[f].busy == 0 && fr[f].slots > 0 && !fr[f].away && !CLAIMED(f) ->
        n = fr[f].slots;
        send_return(f, n);
        n = 0 }
    /* from control */
    :: d_step { down[f]?GRANT(ticket, n, id) ->
        assert(fr[f].container == NONE || fr[f].slots == 0 ||
               (fr[f].container == id && !CLAIMED(f)));
        fr[f].container = id;
        fr[f].lender = fr[f].life;
        fr[f].slots = fr[f].slots + n;
        if
        :: (fr[f].waiting & BIT(ticket)) && FREE(f) > 0 ->
            answer(f, ticket);
            use_slot(f)
        :: else
        fi;
        serve_waiters(f);
        ticket = 0; n = 0; id = 0 }
    :: d_step { down[f]?RECALL(id, _, _) ->
        if
        :: fr[f].container == id && !CLAIMED(f) ->
            fr[f].owed = fr[f].busy;
            n = FREE(f);
            send_return(f, n);
            n = 0
        :: else
        fi;
        id = 0 }
    :: d_step { down[f]?RENAMED(id, _, _) ->
        if
        :: fr[f].container == id -> fr[f].lender = fr[f].life
        :: else
        fi;
        id = 0 }
    :: d_step { down[f]?GONE(id, _, _) ->
        if
        :: fr[f].container == id -> lose_lease(f)
        :: else
        fi;
        id = 0 }
    /* its control is dead: the last words were not written any more, or all are read */
    :: d_step { cut[f] && nempty(down[f]) ->
        do
        :: down[f]?_, _, _, _
        :: empty(down[f]) -> break
        od;
        t = 0 }
    :: d_step { !fr[f].away && !CONNECTED(f) && empty(down[f]) ->
        fr[f].away = true;
        fr[f].owed = 0 } /* there is nobody to give it to */
    :: d_step { fr[f].away && !control_dead -> attach(f) }
    od
}

/* ============================== control ============================== */

inline recall(f)
{
    if
    :: lent[f] > owed[f] ->
        owed[f] = lent[f];
        down[f]!RECALL(instance, 0, 0)
    :: else
    fi
}

/* Serve, recall for those of other fronts, or make one: not before it is known what there is. */
inline attend()
{
    if
    :: state == READY ->
        do
        :: len(waiters) > 0 && out < CONCURRENCY ->
            waiters?from, ticket;
            waiting_from[from]--;
            out++;
            lent[from]++;
            told[from] = true;
            down[from]!GRANT(ticket, 1, instance)
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
    :: state == ABSENT && listed && !stray && len(waiters) > 0 -> state = STARTING
    :: else
    fi;
    from = 0; ticket = 0; i = 0
}

/* No front may use it, what they still return is not counted. */
inline void_instance()
{
    i = 0;
    do
    :: i < FRONTS ->
        if
        :: told[i] -> down[i]!GONE(instance, 0, 0)
        :: else
        fi;
        told[i] = false; lent[i] = 0; owed[i] = 0;
        i++
    :: else -> break
    od;
    i = 0;
    out = 0
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
    :: t == life && id == instance && (state == READY || state == DRAINING) ->
        assert(n <= lent[f]); /* I4: what was lent, and not more */
        lent[f] = lent[f] - n;
        owed[f] = (owed[f] < n -> 0 : owed[f] - n);
        out = out - n;
        attend()
    :: else
    fi;
    f = 0; n = 0; id = 0; t = 0
}

/* fleet_claim: it may be found yet, or nobody knows it */
inline on_claim()
{
    assert(claim[f] == 0);
    if
    :: !listed || (stray && id == instance) -> claim[f] = n; claim_of[f] = id
    :: else -> down[f]!GONE(id, 0, 0)
    fi;
    f = 0; n = 0; id = 0
}

/* Of containers that are not `instance` where `kept`; else of all. */
inline refuse_claims(kept)
{
    i = 0;
    do
    :: i < FRONTS ->
        if
        :: claim[i] > 0 && !(kept && claim_of[i] == instance) ->
            down[i]!GONE(claim_of[i], 0, 0);
            claim[i] = 0; claim_of[i] = NONE
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* From here on the slots are lent by us. */
inline bind_claims()
{
    i = 0;
    do
    :: i < FRONTS ->
        if
        :: claim[i] > 0 ->
            lent[i] = claim[i];
            out = out + claim[i];
            told[i] = true;
            down[i]!RENAMED(instance, 0, 0);
            claim[i] = 0; claim_of[i] = NONE
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* I1 */
inline nobody_holds(c)
{
    assert(!HOLDS(0, c) && !HOLDS(1, c))
}

inline forget_all()
{
    state = ABSENT; instance = NONE; out = 0; listed = false; stray = false;
    do :: waiters?_, _ :: empty(waiters) -> break od;
    i = 0;
    do
    :: i < FRONTS ->
        do :: up[i]?_, _, _, _ :: empty(up[i]) -> break od;
        cut[i] = true;
        lent[i] = 0; owed[i] = 0; told[i] = false; waiting_from[i] = 0;
        pending[i] = false; claim[i] = 0; claim_of[i] = NONE;
        i++
    :: else -> break
    od;
    i = 0
}

proctype control()
{
    byte f, from, ticket, n, id;

end:
    do
    /* what fronts say */
    :: d_step { up[0]?ACQUIRE(ticket, _, _) -> f = 0; on_acquire() }
    :: d_step { up[0]?WITHDRAW(ticket, _, _) -> f = 0; on_withdraw() }
    :: d_step { up[0]?RETURN(n, id, t) -> f = 0; on_return() }
    :: d_step { up[0]?CLAIM(n, id, _) -> f = 0; on_claim() }
    :: d_step { up[0]?SAID_ALL(_, _, _) -> pending[0] = false }
    :: d_step { up[1]?ACQUIRE(ticket, _, _) -> f = 1; on_acquire() }
    :: d_step { up[1]?WITHDRAW(ticket, _, _) -> f = 1; on_withdraw() }
    :: d_step { up[1]?RETURN(n, id, t) -> f = 1; on_return() }
    :: d_step { up[1]?CLAIM(n, id, _) -> f = 1; on_claim() }
    :: d_step { up[1]?SAID_ALL(_, _, _) -> pending[1] = false }
    /* the engine: what there is */
    :: d_step { !control_dead && !listed ->
        listed = true;
        stray = alive != NONE;
        instance = alive;
        refuse_claims(stray);
        attend() }
    /* judged when each front has said what it holds */
    :: d_step { !control_dead && stray && !pending[0] && !pending[1] ->
        stray = false;
        if
        :: alive != instance -> refuse_claims(false)
        :: alive == instance && written == instance ->
            bind_claims();
            state = DRAINING;
            recall(0); recall(1)
        :: alive == instance && written != instance -> bind_claims(); state = READY
        fi;
        attend() }
    :: d_step { !control_dead && state == READY && !calm && unfit < UNFIT ->
        unfit++;
        state = DRAINING;
        recall(0); recall(1) }
    :: d_step { !control_dead && state == STARTING ->
        made++;
        alive = made;
        instance = made;
        state = READY;
        attend() }
    /* its end: written down first, then fronts and engine are told */
    :: d_step { !control_dead && out == 0 &&
                (state == DRAINING || (state == READY && !calm && reaps < REAPS)) ->
        reaps = (state == READY -> reaps + 1 : reaps);
        nobody_holds(instance);
        written = instance;
        state = ENDING }
    :: d_step { !control_dead && state == ENDING ->
        void_instance();
        order = instance;
        state = STOPPING }
    :: d_step { !control_dead && state == STOPPING && alive != instance ->
        state = ABSENT;
        instance = NONE;
        attend() }
    /* it dies: a create on its way is carried out or not, and so is an order */
    :: d_step { !control_dead && !calm && control_deaths < CONTROL_DEATHS ->
        control_deaths++;
        control_dead = true;
        forget_all() }
    :: d_step { !control_dead && !calm && control_deaths < CONTROL_DEATHS && order != NONE ->
        control_deaths++;
        control_dead = true;
        order = NONE;
        forget_all() }
    :: d_step { !control_dead && !calm && control_deaths < CONTROL_DEATHS && state == STARTING ->
        control_deaths++;
        control_dead = true;
        made++;
        alive = made;
        forget_all() }
    :: d_step { control_dead ->
        control_dead = false;
        life++;
        pending[0] = true;
        pending[1] = true }
    od
}

/* The engine, the death of a worker and of a front; and peace. */
proctype environment()
{
    byte f, from, ticket;

end:
    do
    :: d_step { !calm -> calm = true }
    :: d_step { order != NONE ->
        if
        :: alive == order ->
            nobody_holds(order);
            alive = NONE
        :: else
        fi;
        order = NONE }
    :: d_step { !calm && alive != NONE && instance_deaths < INSTANCE_DEATHS ->
        instance_deaths++;
        if
        :: !control_dead && instance == alive && (state == READY || state == DRAINING) ->
            alive = NONE;
            void_instance();
            instance = NONE;
            state = ABSENT;
            attend()
        :: else -> alive = NONE
        fi }
    :: d_step { !calm && front_deaths < FRONT_DEATHS ->
        front_deaths++;
        f = 1; /* which one does not matter: they are alike */
        do :: up[f]?_, _, _, _ :: empty(up[f]) -> break od;
        do :: down[f]?_, _, _, _ :: empty(down[f]) -> break od;
        fr[f].answered = fr[f].asked; /* its clients see their connections end */
        fr[f].waiting = 0;
        fr[f].life = life;
        fr[f].away = control_dead;
        cut[f] = false;
        lose_lease(f);
        do
        :: waiters??[eval(f), ticket] -> waiters??eval(f), ticket; waiting_from[f]--
        :: else -> break
        od;
        out = out - lent[f];
        lent[f] = 0; owed[f] = 0; told[f] = false;
        pending[f] = false; claim[f] = 0; claim_of[f] = NONE;
        attend();
        f = 0; ticket = 0 }
    od
}

/* Nothing moves any more: nobody waits, and what is lent is what is held. */
proctype judge()
{
end:
    atomic { timeout ->
        assert(!control_dead && !stray && listed && claim[0] == 0 && claim[1] == 0);
        assert((state == ABSENT && alive == NONE) || (state == READY && alive == instance));
        assert(fr[0].waiting == 0 && fr[1].waiting == 0);
        assert(fr[0].answered == fr[0].asked && fr[1].answered == fr[1].asked);
        assert(fr[0].slots == 0 && fr[1].slots == 0 && lent[0] == 0 && lent[1] == 0 && out == 0)
    }
}

init
{
    atomic {
        fr[0].life = 1; fr[1].life = 1;
        fr[0].lender = 1; fr[1].lender = 1;
        run front(0);
        run front(1);
        run control();
        run environment();
        run judge()
    }
}
