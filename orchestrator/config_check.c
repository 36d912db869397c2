/* SPDX-License-Identifier: Apache-2.0 */
/* The questions asked of single strings: NULL when fine, else words that follow the value.
 * The difficulty: some of these strings end in engine calls and file names, so each grammar names
 * what is allowed, never what is not. */
#include "orchestrator/config_priv.h"
#include "proxy/route.h"
#include "proxy/target.h"
#include <stdlib.h>

#define LOWER "abcdefghijklmnopqrstuvwxyz0123456789"
#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZ" LOWER
#define MAX_SOCKET_NAME_BYTES 95

/* All n bytes of `text` are in `set`, and there is one. */
static bool only_n(const char *text, size_t n, const char *set)
{
    return n > 0 && strspn(text, set) >= n;
}

static bool only(const char *text, const char *set)
{
    return only_n(text, strlen(text), set);
}

static bool visible(const char *text)
{
    const char *p = text;

    while (*p > ' ' && *p < 0x7f)
        p++;
    return p > text && *p == '\0';
}

static bool no_controls(const char *text)
{
    const unsigned char *p = (const unsigned char *)text;

    while (*p >= ' ' && *p != 0x7f)
        p++;
    return *p == '\0';
}

/* Absolute, without "." and ".." between its slashes. */
static bool clean_path(const char *path)
{
    if (*path != '/' || !no_controls(path))
        return false;
    while (*path) {
        size_t n = strcspn(++path, "/");
        if ((n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        path += n;
    }
    return true;
}

static bool is_host_port(const char *text)
{
    const char *colon = strrchr(text, ':');
    int64_t port;
    size_t n;

    if (!colon || colon == text || !kg_str_to_i64(kg_str_of(colon + 1), &port) || port > 65535)
        return false;
    n = (size_t)(colon - text);
    if (text[0] == '[')
        return n > 3 && text[n - 1] == ']' &&
               strspn(text + 1, "0123456789abcdefABCDEF:.%" ALNUM) == n - 2;
    return strspn(text, ALNUM "-._") == n;
}

const char *config_check_address(const char *text)
{
    if (strncmp(text, "unix:", 5) == 0) {
        if (!clean_path(text + 5) || !text[6])
            return "does not name an absolute path behind unix:";
        return strlen(text + 5) > KG_MAX_SOCKET_PATH_BYTES ? "has a path longer than 107 bytes"
                                                           : NULL;
    }
    return is_host_port(text) ? NULL : "is not host:port, [v6]:port or unix:/path";
}

const char *config_check_admin(const char *text)
{
    if (strcmp(text, "off") == 0)
        return NULL;
    return config_check_address(text) ? "is not host:port, [v6]:port, unix:/path or \"off\"" : NULL;
}

const char *config_check_engine(const char *text)
{
    if (strncmp(text, "unix://", 7) == 0 && clean_path(text + 7) && text[8])
        return strlen(text + 7) > KG_MAX_SOCKET_PATH_BYTES ? "has a path longer than 107 bytes"
                                                           : NULL;
    if (strncmp(text, "tcp://", 6) == 0 && is_host_port(text + 6))
        return NULL;
    return "is not unix:///path or tcp://host:port";
}

const char *config_check_owner(const char *text)
{
    return only(text, ALNUM "_.-") && !strchr("_.-", text[0])
               ? NULL
               : "is not made of letters, digits, '_', '.' and '-', a letter or digit first";
}

const char *config_check_path(const char *text)
{
    return *text && no_controls(text) ? NULL : "is not a path";
}

const char *config_check_target(const char *text)
{
    struct kg_str path = {text, strcspn(text, "?")};

    return visible(text) && !strchr(text, '#') && !target_check_path(path)
               ? NULL
               : "is not a path that begins with \"/\"";
}

const char *config_check_state_dir(const char *text)
{
    return clean_path(text) && text[1] ? NULL : "is not an absolute path";
}

/* Names between slashes, of `set`. The first of several may be a registry: HOST or HOST:PORT. */
static bool is_repository(const char *text, size_t n, const char *set)
{
    size_t at = 0, part;

    for (;; at += part + 1) {
        part = strcspn(text + at, "/");
        if (at + part >= n)
            return only_n(text + at, n - at, set);
        if (!only_n(text + at, part, at == 0 ? ALNUM "_.-:" : set))
            return false;
    }
}

/* "@ALGORITHM:HEX", or nothing. */
static bool is_digest(const char *text)
{
    size_t algorithm = strcspn(text, ":");

    return !*text || (only_n(text + 1, algorithm - 1, ALNUM "_.-") && text[algorithm] &&
                      only(text + algorithm + 1, "0123456789abcdefABCDEF"));
}

/* REPOSITORY[:TAG][@DIGEST]. What engines think of signs in a row they say themselves. */
const char *config_check_image(const char *text)
{
    static const char *const words = "is not an image reference";
    size_t whole = strcspn(text, "@"), n = whole;
    bool tagged;

    while (n > 0 && !strchr("/:", text[n - 1]))
        n--;
    tagged = n > 0 && text[n - 1] == ':';
    if (tagged && (!only_n(text + n, whole - n, ALNUM "_.-") || strchr(".-", text[n])))
        return words;
    n = tagged ? n - 1 : whole;
    if (strchr("_.-/:@", text[0]) || strstr(text, "..") || !is_digest(text + whole) ||
        !is_repository(text, n, ALNUM "_.-"))
        return words;
    return is_repository(text, n, LOWER "_.-")
               ? NULL
               : "has a name in capital letters, which no engine takes";
}

const char *config_check_env(const char *text)
{
    const char *equals = strchr(text, '=');

    return equals && equals > text ? NULL : "is not NAME=value";
}

const char *config_check_label(const char *text)
{
    if (config_check_env(text))
        return "is not name=value";
    return strncmp(text, "io.kipgate.", 11) == 0 ? "is one of Kipgate's own labels" : NULL;
}

const char *config_check_volume(const char *text)
{
    static const char *const words = "is not SOURCE:/target or SOURCE:/target:ro";
    size_t source = strcspn(text, ":"), target;
    char first[4096];

    if (text[source] != ':' || !kg_str_copy(first, sizeof first, (struct kg_str){text, source}) ||
        !no_controls(text))
        return words;
    if (*first == '/' ? !clean_path(first) : config_check_owner(first) != NULL)
        return "has a source that is neither an absolute path nor a volume's name";
    text += source + 1;
    target = strcspn(text, ":");
    if (*text != '/' || target < 2)
        return words;
    return text[target] && !only(text + target + 1, ALNUM ",") ? words : NULL;
}

const char *config_check_socket(const char *text)
{
    const char *name = strrchr(text, '/');

    if (!clean_path(text) || !name || !name[1])
        return "is not an absolute path";
    if (name == text)
        return "must be in a directory of its own, which is shared with the front";
    return strlen(name + 1) > MAX_SOCKET_NAME_BYTES ? "has too long a file name" : NULL;
}

const char *config_check_cap(const char *text)
{
    bool prefixed = strncasecmp(text, "CAP_", 4) == 0;
    const char *name = prefixed ? text + 4 : text;

    return only(name, ALNUM "_") && strlen(name) < 64 && strncasecmp(name, "CAP_", 4) != 0
               ? NULL
               : "is not a capability's name";
}

const char *config_check_tmpfs(const char *text)
{
    size_t n = strcspn(text, ":");

    return *text == '/' && n > 1 && no_controls(text) && (!text[n] || text[n + 1])
               ? NULL
               : "is not /path or /path:options";
}

const char *config_check_device(const char *text)
{
    size_t host = strcspn(text, ":"), inside;

    if (*text != '/' || host < 2 || !no_controls(text))
        return "is not /dev/x, /dev/x:/dev/y or /dev/x:/dev/y:rwm";
    if (!text[host])
        return NULL;
    text += host + 1;
    inside = strcspn(text, ":");
    if (*text == '/' && inside > 1 && (!text[inside] || only(text + inside + 1, "rwm")))
        return NULL;
    return "is not /dev/x, /dev/x:/dev/y or /dev/x:/dev/y:rwm";
}

const char *config_check_word(const char *text)
{
    return visible(text) ? NULL : "is not one word";
}

const char *config_check_name(const char *text)
{
    return only(text, "abcdefghijklmnopqrstuvwxyz0123456789-") && text[0] != '-' &&
                   strlen(text) <= KG_MAX_NAME_BYTES
               ? NULL
               : "must be 1 to 63 of a-z, 0-9 and '-', and not begin with '-'";
}

/* The route table itself is asked, so that it and we never disagree. */
static const char *refused(const struct config_route *r)
{
    struct route_table *t = route_table_new();
    int rc = t ? route_table_add(t, kg_str_of(r->host), kg_str_of(r->prefix), 0) : KG_ENOMEM;

    route_table_free(t);
    if (rc == KG_ENOMEM)
        return "found no memory";
    return rc ? "is not /prefix, host.name, host.name/prefix or *.host.name" : NULL;
}

const char *config_check_route(const char *text, struct config_route *out)
{
    size_t host = strcspn(text, "/"), prefix = strlen(text + host);
    const char *words;

    while (prefix > 1 && text[host + prefix - 1] == '/' && text[host + prefix - 2] != '/')
        prefix--; /* the same route without it */
    *out = (struct config_route){strndup(text, host),
                                 prefix ? strndup(text + host, prefix) : strdup("/")};
    for (char *p = out->host; p && *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    words = !*text ? "is empty" : out->host && out->prefix ? refused(out) : "found no memory";
    host = words ? 0 : strlen(out->host);
    if (host > 0 && out->host[host - 1] == '.')
        out->host[host - 1] = '\0'; /* the same host without it */
    if (words) {
        free(out->host);
        free(out->prefix);
    }
    return words;
}
