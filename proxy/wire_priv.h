/* SPDX-License-Identifier: Apache-2.0 */
/* One socket with a send queue: all that the proxy does with libuv's streams.
 * The difficulty: a write that the kernel does not take whole must neither block nor lose its
 * place, and whoever feeds it has to learn when to go on. */
#ifndef PROXY_WIRE_PRIV_H
#define PROXY_WIRE_PRIV_H

#include "base/buf.h"
#include "base/wheel.h"
#include <uv.h>

struct proxy;
struct tls;
struct wire;

/* Who listens to a wire at the moment. It is swapped as the connection's use changes (a pooled
 * connection, one with an exchange, a tunnel). Any of these may close the wire. */
struct wire_kind {
    /* How many bytes are wanted now; 0: reading stops until wire_read(w, true). */
    size_t (*room)(struct wire *w);
    void (*on_bytes)(struct wire *w, char *bytes, size_t n); /* n > 0; the callee may change them */
    void (*on_eof)(struct wire *w);     /* the peer sends nothing more; it may still read */
    void (*on_drained)(struct wire *w); /* all that was queued is with the kernel */
    void (*on_broken)(struct wire *w);  /* an error, or the peer took no byte for too long */
    void (*on_paused)(struct wire *w);  /* reading stopped for want of room; may be NULL */
    /* The peer takes no more, but may have sent an answer that is still to be read; NULL: on_broken
     * is called instead. */
    void (*on_unwritable)(struct wire *w);
};

struct wire {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uv_write_t write;
    const struct wire_kind *kind;
    void (*on_closed)(struct wire *w); /* frees it */
    struct proxy *proxy;
    struct tls *tls;             /* NULL: bytes go as they are */
    struct kg_buf going, queued; /* with libuv; behind that */
    struct kg_timer stall;
    size_t stall_left;    /* bytes with libuv when the stall timer was armed */
    uint64_t taken_bytes; /* by the kernel; see wire_taken */
    bool unix_socket, reading, eof, writing, fin_wanted, unwritable, broken, closing;
};

/* Makes the handle, without a socket yet. on_closed frees the wire, also after a later failure:
 * from here on it ends by wire_close only. 0 or KG_EIO (then there is no handle, and nothing to
 * close). */
int wire_init(struct wire *w, struct proxy *p, bool unix_socket, size_t max_queue_bytes,
              const struct wire_kind *kind, void (*on_closed)(struct wire *w));
/* Takes fd over, always: on KG_EIO it is closed. */
int wire_open(struct wire *w, int fd);

/* From here on the peer is a client that speaks TLS; before the first wire_read. All else goes on
 * as it is written here: what comes and what is sent are the bytes inside. 0 or KG_ENOMEM. */
int wire_secure(struct wire *w);
bool wire_is_secure(const struct wire *w);
/* The protocol agreed with the client by ALPN, known once on_bytes was called; empty: none. */
struct kg_str wire_protocol(const struct wire *w);
/* Whether a request for this host (without a port) may come on this connection: false when the
 * client asked for another name as it opened it. */
bool wire_host_agrees(const struct wire *w, struct kg_str host);

void wire_read(struct wire *w, bool on);
/* Gives all bytes to the kernel, or copies what it does not take. Never calls back. 0; KG_EIO: the
 * peer takes no more (no callback follows for it; reading may go on); KG_ENOMEM, KG_ELIMIT: the
 * queue cannot hold it. After a failure nothing more can be sent. */
int wire_send(struct wire *w, const uv_buf_t *bufs, unsigned count);
size_t wire_pending(const struct wire *w); /* bytes that the kernel has not taken yet */
/* Bytes that the kernel may have taken since taken_bytes was last set to 0. */
uint64_t wire_taken(const struct wire *w);
void wire_fin(struct wire *w);     /* ends our half once all is out; wire_send fails after */
void wire_trim(struct wire *w);    /* gives queue memory back; nothing may be pending */
int wire_fd(const struct wire *w); /* -1: none */
/* Whether the connection is dead or the peer has ended its half, asked of the kernel without
 * reading: poll(2)'s POLLERR, POLLHUP, POLLRDHUP bits. For a wire that is not being read. */
short wire_poll(const struct wire *w);
/* Whether bytes or an end are waiting to be read: one recv. */
bool wire_readable(const struct wire *w);
/* Keep-alive probes tell a TCP peer that is gone without a word from one that only has nothing to
 * say: what is open with it breaks after two minutes. */
void wire_probe_peer(int fd);
void wire_close(struct wire *w); /* asynchronous; no callback but on_closed comes after */
void wire_reset(struct wire *w); /* the same, by RST where the transport has one */
/* From here on the kernel closes it by RST, also where this process is killed. */
void wire_ends_by_reset(struct wire *w, bool on);

/* --- between wire.c and tls.c -------------------------------------------------------------- */
extern char wire_read_buffer[]; /* where every read of this process lands */
/* As wire_send, for bytes that go out as they are. */
int wire_send_raw(struct wire *w, const uv_buf_t *bufs, unsigned count);
void wire_ended(struct wire *w); /* the peer sends nothing more: tells the kind */
void wire_broke(struct wire *w); /* the same for a failure */
/* There is no room: reading stops until wire_read. */
void wire_paused(struct wire *w);
int wire_listen_on(struct wire *w); /* the kernel is asked for bytes (again); 0 or KG_EIO */

#endif
