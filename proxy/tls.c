/* SPDX-License-Identifier: Apache-2.0 */
/* TLS under one wire: what comes is decrypted as far as there is room for it, what goes is
 * encrypted at once. The difficulty: a handshake is a thousand times the work of a read, so of
 * those that wait only one is worked on in a turn of the loop; and what was read, but has no room
 * yet, waits here without being forgotten. */
#include "proxy/proxy_priv.h"
#include "proxy/tls_priv.h"
#include "proxy/wire_priv.h"
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#define HANDSHAKE_BYTES (64 * 1024) /* that one may take */
#define AHEAD_BYTES (8 * 1024)      /* that wait for a handshake's turn */
#define LEAST_READ_BYTES 4096       /* however little there is room for: a record comes whole */
#define RECORD_BYTES (16 * 1024)
#define OUT_BYTES (KG_READ_BUFFER_BYTES + 4096) /* one read's worth, encrypted */

/* Of the call under way; no two ever are. */
static char plain[KG_READ_BUFFER_BYTES], gathered[RECORD_BYTES], out[OUT_BYTES];
static size_t out_n;

/* --- what OpenSSL reads from and writes to --------------------------------------------------- */

/* Sends what was collected. */
static void flush(struct tls *t)
{
    uv_buf_t buf = uv_buf_init(out, (unsigned)out_n);
    struct wire *w = t->wire;

    if (out_n > 0 && t->send_code == 0)
        t->send_code =
            w->unwritable || w->broken || w->closing ? KG_EIO : wire_send_raw(w, &buf, 1);
    out_n = 0;
}

static int bio_write(BIO *bio, const char *bytes, int n)
{
    struct tls *t = BIO_get_data(bio);
    size_t left = n > 0 ? (size_t)n : 0;

    while (left > 0) {
        size_t step = left < OUT_BYTES - out_n ? left : OUT_BYTES - out_n;
        memcpy(out + out_n, bytes, step);
        out_n += step;
        bytes += step;
        left -= step;
        if (out_n == OUT_BYTES)
            flush(t);
    }
    return n;
}

