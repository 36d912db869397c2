/* SPDX-License-Identifier: Apache-2.0 */
/* Networks that we make: what they are called and made of, and how one is found or made.
 * The difficulty: an engine chooses a range and says which, but lets others choose addresses only
 * from ranges that they named, so a network is made twice; and each of the calls may go wrong. */
#include "base/log.h"
#include "orchestrator/digest.h"
#include "orchestrator/engine_priv.h"
#include <stdio.h>

#define NETWORK_PREFIX "kipgate-"
#define MOST_MADE 3 /* in a search; somebody may remove what is not used yet */
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789-" /* of a group: of a service */

static void look(struct engine_network *net);
static void make(struct engine_network *net);

/* --- names and bodies --------------------------------------------------------------------- */

/* Of the owner: short enough to be read, long enough not to meet another owner's. */
void engine_network_name(const char *owner, const char *group, char *out, size_t cap)
{
    char hex[65];

    digest_sha256_hex(kg_str_of(owner), hex);
    snprintf(out, cap, NETWORK_PREFIX "%.8s%s%s", hex, *group ? "-" : "", group);
}

bool engine_network_in(const char *owner, const char *words, char *out, size_t cap)
{
    char prefix[ENGINE_NAME_BYTES];
    const char *at;
    size_t n;

    engine_network_name(owner, "", prefix, sizeof prefix);
    at = strstr(words, prefix);
    n = at ? strspn(at, NAME_CHARACTERS) : 0;
    return n > strlen(prefix) + 1 && at[strlen(prefix)] == '-' &&
           kg_str_copy(out, cap, (struct kg_str){at, n});
}

bool engine_network_is_ours(const char *owner, const struct json *inspected)
{
    return strcmp(json_string(json_get(json_get(inspected, "Labels"), LABEL_OWNER), ""), owner) ==
           0;
}

static void set_range(struct json *root, struct json *labels, const struct engine_range *r)
{
    struct json *ipam = json_new_object(), *list = json_new_array(), *config = json_new_object();

    json_set_string(config, "Subnet", r->subnet);
    json_set_string(config, "Gateway", r->gateway);
    json_push(list, config);
    json_set(ipam, "Config", list);
    json_set(root, "IPAM", ipam);
    json_set_string(labels, LABEL_ADDRESSES, ADDRESSES_OURS);
}

static int put_body(const struct engine_network *net, struct kg_buf *out)
{
    struct json *root = json_new_object(), *labels = json_new_object(),
                *options = json_new_object();
    int rc;

    json_set_string(root, "Name", net->name);
    json_set_bool(root, "CheckDuplicate", true);
    json_set_string(root, "Driver", "bridge");
    json_set_string(labels, LABEL_OWNER, net->engine->owner);
    if (net->range.count > 0)
        set_range(root, labels, &net->range);
    json_set(root, "Labels", labels);
    json_set_string(options, "com.docker.network.bridge.enable_icc",
                    net->walled ? "false" : "true");
    json_set(root, "Options", options);
    rc = json_print(root, false, out);
    json_free(root);
    return rc;
}

/* --- the search --------------------------------------------------------------------------- */

static void end(struct engine_network *net, const struct json *found,
                const struct engine_answer *failure)
{
    net->running = false;
    net->on_end(net, found, failure);
}

/* An answer that ends the search: none. */
static bool is_lost(struct engine_network *net, const struct transport_answer *a)
{
    struct engine *e = net->engine;
    struct engine_answer failure = {0};

    net->call = 0;
    if (a->code == 0)
        return false;
    engine_judge(KIND_CREATE, a, &failure);
    end(net, NULL, &failure);
    if (a->refused && !e->closing)
        engine_lost(e, failure.words);
    return true;
}

static void ask(struct engine_network *net, const char *method, const char *path, const char *body,
                transport_done *on_done)
{
    const struct engine_answer failure = {.code = KG_ENOMEM, .words = "out of memory"};

    net->call = engine_ask(net->engine, method, path, body, on_done, net);
    if (net->call == 0)
        end(net, NULL, &failure);
}

static void ask_about(struct engine_network *net, const char *method, transport_done *on_done)
{
    char path[ENGINE_NAME_BYTES + 16];

    snprintf(path, sizeof path, "/networks/%s", net->name);
    ask(net, method, path, NULL, on_done);
}

static void do_without(struct engine_network *net, const char *event, const char *why, int status)
{
    KG_LOG(KG_LOG_WARN, event, KG_F("network", net->name), KG_FN("status", status),
           KG_F("why", why),
           KG_F("then", net->walled ? "workers join the engine's default network"
                                    : "its workers join the network of all"));
    end(net, NULL, NULL);
}

