/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP/2 session on one wire, as server or as client: frames, streams, windows, floods.
 * The difficulty: nghttp2 must not be entered from its own callbacks, and an exchange must not be
 * called from its own calls; so verbs only submit, and news are told when nothing is on the stack.
 */
#ifndef PROXY_HTTP2_PRIV_H
#define PROXY_HTTP2_PRIV_H

#include "base/limits.h"
#include "base/list.h"
#include "proxy/http2_flood.h"
#include "proxy/proxy_priv.h"
#include "proxy/wire_priv.h"

struct http2;
struct http2_stream;
struct nghttp2_session;

/* Those codes of RFC 9113 7 that this room uses by name. */
enum http2_code {
    HTTP2_NO_ERROR = 0,
    HTTP2_PROTOCOL_ERROR = 1,
    HTTP2_INTERNAL_ERROR = 2,
    HTTP2_REFUSED_STREAM = 7,
    HTTP2_CANCEL = 8,
    HTTP2_ENHANCE_YOUR_CALM = 11,
    HTTP2_HTTP_1_1_REQUIRED = 13
};

#define HTTP2_MAX_FIELDS 256 /* as they come; what they mean has at most KG_MAX_FIELDS */

struct http2_field {
    struct kg_str name, value; /* names in lower case, pseudo-fields first */
};

enum http2_head_kind {
    HTTP2_REQUEST,  /* server role */
    HTTP2_RESPONSE, /* client role: interim or final, as :status says */
    HTTP2_TRAILERS
};

/* A head as it was decoded; valid during the call only. */
struct http2_head {
    enum http2_head_kind kind;
    const struct http2_field *fields;
    unsigned count;
    bool too_large; /* more than KG_MAX_HEAD_BYTES or HTTP2_MAX_FIELDS: the rest is missing */
};

/* The user of a session. All these are called from http2_feed or from the end of the loop's turn,
 * never from inside a verb; in each of them every verb is allowed. A reset or broken stream is
 * silent but for on_closed. */
struct http2_kind {
    /* Server role: a request's head begins. A zeroed stream, part of one of the user's; NULL:
     * refused. */
    struct http2_stream *(*begin)(struct http2 *h);
    /* A head is whole. `end`: nothing follows it (on_end is not called then). */
    void (*on_head)(struct http2_stream *s, const struct http2_head *head, bool end);
    /* Bytes of a body. They count against the windows until http2_consume. */
    void (*on_data)(struct http2_stream *s, struct kg_str bytes);
    void (*on_end)(struct http2_stream *s); /* the peer's half ended behind data */
    /* Of what was pending (http2_pending) nothing is left. */
    void (*on_drained)(struct http2_stream *s);
    /* It is over, and the session has forgotten it: s may be freed. NO_ERROR: both halves had ended
     * (or http2_stop). Else it was reset by the peer, by us, or ended with the session. */
    void (*on_closed)(struct http2_stream *s, uint32_t code);
    /* The peer takes no further streams; those it has not seen are closed with REFUSED_STREAM. */
    void (*on_goaway)(struct http2 *h, uint32_t code); /* may be NULL */
    /* Nothing more can come or go, and what there was to say is with the wire: the user closes the
     * wire and calls http2_close. */
    void (*on_over)(struct http2 *h);
};

/* Part of a struct of the user's. */
struct http2_stream {
    struct http2 *session; /* NULL: in none */
    int32_t id;
    struct kg_list link;    /* session.streams */
    struct kg_list news;    /* session.news */
    struct kg_buf queue;    /* what windows or the wire had no room for */
    struct kg_str now;      /* bytes of the call under way, not copied */
    struct kg_buf trailers; /* to go behind the last byte: name, NUL, value, NUL */
    unsigned trailer_count;
    uint32_t unconsumed; /* bytes received and not given back to the windows */
    uint32_t code;       /* with `closed` */
    int64_t moved_ms;    /* when bytes of it last went out */
    bool head_waits;     /* submitted and not sent */
    bool last;           /* our half ends behind what is queued */
    bool deferred;       /* nghttp2 asks for no more until it is told of more */
    bool told_pending;   /* on_drained is owed */
    bool end_sent, peer_ended, stop, closed;
    bool answered; /* server role: a final head was submitted */
};

struct http2_assembly; /* a head while it is decoded */

