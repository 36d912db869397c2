/* SPDX-License-Identifier: Apache-2.0 */
/* How workers are reached is found out, not asked: through a network shared with our own container,
 * by their addresses on a bridge of this machine, or by published ports. The difficulty: each guess
 * is proved before it is believed. */
#include "base/log.h"
#include "orchestrator/engine_priv.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void ask_network(struct engine *e);

static const char *const reach_names[] = {"unknown", "address", "network", "published"};

const char *engine_reach_name(const struct engine *e)
{
    return reach_names[e->reach];
}

uint32_t engine_settle_ms(const struct engine *e)
{
    return e->reach == ENGINE_REACH_PUBLISHED ? 20 : 0;
}

static void reached(struct engine *e, enum engine_reach reach, const char *network)
{
    e->reach = reach;
    kg_str_copy(e->network, sizeof e->network, kg_str_of(network));
    engine_reached(e);
}

static bool call_failed(struct engine *e, const struct transport_answer *answer)
{
    e->stage_call = 0;
    if (answer->code == 0 && answer->status < 500)
        return false;
    engine_lost(e, answer->code ? answer->words : "the engine failed while we looked around");
    return true;
}

static void ask(struct engine *e, const char *method, const char *path, const char *body,
                transport_done *done)
{
    e->stage_call = engine_call(e, method, path, body, KG_ENGINE_CALL_TIMEOUT_MS, done, e);
    if (!e->stage_call)
        engine_lost(e, "out of memory");
}

static struct json *parse(const struct transport_answer *answer)
{
    return json_parse(answer->body, KG_ENGINE_MAX_ANSWER_BYTES, KG_ENGINE_MAX_JSON_DEPTH, NULL,
                      NULL);
}

/* --- our own bridge
 * ------------------------------------------------------------------------------------ */

static bool is_local_address(const char *ip)
{
    struct ifaddrs *all, *i;
    struct in_addr wanted;
    bool found = false;

    if (inet_pton(AF_INET, ip, &wanted) != 1 || getifaddrs(&all) != 0)
        return false;
    for (i = all; i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET) {
            const struct sockaddr_in *in = (const void *)i->ifa_addr;
            found |= in->sin_addr.s_addr == wanted.s_addr;
        }
    freeifaddrs(all);
    return found;
}

static void network_name(const struct engine *e, char *out, size_t cap)
{
    snprintf(out, cap, "kipgate-%.12s", e->owner);
}

static void on_network_made(void *arg, const struct transport_answer *answer)
{
    struct engine *e = arg;
    struct engine_answer a;
    char why[300];

    if (call_failed(e, answer))
        return;
    engine_judge(answer, &a);
    if (a.code == 0 || a.code == KG_ECONFLICT) {
        ask_network(e);
        return;
    }
    snprintf(why, sizeof why, "make a network: %.200s", a.words);
    engine_lost(e, why);
}

static void make_network(struct engine *e)
{
    struct json *body = json_new_object(), *labels = json_new_object(),
                *options = json_new_object();
    struct kg_buf text;
    char name[64];

    network_name(e, name, sizeof name);
    json_set_string(body, "Name", name);
    json_set_bool(body, "CheckDuplicate", true);
    json_set_string(body, "Driver", "bridge");
    json_set_string(labels, "io.kipgate.owner", e->owner);
    json_set(body, "Labels", labels);
    json_set_string(options, "com.docker.network.bridge.enable_icc", "false");
    json_set(body, "Options", options);
    kg_buf_init(&text, 4096);
    json_print(body, false, &text);
    json_free(body);
    ask(e, "POST", "/networks/create", text.data ? text.data : "{}", on_network_made);
    kg_buf_fini(&text);
}

/* Its gateway is an address of this machine: workers on it can be reached by theirs. Else their
 * ports must be published. */
