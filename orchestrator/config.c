/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a configuration from its layers: file, then environment, then flags. The difficulty: an
 * error in one layer must not keep the errors of the next from being told. */
#include "orchestrator/config_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES (64 * 1024)

/* --- the file --- */

/* The file's bytes. KG_ENOTFOUND when there is none; else an error is told. */
static int read_file(const char *path, struct kg_buf *out, struct config_errors *errors)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), saved;
    char part[READ_BYTES];
    ssize_t n = -1;

    if (fd < 0 && errno == ENOENT)
        return KG_ENOTFOUND;
    if (fd >= 0)
        while ((n = read(fd, part, sizeof part)) > 0 && kg_buf_append(out, part, (size_t)n) == 0)
            ;
    saved = errno;
    if (fd >= 0)
        close(fd);
    if (out->error == KG_ELIMIT)
        config_fail_plain(errors, "%s: is larger than %d bytes", path, KG_MAX_CONFIG_BYTES);
    else if (out->error)
        config_fail_plain(errors, "%s: cannot be read: out of memory", path);
    else if (n < 0)
        config_fail_plain(errors, "%s: cannot be read: %s", path, strerror(saved));
    return n == 0 ? 0 : KG_EIO;
}

/* Fills the source from its text. False: told, with the place. */
static bool parse_text(struct config_source *source, struct config_errors *errors)
{
    size_t at = 0, line, column;
    const char *fault = config_locate_fault(source->text, &at);
    struct kg_err err = {0};

    if (!fault) {
        source->root =
            json_parse(source->text, KG_MAX_CONFIG_BYTES, CONFIG_MAX_JSON_DEPTH, &at, &err);
        fault = source->root ? NULL : err.words;
    }
    if (!fault)
        return true;
    config_locate_line(source, at, &line, &column);
    config_fail_plain(errors, "%s:%zu:%zu: (document): not valid JSON: %s", source->name, line,
                      column, fault);
    return false;
}

/* True when there is a file and it was read; *source is then filled as far as it is JSON. */
static bool load_file(struct config_options *o, struct config_source *source, struct kg_buf *text,
                      struct config_errors *errors)
{
    int rc = read_file(o->file ? o->file : CONFIG_DEFAULT_FILE, text, errors);

    *source = (struct config_source){.kind = CONFIG_FROM_TEXT,
                                     .name = o->file ? o->file : CONFIG_DEFAULT_FILE};
    if (rc == KG_ENOTFOUND && o->file_named)
        config_fail_plain(errors, "%s: cannot be read: %s", o->file, strerror(ENOENT));
    if (rc != 0)
        return false;
    source->text = kg_buf_str(text);
    parse_text(source, errors);
    return true;
}

/* --- the service of options --- */

/* "h2non/imaginary:1" is the service imaginary. */
static void derive_name(const char *image, char out[KG_MAX_NAME_BYTES + 1])
{
    const char *slash = strrchr(image, '/');
    size_t n = 0;

    for (const char *p = slash ? slash + 1 : image; *p && *p != ':' && *p != '@'; p++) {
        char c = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
        bool legal = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (n < KG_MAX_NAME_BYTES && (legal || n > 0))
            out[n++] = legal ? c : '-';
    }
    out[n] = '\0';
    if (n == 0)
        kg_str_copy(out, KG_MAX_NAME_BYTES + 1, KG_STR("service"));
}

static void need_image(const struct config_source *source, struct config_errors *errors)
{
    for (const struct json *m = json_first(source->root); m; m = json_next(m))
        config_fail(errors, source, m, true, NULL,
                    "needs an image, or the --name of a service in the file");
}

static bool name_of_options(const struct config_options *o, char out[KG_MAX_NAME_BYTES + 1],
                            struct config_errors *errors)
{
    const char *image = json_string(json_get(o->flag_service, "image"),
                                    json_string(json_get(o->env_service, "image"), NULL));
    const char *words = o->service ? config_check_name(o->service) : NULL;

    if (words)
        config_fail_plain(errors, "%s: \"%.100s\" %s",
                          o->service_by_flag ? "--name" : "environment:KIPGATE_NAME", o->service,
                          words);
    else if (o->service)
        kg_str_copy(out, KG_MAX_NAME_BYTES + 1, kg_str_of(o->service));
    else if (image)
        derive_name(image, out);
    return !words && (o->service || image);
}