struct http2 {
    struct nghttp2_session *session; /* NULL: not open */
    const struct http2_kind *kind;
    struct wire *wire;
    bool client; /* role */
    bool busy;   /* nghttp2 is on the stack: nothing is sent now */
    bool ending; /* GOAWAY with an error was submitted: over once it is out */
    bool failed; /* the wire, or memory */
    bool over_told;
    bool settled;  /* the peer's SETTINGS have come */
    bool draining; /* the peer was told; a goaway follows */
    bool goaway_sent, goaway_come;
    struct kg_list dirty;   /* proxy.http2.dirty: something is to go out or to be told */
    struct kg_list streams; /* all that on_closed was not called for */
    size_t stream_count;
    struct kg_list news; /* streams that closed or drained */
    struct kg_buf out;   /* frames of this turn */

    struct http2_assembly *head; /* being decoded, or NULL */
    struct http2_stream *head_of;

    struct http2_flood flood;
    int64_t block_ms; /* when the header block that is not whole began; 0: there is none */
};

/* Opens a session on a connected wire. Its SETTINGS go out at the end of this turn. 0, KG_ENOMEM.
 */
int http2_open(struct http2 *h, struct wire *wire, bool client, const struct http2_kind *kind);
/* Calls on_closed (CANCEL) for each stream, then frees all. The wire is the user's to close. Not
 * from inside http2_feed's calls. No-op when not open. */
void http2_close(struct http2 *h);

/* The wire's on_bytes. The session may be over after it, which on_over tells later in this turn. */
void http2_feed(struct http2 *h, const char *bytes, size_t n);
/* The wire's on_drained: what was held back goes on. */
void http2_wire_drained(struct http2 *h);
/* The wire's on_broken: nothing goes out any more; the user may as well call http2_close. */

/* --- heads: the fields are copied. 0; KG_EIO: the stream or the session is over; KG_ENOMEM -- */
/* Client role: opens a stream (zeroed). KG_EAGAIN: the peer takes no more at the moment;
 * KG_ECLOSED: it takes none any more. */
int http2_request(struct http2 *h, struct http2_stream *s, const struct http2_field *fields,
                  unsigned count, bool end);
/* Server role: the final head, and what http2_send would say behind it. */
int http2_respond(struct http2_stream *s, const struct http2_field *fields, unsigned count,
                  struct kg_str bytes, bool last);
int http2_interim(struct http2_stream *s, const struct http2_field *fields, unsigned count);

/* --- bodies -------------------------------------------------------------------------------- */
/* Trailers that are to go out with the last byte: copied; before the http2_send with `last`. */
int http2_trailers(struct http2_stream *s, const struct http2_field *fields, unsigned count);
/* Sends what the windows and the wire have room for, and copies the rest. With `last` our half ends
 * behind it. 0, KG_EIO, KG_ENOMEM, KG_ELIMIT (more than HTTP2_QUEUE_BYTES would be queued). */
#define HTTP2_QUEUE_BYTES (512 * 1024)
int http2_send(struct http2_stream *s, struct kg_str bytes, bool last);
/* Bytes that are still here; not 0 either while a head or an end is. on_drained comes when it is 0
 * again. */
size_t http2_pending(const struct http2_stream *s);
/* The user is done with n bytes of on_data: the peer may send as many again. */
void http2_consume(struct http2_stream *s, size_t n);
/* Ends the stream at once: what is queued is forgotten. on_closed follows. */
void http2_reset(struct http2_stream *s, uint32_t code);
/* Server role: once our half has ended the peer need not go on with its own. on_closed (NO_ERROR)
 * follows when all is out. */
void http2_stop(struct http2_stream *s);
/* Whether the peer may not send a byte of this stream because a window is used up. */
bool http2_peer_blocked(const struct http2_stream *s);

/* --- the session --------------------------------------------------------------------------- */
/* Server role: http2_goaway once the peer has heard of it, so that nothing it sent before is left
 * out. It may never say so: the user has a deadline, and calls http2_goaway then. */
void http2_drain(struct http2 *h);
/* GOAWAY with NO_ERROR: takes no new streams; those that are open go on. */
void http2_goaway(struct http2 *h);
/* GOAWAY, and that is the end: on_over follows once it is with the wire. */
void http2_terminate(struct http2 *h, uint32_t code);
/* Client role: how many streams more could be opened now. */
size_t http2_room(const struct http2 *h);
uint32_t http2_most_streams(const struct http2 *h); /* and how many at once in all */

/* --- the end of a turn: what was submitted leaves in one write per session ------------------ */
void http2_turns_open(struct proxy *p);
void http2_turns_close(struct proxy *p);

#endif
