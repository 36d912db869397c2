/* SPDX-License-Identifier: Apache-2.0 */
/* The hash of known field names.
 * The difficulty: any case of letters at no cost. Over tchars, setting bit 5 folds case and maps
 * nothing else onto a letter, a digit or '-', so names are compared as three 64-bit words. */
#include "proxy/field.h"
#include "base/err.h"

#define NAME_WORDS 3
#define NAME_BYTES (NAME_WORDS * 8) /* longer names are in no row, only in a family */
#define FOLD 0x2020202020202020u
#define FOLDED_UNDERSCORE ('_' | 0x20)

struct name {
    uint64_t word[NAME_WORDS]; /* folded, filled up with spaces */
    size_t n;
};

static const struct row {
    const char *name;
    unsigned flags;
} rows[FIELD_COUNT] = {
#define ROW(constant, name, flags) [FIELD_##constant] = {name, (flags)},
    FIELD_TABLE(ROW)
#undef ROW
        [FIELD_FAMILY_HOP] = {NULL, FIELD_HOP | FIELD_NOT_LAST},
    [FIELD_FAMILY_CLAIM] = {NULL, FIELD_CLAIM | FIELD_FIXED | FIELD_NOT_LAST},
    [FIELD_SPOOF] = {NULL, FIELD_HOP | FIELD_NOT_LAST},
};

static const struct family {
    struct kg_str prefix;
    enum field_id id;
} families[] = {
    {{"proxy-", 6}, FIELD_FAMILY_HOP},
    {{"x-forwarded-", 12}, FIELD_FAMILY_CLAIM},
    {{"x-kipgate-", 10}, FIELD_FAMILY_CLAIM},
};

/* Filled at first use: the process has one thread, and the content never changes. */
static struct {
    bool ready;
    uint8_t slot[256]; /* enum field_id; 0 = free */
    struct name names[FIELD_COUNT];
} table;

static struct name fold(struct kg_str s)
{
    struct name f = {{0, 0, 0}, s.n};
    memcpy(f.word, s.p, s.n < NAME_BYTES ? s.n : NAME_BYTES);
    for (int i = 0; i < NAME_WORDS; i++)
        f.word[i] |= FOLD;
    return f;
}

static unsigned hash(const struct name *f)
{
    uint64_t h = f->word[0] * 0x9e3779b97f4a7c15u;
    h = (h ^ f->word[1]) * 0xbf58476d1ce4e5b9u;
    h = (h ^ f->word[2] ^ f->n) * 0x94d049bb133111ebu;
    return (unsigned)(h >> 56);
}

static void fill(void)
{
    for (unsigned id = FIELD_OTHER + 1; id < FIELD_FAMILY_HOP; id++) {
        struct kg_str name = kg_str_of(rows[id].name);
        KG_ASSERT(name.n <= NAME_BYTES);
        table.names[id] = fold(name);
        unsigned at = hash(&table.names[id]);
        while (table.slot[at])
            at = (at + 1) % 256;
        table.slot[at] = (uint8_t)id;
    }
    table.ready = true;
}

static enum field_id find(const struct name *f)
{
    for (unsigned at = hash(f); table.slot[at]; at = (at + 1) % 256) {
        const struct name *row = &table.names[table.slot[at]];
        if (row->n == f->n && row->word[0] == f->word[0] && row->word[1] == f->word[1] &&
            row->word[2] == f->word[2])
            return table.slot[at];
    }
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (f->n >= families[i].prefix.n &&
            memcmp(f->word, families[i].prefix.p, families[i].prefix.n) == 0)
            return families[i].id;
    return FIELD_OTHER;
}

/* Reads '_' as '-'. True when there was one. */
static bool straighten(struct name *f)
{
    unsigned char bytes[NAME_BYTES];
    bool found = false;
    memcpy(bytes, f->word, NAME_BYTES);
    for (size_t i = 0; i < NAME_BYTES; i++) {
        if (bytes[i] == FOLDED_UNDERSCORE) {
            bytes[i] = '-';
            found = true;
        }
    }
    memcpy(f->word, bytes, NAME_BYTES);
    return found;
}

static bool has_underscore(const struct name *f)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t hit = 0;
    for (int i = 0; i < NAME_WORDS; i++) {
        uint64_t x = f->word[i] ^ (ones * FOLDED_UNDERSCORE);
        hit |= (x - ones) & ~x;
    }
    return (hit & 0x8080808080808080u) != 0;
}

enum field_id field_find(struct kg_str name)
{
    if (!table.ready)
        fill();
    struct name f = fold(name);
    if (!has_underscore(&f) || !straighten(&f))
        return find(&f);
    return find(&f) == FIELD_OTHER ? FIELD_OTHER : FIELD_SPOOF;
}

unsigned field_flags(enum field_id id)
{
    KG_ASSERT((unsigned)id < FIELD_COUNT);
    return rows[id].flags;
}

static uint32_t hash_name(struct kg_str name)
{
    uint32_t h = 0x811c9dc5u; /* FNV-1a */

    for (size_t i = 0; i < name.n; i++) {
        unsigned char c = (unsigned char)name.p[i];
        h = (h ^ (c >= 'A' && c <= 'Z' ? c | 0x20u : c)) * 0x01000193u;
    }
    return h;
}

void field_names_add(struct field_names *names, struct kg_str name)
{
    if (names->count < FIELD_NAMES_KNOWN)
        names->hash[names->count] = hash_name(name);
    names->count++;
}

bool field_names_have(const struct field_names *names, struct kg_str name)
{
    uint32_t h;

    if (names->count == 0 || names->count > FIELD_NAMES_KNOWN)
        return names->count > 0;
    h = hash_name(name);
    for (uint32_t i = 0; i < names->count; i++)
        if (names->hash[i] == h)
            return true;
    return false;
}
