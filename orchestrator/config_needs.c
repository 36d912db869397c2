/* SPDX-License-Identifier: Apache-2.0 */
/* Which services need which: names that are none, circles, and who is tied to whom. The difficulty:
 * a circle is told once, by its names, and at a place that was just written rather than at an older
 * one. */
#include "base/map.h"
#include "orchestrator/config_priv.h"
#include <stdio.h>
#include <stdlib.h>

#define MAX_CIRCLE_BYTES 800

enum visit { UNSEEN, ON_PATH, DONE };

struct walk {
    struct config_loading *l;
    struct kg_map names; /* to drafts */
    struct config_draft **path;
    size_t length;
};

static struct config_draft *draft_of(struct walk *w, const char *name)
{
    return kg_map_get(&w->names, kg_str_of(name));
}

static size_t index_of(const struct config_strings *s, const char *text)
{
    size_t i = 0;

    while (i < s->count && strcmp(s->items[i], text) != 0)
        i++;
    return i;
}

/* The services of the path from `from` on need each other in turn. Told at the first of them that
 * has a place: when one service is changed, that one. */
static void fail_circle(struct walk *w, size_t from)
{
    size_t count = w->length - from, first = 0;
    const struct config_draft *d, *next;
    struct kg_buf words;

    while (first < count && !w->path[from + first]->source)
        first++;
    d = w->path[from + first % count];
    next = w->path[from + (first + 1) % count];
    kg_buf_init(&words, MAX_CIRCLE_BYTES);
    kg_buf_printf(&words, "is a circle: %s", d->service->name);
    for (size_t i = 1; i <= count && !words.error; i++)
        kg_buf_printf(&words, " needs %s", w->path[from + (first + i) % count]->service->name);
    config_fail_item(w->l, d, "needs", index_of(&d->service->needs, next->service->name),
                     d->service->needs.count, words.error ? "is a long circle" : words.data);
    kg_buf_fini(&words);
}

static void visit_draft(struct walk *w, struct config_draft *d)
{
    const struct config_strings *needs = &d->service->needs;

    d->visit = ON_PATH;
    w->path[w->length++] = d;
    for (size_t i = 0; i < needs->count; i++) {
        struct config_draft *next = draft_of(w, needs->items[i]);
        size_t at = w->length;
        if (!next || next == d)
            continue; /* told as such */
        if (next->visit == UNSEEN)
            visit_draft(w, next); /* as deep as there are services: KG_MAX_SERVICES */
        else if (next->visit == ON_PATH) {
            while (w->path[--at] != next)
                ;
            fail_circle(w, at);
        }
    }
    w->length--;
    d->visit = DONE;
}

static void check_names(struct walk *w, struct config_draft *d)
{
    const struct config_strings *needs = &d->service->needs;

    for (size_t i = 0; i < needs->count; i++) {
        struct config_draft *other = draft_of(w, needs->items[i]);
        char words[KG_MAX_NAME_BYTES + 64];
        if (other && other != d) {
            other->needed = true;
            continue;
        }
        snprintf(words, sizeof words,
                 other ? "\"%s\" is the service itself" : "there is no service \"%s\"",
                 needs->items[i]);
        config_fail_item(w->l, d, "needs", i, needs->count, words);
    }
}

/* --- groups ------------------------------------------------------------------------------- */

/* A group bears the name of the first, by name, of those in it that need nobody themselves: these
 * change least and are replaced least gladly, and who comes to need them changes no name. */
static bool leads(const struct config_draft *a, const struct config_draft *b)
{
    bool rests = a->service->needs.count == 0, other_rests = b->service->needs.count == 0;

    return rests != other_rests ? rests : strcmp(a->service->name, b->service->name) < 0;
}

static struct config_draft *leader_of(struct config_draft *d)
{
    while (d->leader != d)
        d = d->leader = d->leader->leader; /* the next walk is shorter */
    return d;
}

static void tie(struct walk *w, struct config_draft *d)
{
    const struct config_strings *needs = &d->service->needs;

    for (size_t i = 0; i < needs->count; i++) {
        struct config_draft *other = draft_of(w, needs->items[i]), *a = leader_of(d), *b;
        if (!other)
            continue; /* told as such */
        b = leader_of(other);
        if (leads(a, b))
            b->leader = a;
        else
            a->leader = b;
    }
}

/* Who is needed must be marked. */
static void name_groups(struct walk *w)
{
    struct config_loading *l = w->l;

    for (size_t i = 0; i < l->count; i++)
        l->drafts[i].leader = &l->drafts[i];
    for (size_t i = 0; i < l->count; i++)
        tie(w, &l->drafts[i]);
    for (size_t i = 0; i < l->count; i++) {
        struct config_service *s = l->drafts[i].service;
        bool tied = s->needs.count > 0 || l->drafts[i].needed;
        kg_str_copy(s->group, sizeof s->group,
                    kg_str_of(tied ? leader_of(&l->drafts[i])->service->name : ""));
    }
}

void config_check_needs(struct config_loading *l)
{
    struct walk w = {.l = l, .path = calloc(l->count + 1, sizeof(struct config_draft *))};
    bool good = w.path != NULL;

    kg_map_init(&w.names);
    for (size_t i = 0; good && i < l->count; i++) {
        l->drafts[i].needed = false;
        l->drafts[i].visit = UNSEEN;
        good = kg_map_set(&w.names, kg_str_of(l->drafts[i].service->name), &l->drafts[i]) == 0;
    }
    for (size_t i = 0; good && i < l->count; i++)
        check_names(&w, &l->drafts[i]);
    for (size_t i = 0; good && i < l->count; i++)
        if (l->drafts[i].visit == UNSEEN)
            visit_draft(&w, &l->drafts[i]);
    if (good)
        name_groups(&w);
    if (!good)
        config_fail_plain(l->errors, "out of memory");
    kg_map_fini(&w.names);
    free(w.path);
}
