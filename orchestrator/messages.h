/* SPDX-License-Identifier: Apache-2.0 */
/* What control and its fronts say to each other: plain values of fixed size, checked on receipt.
 * The difficulty: a front may have been taken over, so nothing in a message is believed unchecked.
 */
#ifndef ORCHESTRATOR_MESSAGES_H
#define ORCHESTRATOR_MESSAGES_H

#include "base/limits.h"
#include "base/str.h"
#include "orchestrator/engine.h"
#include "proxy/proxy.h"
#include "proxy/tls.h"
#include <sys/socket.h>

#define MESSAGE_VERSION 3
#define MESSAGE_MAX_PIECE 1536 /* bytes of an admin body in one message */
#define MESSAGE_DETAIL_BYTES 256

/* type, struct, size is a minimum (bytes follow), sent by control */
#define MESSAGES(X)                                                                                \
    X(SETUP, message_setup, false, true)                                                           \
    X(CONFIG_BEGIN, message_plain, false, true)                                                    \
    X(CONFIG_SERVICE, message_service, false, true)                                                \
    X(CONFIG_QUIET, message_quiet, false, true)                                                    \
    X(CONFIG_ROUTE, message_route, false, true)                                                    \
    X(CONFIG_COMMIT, message_plain, false, true)                                                   \
    X(TLS_PIECE, message_tls_piece, true, true)                                                    \
    X(TLS_COMMIT, message_tls_commit, false, true)                                                 \
    X(TLS_TICKETS, message_tls_tickets, false, true)                                               \
    X(GRANT, message_grant, false, true)                                                           \
    X(REFUSE, message_refuse, false, true)                                                         \
    X(RECALL, message_instance, false, true)                                                       \
    X(PROBE, message_probe, false, true)                                                           \
    X(PROBE_STOP, message_instance, false, true)                                                   \
    X(GONE, message_instance, false, true)                                                         \
    X(ADMIN_REPLY, message_admin_reply, true, true)                                                \
    X(RENAMED, message_renamed, false, true)                                                       \
    X(DRAIN, message_plain, false, true)                                                           \
    X(HELLO, message_hello, false, false)                                                          \
    X(CLAIM, message_claim, false, false)                                                          \
    X(READY, message_plain, false, false)                                                          \
    X(ACQUIRE, message_acquire, false, false)                                                      \
    X(WITHDRAW, message_ticket, false, false)                                                      \
    X(RETURN, message_return, false, false)                                                        \
    X(PROBED, message_instance, false, false)                                                      \
    X(SUSPECT, message_instance, false, false)                                                     \
    X(ADMIN_REQUEST, message_admin_request, false, false)                                          \
    X(ADMIN_BODY, message_admin_body, true, false)                                                 \
    X(ADMIN_GONE, message_ticket, false, false)

enum message_type {
    MESSAGE_NONE_,
#define MESSAGE_CONSTANT(type, body, open_ended, from_control) MESSAGE_##type,
    MESSAGES(MESSAGE_CONSTANT)
#undef MESSAGE_CONSTANT
        MESSAGE_COUNT
};

