/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of messages between control and fronts. The difficulty: each field that a reader will
 * trust (a size, a string, a count) is checked here, so that readers need not. */
#include "orchestrator/messages.h"
#include "base/err.h"
#include <netinet/in.h>
#include <sys/un.h>

struct message_shape {
    size_t size;
    bool open_ended, from_control;
};

static const struct message_shape shapes[MESSAGE_COUNT] = {
#define MESSAGE_SHAPE(type, body, open_ended, from_control)                                        \
    [MESSAGE_##type] = {sizeof(struct body), open_ended, from_control},
    MESSAGES(MESSAGE_SHAPE)
#undef MESSAGE_SHAPE
};

#define MESSAGE_FITS(type, body, open_ended, from_control)                                         \
    _Static_assert(sizeof(struct body) + ((open_ended) ? MESSAGE_MAX_PIECE : 0) <=                 \
                       KG_MAX_MESSAGE_BYTES,                                                       \
                   "a " #type " message is too large");
MESSAGES(MESSAGE_FITS)
#undef MESSAGE_FITS

void message_init(void *message, enum message_type type, size_t size)
{
    struct message_head *head = message;

    KG_ASSERT(size >= shapes[type].size && size <= KG_MAX_MESSAGE_BYTES);
    memset(message, 0, shapes[type].size);
    *head = (struct message_head){MESSAGE_VERSION, (uint16_t)type, (uint32_t)size};
}

static bool terminated(const char *text, size_t cap)
{
    return memchr(text, '\0', cap) != NULL;
}

#define TERMINATED(field) terminated(field, sizeof(field))

static bool address_ok(const struct message_address *a)
{
    switch (a->storage.ss_family) {
    case AF_INET:
        return a->length == sizeof(struct sockaddr_in);
    case AF_INET6:
        return a->length == sizeof(struct sockaddr_in6);
    case AF_UNIX: {
        const struct sockaddr_un *un = (const void *)&a->storage;
        return a->length == sizeof *un && TERMINATED(un->sun_path);
    }
    default:
        return false;
    }
}

static bool setup_ok(const struct message_setup *m)
{
    return TERMINATED(m->root) && TERMINATED(m->life) && m->listeners <= KG_MAX_LISTEN + 1;
}

static bool quiet_ok(const struct message_quiet *m)
{
    return TERMINATED(m->quiet.path) && TERMINATED(m->quiet.method) &&
           TERMINATED(m->quiet.user_agent);
}

static bool probe_ok(const struct message_probe *m)
{
    return address_ok(&m->where) && TERMINATED(m->health.path) && TERMINATED(m->name) &&
           m->service < KG_MAX_SERVICES;
}

static bool grant_ok(const struct message_grant *m)
{
    return m->slots > 0 && address_ok(&m->where) && TERMINATED(m->name) &&
           m->service < KG_MAX_SERVICES && m->service == message_ticket_service(m->ticket);
}

static bool hello_ok(const struct message_hello *m)
{
    return TERMINATED(m->life) && m->front >= 0 && m->front < KG_MAX_FRONTS &&
           m->listeners <= KG_MAX_LISTEN + 1;
}

static bool admin_request_ok(const struct message_admin_request *m)
{
    return TERMINATED(m->method) && TERMINATED(m->path) && TERMINATED(m->query) &&
           m->body_bytes <= KG_LOCAL_BODY_BYTES;
}

static bool tls_piece_ok(const struct message_tls_piece *m)
{
    return m->n == m->head.size - sizeof *m && m->certificate < KG_MAX_CERTIFICATES &&
           m->part <= TLS_CLIENT_CA && m->total <= KG_MAX_TLS_FILE_BYTES;
}

static bool content_ok(const struct message_head *head)
{
    const void *m = head;

    switch ((enum message_type)head->type) {
    case MESSAGE_SETUP:
        return setup_ok(m);
    case MESSAGE_CONFIG_SERVICE: {
        const struct message_service *s = m;
        return TERMINATED(s->name) && s->service < KG_MAX_SERVICES;
    }
    case MESSAGE_CONFIG_QUIET:
        return quiet_ok(m);
    case MESSAGE_CONFIG_ROUTE: {
        const struct message_route *r = m;
        return TERMINATED(r->host) && TERMINATED(r->prefix) && r->service < KG_MAX_SERVICES;
    }
    case MESSAGE_TLS_PIECE:
        return tls_piece_ok(m);
    case MESSAGE_TLS_COMMIT: {
        const struct message_tls_commit *c = m;
        return c->certificates > 0 && c->certificates <= KG_MAX_CERTIFICATES;
    }
    case MESSAGE_TLS_TICKETS:
        return ((const struct message_tls_tickets *)m)->count <= TLS_TICKET_KEYS;
    case MESSAGE_GRANT:
        return grant_ok(m);
    case MESSAGE_REFUSE:
        return terminated(((const struct message_refuse *)m)->detail, MESSAGE_DETAIL_BYTES);
    case MESSAGE_PROBE:
        return probe_ok(m);
    case MESSAGE_HELLO:
        return hello_ok(m);
    case MESSAGE_CLAIM:
        return TERMINATED(((const struct message_claim *)m)->name);
    case MESSAGE_ADMIN_REPLY: {
        const struct message_admin_reply *r = m;
        return TERMINATED(r->type) && TERMINATED(r->allow) && r->n == head->size - sizeof *r;
    }
    case MESSAGE_ADMIN_REQUEST:
        return admin_request_ok(m);
    case MESSAGE_ADMIN_BODY: {
        const struct message_admin_body *b = m;
        return b->n == head->size - sizeof *b;
    }
    default:
        return true;
    }
}

const struct message_head *message_check(const void *bytes, size_t n, bool from_control)
{
    const struct message_head *head = bytes;
    const struct message_shape *shape;

    if (n < sizeof *head || head->version != MESSAGE_VERSION || head->size != n)
        return NULL;
    if (head->type == MESSAGE_NONE_ || head->type >= MESSAGE_COUNT)
        return NULL;
    shape = &shapes[head->type];
    if (shape->from_control != from_control || n < shape->size ||
        (n > shape->size && !shape->open_ended))
        return NULL;
    return content_ok(head) ? head : NULL;
}

bool message_set_address(struct message_address *to, const struct sockaddr_storage *from,
                         socklen_t length)
{
    if (length > sizeof to->storage)
        return false;
    memset(to, 0, sizeof *to);
    memcpy(&to->storage, from, length);
    to->length = from->ss_family == AF_UNIX ? sizeof(struct sockaddr_un) : length;
    return address_ok(to);
}

bool message_address_within(struct message_address *where, const char *root)
{
    struct sockaddr_un *un = (void *)&where->storage;
    size_t n = strlen(root);

    if (where->storage.ss_family != AF_UNIX)
        return true;
    if (strncmp(un->sun_path, root, n) != 0 || un->sun_path[n] != '/')
        return false;
    memmove(un->sun_path, un->sun_path + n, sizeof un->sun_path - n);
    return true;
}