/* Options make a new service, or change the one of the file that has the name. */
static void apply_service(struct config_loading *l, const struct config_options *o,
                          const struct config_source *env, const struct config_source *flags)
{
    bool any = json_count(o->env_service) + json_count(o->flag_service) > 0;
    char name[KG_MAX_NAME_BYTES + 1];
    struct config_draft *d;

    if (!any && !o->service)
        return;
    if (!name_of_options(o, name, l->errors)) {
        if (!o->service) {
            need_image(env, l->errors);
            need_image(flags, l->errors);
        }
        return;
    }
    d = config_draft_find(l, name);
    if (!d) {
        const struct config_source *first = json_count(o->flag_service) > 0 ? flags : env;
        d = config_draft_add(l, name, first, first->root);
    }
    if (d) {
        d->options[0] = env;
        d->options[1] = flags;
        config_parse_service(d->service, env->root, env, l->errors);
        config_parse_service(d->service, flags->root, flags, l->errors);
    }
}

/* --- all layers --- */

static void apply_top(struct config_loading *l, const struct config_source *source)
{
    for (const struct json *m = json_first(source->root); m; m = json_next(m))
        config_parse_value(config_key_find(config_top_keys, json_key(m)), l->c, m, source,
                           l->errors);
}

static void apply_layers(struct config_loading *l, struct config_options *o, struct kg_buf *text)
{
    const struct config_source sources[] = {
        {.kind = CONFIG_FROM_ENVIRONMENT, .root = o->env_top},
        {.kind = CONFIG_FROM_FLAGS, .root = o->flag_top},
        {.kind = CONFIG_FROM_ENVIRONMENT, .root = o->env_service},
        {.kind = CONFIG_FROM_FLAGS, .root = o->flag_service}};
    struct config_marks marks = {.line = 0};
    struct config_source file;
    bool file_read = load_file(o, &file, text, l->errors);

    file.marks = &marks;
    l->layers[0] = file.root ? &file : NULL;
    l->layers[1] = &sources[0];
    l->layers[2] = &sources[1];
    if (file.root)
        config_parse_file(l, &file);
    apply_top(l, &sources[0]);
    apply_top(l, &sources[1]);
    apply_service(l, o, &sources[2], &sources[3]);
    config_complete_top(l, file_read || o->file_named);
    config_complete_tls(l);
    config_complete(l);
    json_free((struct json *)(uintptr_t)file.root);
}

static void errors_ready(struct config_errors *errors)
{
    if (errors->text.max == 0)
        kg_buf_init(&errors->text, KG_MAX_CONFIG_BYTES);
}

/* The configuration, or NULL when errors were told; the loading is over in either case. */
static struct config *finish(struct config_loading *l)
{
    struct config *c = l->errors->count == 0 ? l->c : NULL;

    if (!c)
        config_free(l->c);
    config_drafts_free(l);
    return c;
}

struct config *config_load(int argc, char **argv, const struct config *running,
                           struct config_errors *errors)
{
    struct config_loading l = {.c = config_new(), .running = running, .errors = errors};
    struct config_options o = {.file = NULL};
    struct kg_buf text;

    errors_ready(errors);
    kg_buf_init(&text, KG_MAX_CONFIG_BYTES);
    if (l.c && config_options_read(&o, argc, argv, errors))
        apply_layers(&l, &o, &text);
    else
        config_fail_plain(errors, "out of memory");
    config_options_fini(&o);
    kg_buf_fini(&text);
    return finish(&l);
}

char *config_load_admin(int argc, char **argv, struct config_errors *errors)
{
    struct config_options o = {.file = NULL};
    struct config_source source = {.kind = CONFIG_FROM_FLAGS};
    const struct config_key *k = config_key_find(config_top_keys, "admin");
    const struct json *value = NULL;
    struct config *c = config_new();
    struct kg_buf text;
    char *admin = NULL;

    errors_ready(errors);
    kg_buf_init(&text, KG_MAX_CONFIG_BYTES);
    if (c && config_options_read(&o, argc, argv, errors)) {
        source.root = o.flag_top;
        if (!(value = json_get(o.flag_top, "admin")) && (value = json_get(o.env_top, "admin")))
            source = (struct config_source){.kind = CONFIG_FROM_ENVIRONMENT, .root = o.env_top};
        if (!value && load_file(&o, &source, &text, errors))
            value = json_get(source.root, "admin");
        if (value)
            config_parse_value(k, c, value, &source, errors);
        if (errors->count == 0) {
            admin = c->admin;
            c->admin = NULL;
        }
        if (source.kind == CONFIG_FROM_TEXT)
            json_free((struct json *)(uintptr_t)source.root);
    }
    config_options_fini(&o);
    kg_buf_fini(&text);
    config_free(c);
    return admin;
}