static void on_network(void *arg, const struct transport_answer *answer)
{
    struct engine *e = arg;
    struct json *n;
    const char *gateway, *forced = getenv("KIPGATE_REACH");
    char name[64];

    if (call_failed(e, answer))
        return;
    if (answer->status == 404) {
        make_network(e);
        return;
    }
    network_name(e, name, sizeof name);
    n = parse(answer);
    gateway = json_string(json_get(json_first(json_path(n, "IPAM.Config")), "Gateway"), "");
    if (strcmp(json_string(json_get(json_get(n, "Labels"), "io.kipgate.owner"), ""), e->owner) != 0)
        engine_lost(e, "a network that has our name is not ours");
    else if (forced && strcmp(forced, "published") == 0)
        reached(e, ENGINE_REACH_PUBLISHED, name);
    else if (!e->host[0] && is_local_address(gateway))
        reached(e, ENGINE_REACH_ADDRESS, name);
    else
        reached(e, ENGINE_REACH_PUBLISHED, name);
    json_free(n);
}

static void ask_network(struct engine *e)
{
    char name[64], path[96];

    network_name(e, name, sizeof name);
    snprintf(path, sizeof path, "/networks/%s", name);
    ask(e, "GET", path, NULL, on_network);
}

/* --- our own container
 * ---------------------------------------------------------------------------------- */

/* A user-defined network is better than the default bridge: any of ours that is not "bridge". */
static const char *pick_network(const struct json *networks)
{
    const char *best = "";

    for (const struct json *n = json_first(networks); n; n = json_next(n))
        if (!best[0] || strcmp(best, "bridge") == 0)
            best = json_key(n);
    return strcmp(best, "host") == 0 || strcmp(best, "none") == 0 ? "" : best;
}

static void on_self(void *arg, const struct transport_answer *answer)
{
    struct engine *e = arg;
    struct json *n;
    const char *network;

    if (call_failed(e, answer))
        return;
    n = answer->status == 200 ? parse(answer) : NULL;
    network = pick_network(json_path(n, "NetworkSettings.Networks"));
    if (network[0])
        reached(e, ENGINE_REACH_NETWORK, network);
    else
        ask_network(e);
    json_free(n);
}

/* The id of the container we run in: the engine mounts /etc/hostname from a path that has it. */
static bool own_id(char out[65])
{
    char line[2048];
    FILE *f = fopen("/proc/self/mountinfo", "re");
    bool found = false;

    while (f && !found && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, "/containers/");
        if (!at || !strstr(line, " /etc/hostname "))
            continue;
        at += strlen("/containers/");
        found =
            strspn(at, "0123456789abcdef") == 64 && kg_str_copy(out, 65, (struct kg_str){at, 64});
    }
    if (f)
        fclose(f);
    return found;
}

static void ask_self(struct engine *e)
{
    char id[65], path[96];
    const char *forced = getenv("KIPGATE_REACH");

    if ((forced && strcmp(forced, "network") != 0) || !own_id(id)) {
        ask_network(e);
        return;
    }
    snprintf(path, sizeof path, "/containers/%s/json", id);
    ask(e, "GET", path, NULL, on_self);
}

static void on_info(void *arg, const struct transport_answer *answer)
{
    struct engine *e = arg;
    struct json *n;

    if (call_failed(e, answer))
        return;
    n = parse(answer); /* a proxy that does not allow it: no init, that is all */
    e->init_works = answer->status == 200 && json_string(json_get(n, "InitBinary"), "")[0];
    json_free(n);
    if (!e->init_works)
        KG_LOG(KG_LOG_WARN, "no-init", KG_F("why", "the engine names no init program"));
    ask_self(e);
}

void engine_reach_begin(struct engine *e)
{
    if (e->reach == ENGINE_REACH_UNKNOWN) {
        ask(e, "GET", "/info", NULL, on_info);
        return;
    }
    if (e->reach == ENGINE_REACH_NETWORK)
        engine_reached(e);
    else
        ask_network(e); /* ours may be gone since */
}