static int bio_read(BIO *bio, char *into, int n)
{
    struct tls *t = BIO_get_data(bio);
    size_t step = n > 0 && (size_t)n < t->in_n ? (size_t)n : t->in_n;

    BIO_clear_retry_flags(bio);
    if (step == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(into, t->in, step);
    t->in += step;
    t->in_n -= step;
    return (int)step;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method(void)
{
    static BIO_METHOD *m;

    if (m)
        return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire");
    if (m) {
        BIO_meth_set_write(m, bio_write);
        BIO_meth_set_read(m, bio_read);
        BIO_meth_set_ctrl(m, bio_control);
    }
    return m;
}

/* Begins a call that lets OpenSSL read `bytes`. */
static void enter(struct tls *t, const char *bytes, size_t n)
{
    ERR_clear_error();
    t->in = bytes;
    t->in_n = n;
    t->send_code = 0;
}

/* --- turns of the loop ----------------------------------------------------------------------- */

static void on_turn(uv_idle_t *idle);

static void start_turns(struct tls_server *s)
{
    bool waiting = !kg_list_empty(&s->ready) || (s->contexts && !kg_list_empty(&s->handshakes));

    if (waiting && !s->proxy->closing)
        uv_idle_start(&s->turn, on_turn);
}

static void wait_turn(struct tls *t, struct kg_list *list)
{
    if (!kg_list_empty(&t->turn))
        return;
    kg_list_push_back(list, &t->turn);
    start_turns(t->server);
}

/* --- what came ------------------------------------------------------------------------------- */

/* Keeps what was not worked on. False: no memory. */
static bool keep_rest(struct tls *t)
{
    size_t done;

    if (t->held.len > 0) {
        done = t->held.len - t->in_n;
        kg_buf_drop_front(&t->held, done);
    } else {
        kg_buf_append(&t->held, t->in, t->in_n);
    }
    t->in_n = 0;
    if (t->held.len == 0)
        kg_buf_fini(&t->held);
    return t->held.error == 0;
}

/* Up to `room` plain bytes; finds out about the end behind them. */
static size_t decrypt(struct tls *t, size_t room)
{
    size_t n = 0, step = 0;
    int error;

    if (room > sizeof plain)
        room = sizeof plain;
    while (n < room && !t->ended && !t->broken) {
        if (SSL_read_ex(t->ssl, plain + n, room - n, &step) == 1) {
            n += step;
            continue;
        }
        error = SSL_get_error(t->ssl, 0);
        if (error == SSL_ERROR_WANT_READ && !t->last)
            break;
        t->ended = error == SSL_ERROR_ZERO_RETURN || error == SSL_ERROR_WANT_READ;
        t->broken = !t->ended;
    }
    return n;
}

/* Hands over what there is room for, then what is behind it. */
static void deliver(struct tls *t)
{
    struct wire *w = t->wire;
    size_t room = 0, n;

    while (w->reading && (room = w->kind->room(w)) > 0 && (n = decrypt(t, room)) > 0) {
        flush(t); /* what OpenSSL answered by itself; the kind may send on other wires */
        w->kind->on_bytes(w, plain, n);
        if (w->closing)
            return;
    }
    flush(t);
    if (!keep_rest(t))
        t->broken = true;
    if (!w->reading)
        return;
    if (room == 0 && tls_has_bytes(t)) {
        wire_paused(w);
    } else if (room > 0 && t->ended) {
        uv_read_stop(&w->uv.stream);
        wire_ended(w);
    } else if (room > 0 && t->broken) {
        wire_broke(w);
    }
}

/* --- handshakes ------------------------------------------------------------------------------ */

static int begin(struct tls *t)
{
    struct tls_server *s = t->server;
    BIO_METHOD *m = method();
    BIO *bio;

    if (s->under_way >= KG_MAX_HANDSHAKES)
        return KG_ELIMIT;
    bio = m ? BIO_new(m) : NULL;
    t->ssl = bio ? tls_contexts_session(s->contexts, t) : NULL;
    if (!t->ssl) {
        BIO_free(bio);
        return KG_ENOMEM;
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    s->under_way++;
    return 0;
}

static void succeed(struct tls *t)
{
    struct proxy_stats *stats = t->server->proxy->stats;

    t->done = true;
    t->server->under_way--;
    if (SSL_session_reused(t->ssl))
        stats->tls_resumed++;
    else
        stats->tls_full++;
}

/* The kernel is asked again, unless something is here still. */
static void listen_again(struct tls *t)
{
    struct wire *w = t->wire;

    if (w->reading && !w->closing && kg_list_empty(&t->turn) && wire_listen_on(w) != 0)
        w->reading = false;
}

static void shake(struct tls *t)
{
    struct wire *w = t->wire;
    int rc;

    if (!t->ssl && begin(t) != 0) {
        wire_broke(w);
        return;
    }
    enter(t, t->held.data, t->held.len);
    rc = SSL_do_handshake(t->ssl);
    flush(t);
    t->shaken += t->held.len - t->in_n;
    if (rc == 1) {
        succeed(t);
        deliver(t); /* a request, and much of its body, may be here already */
        listen_again(t);
    } else if (SSL_get_error(t->ssl, rc) == SSL_ERROR_WANT_READ && t->send_code == 0 &&
               t->shaken <= HANDSHAKE_BYTES) {
        keep_rest(t);
        if (t->last)
            wire_ended(w);
        else
            listen_again(t);
    } else {
        wire_broke(w);
    }
}

/* Goes on with what is here. */
static void go_on(struct tls *t)
{
    if (!t->wire->reading)
        return;
    enter(t, t->held.data, t->held.len);
    deliver(t);
    listen_again(t);
}

static void on_turn(uv_idle_t *idle)
{
    struct tls_server *s = idle->data;
    struct kg_list *first, now;

    kg_list_init(&now);
    while ((first = kg_list_first(&s->ready)) != NULL) {
        kg_list_remove(first);
        kg_list_push_back(&now, first);
    }
    while ((first = kg_list_first(&now)) != NULL) {
        kg_list_remove(first);
        go_on(KG_LIST_ENTRY(first, struct tls, turn));
    }
    first = s->contexts ? kg_list_first(&s->handshakes) : NULL;
    if (first) {
        kg_list_remove(first);
        shake(KG_LIST_ENTRY(first, struct tls, turn));
    }
    uv_idle_stop(idle);
    start_turns(s);
}

/* --- the wire's side ------------------------------------------------------------------------- */

struct tls *tls_new(struct wire *w)
{
    struct tls *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->wire = w;
    t->server = w->proxy->tls;
    kg_list_init(&t->turn);
    kg_buf_init(&t->held, KG_READ_BUFFER_BYTES);
    return t;
}

void tls_close(struct tls *t)
{
    kg_list_remove(&t->turn);
    if (!t->ssl || t->done)
        return;
    t->done = true;
    t->server->under_way--;
    t->server->proxy->stats->tls_failed++;
}

void tls_free(struct tls *t)
{
    SSL_free(t->ssl);
    kg_buf_fini(&t->held);
    free(t->name);
    free(t);
}

size_t tls_room(const struct tls *t)
{
    size_t room;

    if (!t->done)
        return AHEAD_BYTES - t->held.len;
    room = t->wire->kind->room(t->wire);
    return room > 0 && room < LEAST_READ_BYTES ? LEAST_READ_BYTES : room;
}

void tls_bytes(struct tls *t, const char *bytes, size_t n)
{
    if (t->done && t->held.len == 0) {
        enter(t, bytes, n);
        deliver(t);
    } else if (kg_buf_append(&t->held, bytes, n) != 0) {
        wire_broke(t->wire);
    } else {
        if (!t->done && t->held.len == AHEAD_BYTES)
            uv_read_stop(&t->wire->uv.stream); /* its turn comes first */
        wait_turn(t, t->done ? &t->server->ready : &t->server->handshakes);
    }
}

bool tls_end(struct tls *t)
{
    t->last = t->held.len > 0;
    return t->last;
}

bool tls_has_bytes(const struct tls *t)
{
    return t->held.len > 0 || t->ended || t->broken || (t->ssl && SSL_has_pending(t->ssl));
}

bool tls_go_on(struct tls *t)
{
    if (!t->done)
        return t->held.len == AHEAD_BYTES; /* it waits for its turn */
    if (t->held.len + t->in_n == 0 && !t->ended && !t->broken && SSL_pending(t->ssl) == 0)
        return false;
    wait_turn(t, &t->server->ready);
    return true;
}

/* --- what goes ----------------------------------------------------------------------------- */

static int encrypt(struct tls *t, const char *bytes, size_t n)
{
    size_t took;

    if (n == 0 || SSL_write_ex(t->ssl, bytes, n, &took) == 1)
        return 0;
    t->wire->unwritable = true;
    return KG_EIO;
}

/* Small pieces go in one record; whole records of large ones without a copy. */
int tls_send(struct tls *t, const uv_buf_t *bufs, unsigned count)
{
    size_t n = 0;
    int rc = 0;

    if (!t->done) {
        t->wire->unwritable = true;
        return KG_EIO;
    }
    ERR_clear_error();
    t->send_code = 0;
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        const char *at = bufs[i].base;
        size_t left = bufs[i].len;
        while (rc == 0 && left > 0) {
            size_t step = RECORD_BYTES - n;
            if (n == 0 && (count == 1 || left >= RECORD_BYTES)) {
                step = count == 1 ? left : left - left % RECORD_BYTES;
                rc = encrypt(t, at, step);
            } else {
                step = left < step ? left : step;
                memcpy(gathered + n, at, step);
                n += step;
                if (n == RECORD_BYTES) {
                    rc = encrypt(t, gathered, n);
                    n = 0;
                }
            }
            at += step;
            left -= step;
        }
    }
    if (rc == 0)
        rc = encrypt(t, gathered, n);
    flush(t);
    return rc != 0 ? rc : t->send_code;
}

void tls_fin(struct tls *t)
{
    if (!t->done || !t->ssl || SSL_in_init(t->ssl))
        return;
    ERR_clear_error();
    t->send_code = 0;
    SSL_shutdown(t->ssl);
    flush(t);
}

/* --- what was agreed ----------------------------------------------------------------------- */

struct kg_str tls_protocol(const struct tls *t)
{
    const unsigned char *p = NULL;
    unsigned n = 0;

    if (t->ssl)
        SSL_get0_alpn_selected(t->ssl, &p, &n);
    return n > 0 ? (struct kg_str){(const char *)p, n} : (struct kg_str){"", 0};
}

bool tls_host_agrees(const struct tls *t, struct kg_str host)
{
    if (!t->name || host.n == 0) /* HTTP/1.0 need not name one */
        return true;
    if (host.n > 1 && host.p[host.n - 1] == '.')
        host.n--;
    return kg_str_eq_nocase(host, kg_str_of(t->name));
}

/* --- the server's life --------------------------------------------------------------------- */

struct tls_server *tls_server_open(struct proxy *p)
{
    struct tls_server *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->proxy = p;
    kg_list_init(&s->handshakes);
    kg_list_init(&s->ready);
    uv_idle_init(p->loop, &s->turn);
    s->turn.data = s;
    p->handles++;
    return s;
}

static void on_closed(uv_handle_t *h)
{
    proxy_handle_closed(((struct tls_server *)h->data)->proxy);
}

void tls_server_close(struct tls_server *s)
{
    uv_close((uv_handle_t *)&s->turn, on_closed);
}

void tls_server_free(struct tls_server *s)
{
    if (!s)
        return;
    KG_ASSERT(s->under_way == 0);
    tls_contexts_free(s->contexts);
    tls_wipe(s->keys, sizeof s->keys);
    free(s);
}

int proxy_tls_set(struct proxy *p, const struct tls_material *m, struct kg_err *err)
{
    size_t refused = tls_memory_refused();
    struct tls_contexts *next;

    if (!p->tls)
        return 0; /* no listener needs them */
    next = tls_contexts_new(p->tls, m, err);
    if (next && tls_memory_refused() != refused) { /* it may lack what a client needs */
        tls_contexts_free(next);
        return kg_fail(err, KG_ENOMEM, "out of memory");
    }
    if (!next)
        return KG_EINVAL;
    tls_contexts_free(p->tls->contexts);
    p->tls->contexts = next;
    start_turns(p->tls);
    return 0;
}

static bool has_key(const struct tls_ticket_key *keys, unsigned count,
                    const struct tls_ticket_key *one)
{
    for (unsigned i = 0; i < count; i++)
        if (memcmp(keys[i].name, one->name, sizeof one->name) == 0)
            return true;
    return false;
}

/* Where there is place, keys of before go on decrypting: whoever makes them may have begun anew. */
void proxy_tls_tickets(struct proxy *p, const struct tls_ticket_key *keys, unsigned count)
{
    struct tls_ticket_key all[TLS_TICKET_KEYS];
    struct tls_server *s = p->tls;

    KG_ASSERT(count <= TLS_TICKET_KEYS);
    if (!s)
        return;
    memcpy(all, keys, count * sizeof *keys);
    for (unsigned i = 0; i < s->key_count && count < TLS_TICKET_KEYS; i++)
        if (!has_key(all, count, &s->keys[i]))
            all[count++] = s->keys[i];
    memcpy(s->keys, all, count * sizeof *all);
    s->key_count = count;
    tls_wipe(all, sizeof all);
}
