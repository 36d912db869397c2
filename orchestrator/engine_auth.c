/* SPDX-License-Identifier: Apache-2.0 */
/* Registry credentials as `docker login` leaves them. The difficulty: they pass through, to the
 * engine alone: never into a log, an error or an event. */
#include "base/log.h"
#include "orchestrator/digest.h"
#include "orchestrator/engine_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_CONFIG_BYTES (1024 * 1024)

/* "https://index.docker.io/v1/" -> "docker.io": what an entry's key and a reference share. */
static struct kg_str plain_host(const char *key)
{
    struct kg_str host = kg_str_of(key);
    const char *scheme = strstr(key, "://"), *slash;

    if (scheme)
        host = kg_str_of(scheme + 3);
    slash = memchr(host.p, '/', host.n);
    if (slash)
        host.n = (size_t)(slash - host.p);
    return kg_str_eq(host, KG_STR("index.docker.io")) ? KG_STR("docker.io") : host;
}

static int sextet(char c)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(alphabet, c) : NULL;

    return at ? (int)(at - alphabet) : -1;
}

static void decode_base64(const char *text, struct kg_buf *out)
{
    unsigned bits = 0, count = 0;

    for (; sextet(*text) >= 0; text++) {
        bits = bits << 6 | (unsigned)sextet(*text);
        count += 6;
        if (count < 8)
            continue;
        count -= 8;
        kg_buf_append(out, &(char){(char)(bits >> count & 0xff)}, 1);
    }
}

/* "user:password" in base64, as `auth` has it. */
static void set_user(struct json *to, const char *auth)
{
    struct kg_buf plain;
    char *colon;

    kg_buf_init(&plain, 64 * 1024);
    decode_base64(auth, &plain);
    colon = plain.data ? strchr(plain.data, ':') : NULL;
    if (colon && !plain.error) {
        *colon = '\0';
        json_set_string(to, "username", plain.data);
        json_set_string(to, "password", colon + 1);
    }
    kg_buf_fini(&plain);
}

static bool put_entry(const struct json *entry, const char *server, struct kg_buf *out)
{
    static const char *const kept[] = {"username", "password", "identitytoken"};
    struct json *to = json_new_object();
    const char *auth = json_string(json_get(entry, "auth"), "");
    struct kg_buf text;
    bool found;

    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        const char *value = json_string(json_get(entry, kept[i]), "");
        if (*value && !(*auth && i < 2))
            json_set_string(to, kept[i], value);
    }
    if (*auth)
        set_user(to, auth);
    found = json_count(to) > 0;
    json_set_string(to, "serveraddress", server);
    kg_buf_init(&text, 64 * 1024);
    if (found && json_print(to, false, &text) == 0)
        digest_base64url(kg_buf_str(&text), out);
    kg_buf_fini(&text);
    json_free(to);
    return found;
}

bool engine_auth_find(const struct json *config, const char *host, struct kg_buf *out)
{
    const struct json *it = json_first(json_get(config, "auths"));

    for (; it; it = json_next(it))
        if (kg_str_eq(plain_host(json_key(it)), kg_str_of(host)) &&
            put_entry(it, json_key(it), out))
            return true;
    return false;
}

/* NULL: there is none that can be read. */
static struct json *read_config(void)
{
    const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
    char path[4096], chunk[4096];
    struct json *config = NULL;
    struct kg_buf text;
    size_t n;
    FILE *f;

    if (dir && *dir)
        snprintf(path, sizeof path, "%s/config.json", dir);
    else
        snprintf(path, sizeof path, "%s/.docker/config.json", home ? home : "");
    f = fopen(path, "re");
    if (!f)
        return NULL;
    kg_buf_init(&text, MAX_CONFIG_BYTES);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        kg_buf_append(&text, chunk, n);
    if (!text.error && !ferror(f))
        config = engine_json(kg_buf_str(&text));
    if (!config)
        KG_LOG(KG_LOG_WARN, "docker-config-unreadable", KG_F("path", path));
    fclose(f);
    kg_buf_fini(&text);
    return config;
}

void engine_auth_header(const char *host, struct kg_buf *out)
{
    struct json *config = read_config();
    size_t before = out->len;

    if (!config)
        return;
    kg_buf_puts(out, "X-Registry-Auth: ");
    if (!engine_auth_find(config, host, out)) {
        kg_buf_clear(out);
        KG_ASSERT(before == 0);
        if (json_get(config, "credsStore") || json_get(json_get(config, "credHelpers"), host))
            KG_LOG(KG_LOG_WARN, "credential-helpers-not-run", KG_F("registry", host),
                   KG_F("then", "the image is pulled without credentials"));
    }
    json_free(config);
}