/* An answer that says nothing of the network: who wants it asks again, but so often only. */
static bool put_off(struct engine_network *net, const struct transport_answer *a)
{
    struct engine_answer failure = {.code = KG_EPROTO};
    char words[160];

    if ((a->status < 500 && a->status != 200) || ++net->odd > ENGINE_MOST_ODD)
        return false;
    engine_parse_message(a->body, words, sizeof words);
    snprintf(failure.words, sizeof failure.words, "the engine answered %d about a network: %s",
             a->status, words);
    end(net, NULL, &failure);
    return true;
}

/* For what the engine says itself. */
static void do_without_it(struct engine_network *net, const struct transport_answer *a)
{
    char why[256];

    engine_parse_message(a->body, why, sizeof why);
    do_without(net, "engine-network-refused", why, a->status);
}

static void on_made(void *arg, const struct transport_answer *a)
{
    struct engine_network *net = arg;

    if (is_lost(net, a))
        return;
    if (a->status >= 400 && a->status != 409 && net->range.count > 0) {
        net->range = (struct engine_range){0}; /* somebody has these addresses now */
        make(net);
    } else if (a->status == 201 || a->status == 200 || a->status == 409) { /* made meanwhile */
        look(net);
    } else if (!put_off(net, a)) {
        do_without_it(net, a);
    }
}

static void make(struct engine_network *net)
{
    const struct engine_answer failure = {.code = KG_ENOMEM, .words = "out of memory"};
    struct kg_buf text;

    net->made++;
    kg_buf_init(&text, 4096);
    if (put_body(net, &text) == 0)
        ask(net, "POST", "/networks/create", text.data, on_made);
    else
        end(net, NULL, &failure);
    kg_buf_fini(&text);
}

static void on_unmade(void *arg, const struct transport_answer *a)
{
    struct engine_network *net = arg;

    if (is_lost(net, a))
        return;
    if (a->status < 300 || a->status == 404) {
        make(net);
        return;
    }
    net->made = MOST_MADE; /* not tried again */
    look(net);
}

/* Made just now, or by a run that ended before it had made it again. */
static bool is_unused(const struct engine_network *net, const struct json *inspected)
{
    const struct json *on = json_get(inspected, "Containers");

    return net->made == 1 || (net->made == 0 && json_type(on) == JSON_OBJECT && !json_first(on));
}

/* False: it is left as it is. */
static bool make_again(struct engine_network *net, const struct json *inspected)
{
    if (!is_unused(net, inspected) || !engine_range_read(&net->range, inspected))
        return false;
    ask_about(net, "DELETE", on_unmade);
    return true;
}

/* It is ours. */
static void take(struct engine_network *net, const struct json *inspected)
{
    const struct json *labels = json_get(inspected, "Labels");

    net->odd = 0;
    if (strcmp(json_string(json_get(labels, LABEL_ADDRESSES), ""), ADDRESSES_OURS) == 0)
        engine_range_read(&net->range, inspected);
    else if (make_again(net, inspected))
        return;
    else
        net->range = (struct engine_range){0};
    end(net, inspected, NULL);
}

static void on_looked(void *arg, const struct transport_answer *a)
{
    struct engine_network *net = arg;
    struct json *n;

    if (is_lost(net, a))
        return;
    if (a->status == 404 && net->made < MOST_MADE) {
        make(net);
        return;
    }
    n = a->status == 200 ? engine_json(a->body) : NULL;
    if (n && engine_network_is_ours(net->engine->owner, n))
        take(net, n);
    else if (n)
        do_without(net, "engine-network-foreign", "it is not ours", a->status);
    else if (!put_off(net, a))
        do_without_it(net, a);
    json_free(n);
}

static void look(struct engine_network *net)
{
    ask_about(net, "GET", on_looked);
}

/* --- doors -------------------------------------------------------------------------------- */

void engine_network_init(struct engine_network *net, struct engine *e, const char *name,
                         bool walled, engine_network_end *on_end)
{
    *net = (struct engine_network){.engine = e, .walled = walled, .on_end = on_end};
    kg_str_copy(net->name, sizeof net->name, kg_str_of(name));
}

void engine_network_find(struct engine_network *net)
{
    if (net->running)
        return;
    net->running = true;
    net->made = 0;
    look(net);
}

void engine_network_stop(struct engine_network *net)
{
    if (net->call != 0)
        transport_cancel(net->engine->transport, net->call);
    net->call = 0;
    net->running = false;
}