struct message_head {
    uint16_t version, type;
    uint32_t size; /* of the whole message */
};
struct message_plain {
    struct message_head head;
};
struct message_setup { /* the first a front gets: what its inherited descriptors are */
    struct message_head head;
    int32_t front;
    uint32_t listeners;
    uint8_t local[KG_MAX_LISTEN + 1], unix_socket[KG_MAX_LISTEN + 1], secure[KG_MAX_LISTEN + 1];
    uint8_t access_log, log_level, log_format;
    uint8_t protocols; /* enum proxy_protocol */
    uint8_t door;      /* there is a socket to accept another control from */
    uint32_t max_connections_per_client;
    uint32_t control_user; /* who alone may be our control */
    uint64_t set_up;       /* a digest of all this and of what the descriptors are */
    char life[64];         /* name of the lock that is held while we live */
    char root[256];        /* the only directory it may see, where that can be; "": any */
};
struct message_service {
    struct message_head head;
    uint32_t service;
    uint8_t strip_prefix, h2c;
    int32_t quiet_status;
    int64_t request_timeout_ms, max_body_bytes;
    char name[KG_MAX_NAME_BYTES + 1];
};
struct message_quiet { /* of the service named last */
    struct message_head head;
    struct proxy_quiet quiet;
};
struct message_route {
    struct message_head head;
    uint32_t service;
    char host[256], prefix[KG_MAX_ROUTE_BYTES + 1];
};
struct message_tls_piece { /* of one file's bytes; the first one is at 0 */
    struct message_head head;
    uint32_t certificate;
    uint8_t part; /* enum tls_part */
    uint32_t total, at, n;
    char bytes[];
};
struct message_tls_commit { /* all of so many certificates were told */
    struct message_head head;
    uint32_t certificates;
};
struct message_tls_tickets {
    struct message_head head;
    uint32_t count;
    struct tls_ticket_key keys[TLS_TICKET_KEYS];
};
struct message_address {
    uint32_t length;
    struct sockaddr_storage storage;
};
struct message_grant {
    struct message_head head;
    uint64_t ticket, instance;
    uint32_t service, slots;
    uint32_t warmth; /* enum proxy_warmth */
    uint8_t thawed;  /* it was frozen since this front last had slots of it */
    int64_t linger_ms;
    struct message_address where;
    char name[ENGINE_NAME_BYTES]; /* by which another control would know the instance */
};
struct message_refuse {
    struct message_head head;
    uint64_t ticket;
    uint32_t reason;
    int64_t retry_after_ms;
    char detail[MESSAGE_DETAIL_BYTES];
};
struct message_instance {
    struct message_head head;
    uint64_t instance;
};
struct message_probe {
    struct message_head head;
    uint64_t instance;
    uint32_t service;
    struct proxy_health health;
    struct message_address where;
    char name[ENGINE_NAME_BYTES];
};
/* The first a control gets that a front has accepted; its descriptors come along: counters, the
 * socket that the front accepts controls from, its listeners. */
struct message_hello {
    struct message_head head;
    int32_t front;
    uint32_t listeners;
    uint64_t set_up;
    char life[64];
};
/* Slots that a former control lent: answered by RENAMED or GONE, and not returned before. */
struct message_claim {
    struct message_head head;
    uint64_t instance; /* as that control called it */
    uint32_t slots;
    int64_t used_ms;
    char name[ENGINE_NAME_BYTES];
};
struct message_renamed {
    struct message_head head;
    uint64_t known_as, instance;
    int64_t linger_ms;
};
struct message_ticket {
    struct message_head head;
    uint64_t ticket;
};
struct message_acquire {
    struct message_head head;
    uint64_t ticket; /* rises; its low 13 bits are the service, so that each side finds it */
    uint8_t quiet;
};
struct message_return {
    struct message_head head;
    uint64_t instance;
    uint32_t slots;
    uint8_t recalled; /* answers a RECALL: slots are all that were free, perhaps none */
    int64_t used_ms;  /* monotonic; 0: not used */
};
struct message_admin_request {
    struct message_head head;
    uint64_t request;
    uint32_t body_bytes; /* come in ADMIN_BODY messages */
    char method[16], path[256], query[512];
};
struct message_admin_body {
    struct message_head head;
    uint64_t request;
    uint32_t n;
    char bytes[];
};
struct message_admin_reply {
    struct message_head head;
    uint64_t request;
    int64_t retry_after_ms;
    int32_t status;
    uint8_t last;
    char type[64], allow[32];
    uint32_t n;
    char bytes[];
};

#define MESSAGE_SERVICE_BITS 13
_Static_assert(KG_MAX_SERVICES <= 1 << MESSAGE_SERVICE_BITS, "a ticket cannot name every service");
static inline uint32_t message_ticket_service(uint64_t ticket)
{
    return (uint32_t)(ticket & ((1u << MESSAGE_SERVICE_BITS) - 1));
}

/* Zeroes the message and fills its head; `size` as the whole message has. */
void message_init(void *message, enum message_type type, size_t size);
#define MESSAGE_INIT(m, type) message_init((m), MESSAGE_##type, sizeof *(m))

/* The checked head, or NULL: version, type, direction and size right, strings terminated, counts
 * within their message. `from_control`: which direction it came. Bytes must be aligned to 8. */
const struct message_head *message_check(const void *bytes, size_t n, bool from_control);

/* sockaddr <-> message: false when it does not fit (or is not one we know: AF_INET, _INET6, _UNIX).
 */
bool message_set_address(struct message_address *to, const struct sockaddr_storage *from,
                         socklen_t length);
/* As it is seen by a front whose root is `root`: the path of a socket in there begins at it. False
 * for one that is elsewhere. */
bool message_address_within(struct message_address *where, const char *root);

#endif