/* --- changes at run time --- */

/* Takes the services of c apart into drafts, for config_complete to put together again. */
static bool begin_change(struct config_loading *l, const struct config *base)
{
    l->c = config_copy(base);
    l->drafts = l->c ? calloc(base->service_count + 1, sizeof *l->drafts) : NULL;
    if (!l->drafts) {
        config_fail_plain(l->errors, "out of memory");
        return false;
    }
    l->cap = base->service_count + 1;
    for (; l->count < base->service_count; l->count++)
        l->drafts[l->count] = (struct config_draft){.service = l->c->services[l->count]};
    free(l->c->services);
    l->c->services = NULL;
    l->c->service_count = 0;
    return true;
}

static void drop_draft(struct config_loading *l, struct config_draft *d)
{
    config_service_free(d->service);
    *d = l->drafts[--l->count];
}

static void put_service(struct config_loading *l, const char *name,
                        const struct config_source *source)
{
    struct config_draft *d = config_draft_find(l, name);
    const char *words = config_check_name(name);

    if (words)
        config_fail_plain(l->errors, "%s: the name %s", source->name, words);
    if (json_type(source->root) != JSON_OBJECT)
        config_fail(l->errors, source, source->root, false, NULL,
                    "must be an object of service keys");
    if (l->errors->count > 0)
        return;
    if (d)
        drop_draft(l, d);
    d = config_draft_add(l, name, source, source->root);
    if (d)
        config_parse_service(d->service, source->root, source, l->errors);
}

struct config *config_with_service(const struct config *base, const char *name, struct kg_str json,
                                   const char *at, struct config_errors *errors)
{
    struct config_loading l = {.errors = errors};
    struct config_source source = {.kind = CONFIG_FROM_TEXT, .name = at, .text = json};

    errors_ready(errors);
    if (parse_text(&source, errors) && begin_change(&l, base)) {
        put_service(&l, name, &source);
        config_complete(&l);
    }
    json_free((struct json *)(uintptr_t)source.root);
    return finish(&l);
}

static bool is_needed(const struct config_loading *l, const char *name)
{
    struct kg_buf users;
    bool needed;

    kg_buf_init(&users, 1000);
    for (size_t i = 0; i < l->count; i++)
        if (config_strings_have(&l->drafts[i].service->needs, name))
            kg_buf_printf(&users, "%s%s", users.len ? ", " : "", l->drafts[i].service->name);
    needed = users.len > 0 || users.error;
    if (needed)
        config_fail_plain(l->errors, "%s: is needed by %s", name,
                          users.data ? users.data : "other services");
    kg_buf_fini(&users);
    return needed;
}

struct config *config_without_service(const struct config *base, const char *name,
                                      struct config_errors *errors)
{
    struct config_loading l = {.errors = errors};
    struct config_draft *d;

    errors_ready(errors);
    if (begin_change(&l, base)) {
        d = config_draft_find(&l, name);
        if (!d)
            config_fail_plain(errors, "%s: there is no such service", name);
        else if (!is_needed(&l, name)) {
            drop_draft(&l, d);
            config_complete(&l);
        }
    }
    return finish(&l);
}

bool config_may_replace(const struct config *now, const struct config *next,
                        struct config_errors *errors)
{
    size_t before = errors->count;
    struct json *a = config_json(now), *b = config_json(next);
    struct kg_buf x, y;

    errors_ready(errors);
    kg_buf_init(&x, KG_MAX_CONFIG_BYTES);
    kg_buf_init(&y, KG_MAX_CONFIG_BYTES);
    CONFIG_EACH_KEY(k, config_top_keys)
    {
        const struct json *was = json_get(a, k->name), *is = json_get(b, k->name);
        kg_buf_clear(&x);
        kg_buf_clear(&y);
        if (!(k->flags & CONFIG_FIXED) || (!was && !is))
            continue;
        if ((was ? json_print(was, false, &x) : kg_buf_puts(&x, "its default")) != 0 ||
            (is ? json_print(is, false, &y) : kg_buf_puts(&y, "its default")) != 0)
            config_fail_plain(errors, "out of memory");
        else if (!kg_str_eq(kg_buf_str(&x), kg_buf_str(&y)))
            config_fail_plain(errors, "%s: cannot change while Kipgate runs (from %s to %s)",
                              k->name, x.data, y.data);
    }
    kg_buf_fini(&x);
    kg_buf_fini(&y);
    json_free(a);
    json_free(b);
    return errors->count == before;
}
