/*
 * shortlist.c - chooses rows that are probably among the best, by their signs
 */
#include "shortlist.h"
#include "base/number.h"
#include "base/pool.h"
#include "base/system.h"

#include <math.h>
#include <stdlib.h>

#define QUERY_LEAST 0x1p-60f /* of the numbers of a query those of a run count as so much */
#define STEP_MORE   1.015625f
#define ROUNDER     0x1.8p23f /* a number near 0 is rounded to an integer where this is added */

enum {
    RUN = QZ_SIGN_RUN * QZ_SIGN_CODES, /* columns of a run */
    RUN_LANES = 8,                     /* sums that are made side by side */
    LIST_LEAST = 100,                  /* rows of a list, and so many more for each row that is found */
    LIST_EACH = 8,
    LIST_SHORT = 128,                /* this part of rows / worth^2 more */
    LIST_FIRST = 3,                  /* by first signs a list is so many times as long */
    LIST_PAYS = 8192,                /* numbers of rows for each row of a list: with fewer, comparing all is faster */
    PANEL = 16 * QZ_SIGN_ROWS,       /* rows whose signs stay in cache while all queries look at them */
    STRIDE = PANEL + QZ_SIGN_ROWS,   /* before each panel there is a block of the sample */
    SAMPLED = STRIDE / QZ_SIGN_ROWS, /* of so many blocks one */
    MORE_TOGETHER = 8,               /* bytes of a record that are looked up together: a record has room for them */
    MORE_TABLE = 256,                /* sums of a query for a byte of records */
    FETCHED = 2,                     /* groups of queries, for which it pays to fetch signs and to take a sample */
    NEAR = 1 << 21 /* so many bytes of signs are in a cache of the core's own, where a sample pays, too */
};

/* ---- queries --------------------------------------------------------------------------------------------------- */

/* Rows by which lists are longer: where estimates are less exact. */
static uint64_t part_of(uint64_t rows, double part, double worth)
{
    const double more = part * (double)rows / (worth * worth);
    return more < (double)rows ? (uint64_t)more : rows;
}

void qz_shortlist_begin(struct qz_shortlist *list, const struct qz_signs *signs, uint64_t rows, uint64_t cols,
                        uint64_t k)
{
    if (!signs || rows > UINT32_MAX || k >= rows / LIST_EACH)
        return;
    const struct qz_sign_columns *of = signs->of;
    const uint64_t kept = LIST_LEAST + LIST_EACH * k + part_of(rows, LIST_SHORT, of->worth[1]);
    uint64_t most = kept;
    if (of->more > 0)
        most = qz_least(LIST_FIRST * (LIST_LEAST + LIST_EACH * k) + part_of(rows, QZ_LIST_FIRST, of->worth[0]), rows);
    if (kept > rows * cols / LIST_PAYS || most > rows / 2)
        return;
    list->signs = signs;
    list->most = most < kept ? (size_t)kept : (size_t)most;
    list->kept = (size_t)kept;
}

/* Entries for which a list has room. */
static size_t list_room(const struct qz_shortlist *list)
{
    return 2 * list->most + QZ_SIGN_ROWS;
}

/* Bytes of records that have signs, and zeros behind them; and of what a query has for them. */
static size_t more_bytes(const struct qz_shortlist *list)
{
    return (size_t)qz_divide_up(list->signs->of->more, 8 * MORE_TOGETHER) * MORE_TOGETHER;
}

static size_t more_table(const struct qz_shortlist *list)
{
    return more_bytes(list) * MORE_TABLE;
}

int qz_shortlist_room(struct qz_shortlist *list, size_t lists, size_t queries)
{
    uint64_t taken = 0;
    list->table = qz_zeroed_lines(queries * qz_sign_table(list->signs->steps), &list->room, &taken);
    list->start = malloc(queries * sizeof *list->start);
    list->more = malloc(queries * more_table(list) + 1);
    list->lists = malloc(lists * sizeof *list->lists);
    list->entries = malloc(lists * list_room(list) * sizeof *list->entries);
    if (!list->table || !list->start || !list->more || !list->lists || !list->entries)
        return 0;
    for (size_t i = 0; i < lists; i++)
        list->lists[i].entry = list->entries + i * list_room(list);
    return 1;
}

void qz_shortlist_free(struct qz_shortlist *list)
{
    free(list->room);
    free(list->start);
    free(list->more);
    free(list->lists);
    free(list->entries);
}

/* All sums of six integers and their negatives: bit i of the place says which sign integer i has. */
static void fill_table(const int8_t whole[QZ_SIGN_CODES], const uint8_t *place, uint8_t *table, uint8_t *upper)
{
    uint8_t least = 0, first;
    for (size_t i = 0; i < QZ_SIGN_CODES; i++)
        least = (uint8_t)(least - whole[i]);
    for (size_t p = 0; p < QZ_SIGN_TABLE; p++)
        table[p] = least;
    for (size_t i = 0; i < QZ_SIGN_CODES; i++) {
        const uint8_t twice = (uint8_t)(2 * whole[i]), bit = (uint8_t)(1 << i);
        for (size_t p = 0; p < QZ_SIGN_TABLE; p++)
            table[p] = (uint8_t)(table[p] + (place[p] & bit ? twice : 0));
    }
    first = table[0];
    for (size_t i = 0; i < QZ_SIGN_UPPER; i++)
        upper[i] = (uint8_t)(table[16 * i % QZ_SIGN_TABLE] - first);
}

static void take_query(const int8_t *whole, size_t steps, uint8_t *table)
{
    uint8_t *upper = table + steps * QZ_SIGN_TABLE, place[QZ_SIGN_TABLE];
    for (size_t p = 0; p < QZ_SIGN_TABLE; p++)
        place[p] = (uint8_t)p;
    for (size_t s = 0; s < steps; s++)
        fill_table(whole + s * QZ_SIGN_CODES, place, table + s * QZ_SIGN_TABLE, upper + s * QZ_SIGN_UPPER);
}

/* All sums of eight integers and their negatives for each byte, as above; with zeros behind the last integers. */
static void take_more(const int8_t *whole, size_t count, size_t bytes, int8_t *table)
{
    for (size_t c = 0; c < 8 * bytes; table += MORE_TABLE) {
        table[0] = 0;
        for (size_t n = 1; n < MORE_TABLE; n *= 2, c++) {
            const int one = c < count ? whole[c] : 0;
            for (size_t place = 0; place < n; place++) {
                table[n + place] = (int8_t)(table[place] + one);
                table[place] = (int8_t)(table[place] - one);
            }
        }
    }
}

/* Numbers of a query in the order of its columns, and the integers that they become. Behind the first columns, and
 * behind the others, are zeros: each kind is whole runs. */
struct taken {
    size_t first, count; /* of the first columns, and of all, with zeros */
    float x[2 * QZ_TILE];
    int8_t whole[2 * QZ_TILE];
};

/* The largest sum of the magnitudes of a run. */
static float largest_run(const struct taken *of)
{
    float most = 0.0f;
    for (size_t c = 0; c < of->count; c += RUN) {
        float sum[RUN_LANES] = {0};
        for (size_t i = 0; i < RUN; i++)
            sum[i % RUN_LANES] += fabsf(of->x[c + i]);
        for (size_t i = 1; i < RUN_LANES; i++)
            sum[0] += sum[i];
        most = qz_larger(sum[0], most);
    }
    return most;
}

/* Makes integers of numbers divided by a step. Returns the largest sum of magnitudes of a run. */
static int round_numbers(struct taken *of, float step)
{
    const float inverse = 1.0f / step;
    int most = 0;
    for (size_t c = 0; c < of->count; c += RUN) {
        int sum = 0;
        for (size_t i = c; i < c + RUN; i++) {
            const int whole = (int)(qz_bits(of->x[i] * inverse + ROUNDER) - qz_bits(ROUNDER));
            of->whole[i] = (int8_t)whole;
            sum += abs(whole);
        }
        most = sum > most ? sum : most;
    }
    return most;
}

static void gather_numbers(const float *x, const struct qz_sign_columns *columns, struct taken *to)
{
    to->first = (size_t)qz_divide_up(columns->first, RUN) * RUN;
    to->count = to->first + (size_t)qz_divide_up(columns->more, RUN) * RUN;
    memset(to->x, 0, to->count * sizeof to->x[0]);
    for (size_t i = 0; i < columns->first; i++)
        to->x[i] = x[columns->column[i]];
    for (size_t i = 0; i < columns->more; i++)
        to->x[to->first + i] = x[columns->column[columns->first + i]];
}

/* Chooses the least of some steps with which the integers of runs are small enough. */
static float choose_step(struct taken *of)
{
    float step = qz_larger(largest_run(of), QUERY_LEAST) / (float)QZ_SIGN_MOST;
    while (round_numbers(of, step) > QZ_SIGN_MOST)
        step *= STEP_MORE;
    return step;
}

void qz_shortlist_take(struct qz_shortlist *list, const struct qz_queries *queries)
{
    const struct qz_sign_columns *of = list->signs->of;
    const size_t steps = list->signs->steps;
    struct taken taken;
    for (size_t q = 0; q < queries->count; q++) {
        gather_numbers(qz_query(queries, q), of, &taken);
        const float step = choose_step(&taken);
        list->start[q] = list->signs->bias ? 1.0f / step : 0.0f;
        take_query(taken.whole, steps, list->table + q * qz_sign_table(steps));
        take_more(taken.whole + taken.first, of->more, more_bytes(list), list->more + q * more_table(list));
    }
}

/* ---- lists ----------------------------------------------------------------------------------------------------- */

/* A larger estimate is a larger entry, and of equal ones that of the row that comes first. */
static uint64_t entry_of(float estimate, uint64_t row)
{
    const uint32_t bits = qz_bits(estimate + 0.0f), ones = 0 - (bits >> 31); /* never -0 */
    return (uint64_t)(bits ^ (ones | 0x80000000u)) << 32 | (uint32_t)~row;
}

static float estimate_of(uint64_t entry)
{
    uint32_t bits = (uint32_t)(entry >> 32);
    return qz_float(bits >> 31 ? bits & 0x7fffffffu : ~bits);
}

/* Puts those that are larger than the entry at `pivot` before it, and the others behind it; returns its new place. */
static size_t divide(uint64_t *entry, size_t count, size_t pivot)
{
    const uint64_t limit = entry[pivot];
    size_t larger = 0;
    entry[pivot] = entry[count - 1];
    for (size_t i = 0; i + 1 < count; i++) { /* without branches */
        const uint64_t one = entry[i];
        entry[i] = entry[larger];
        entry[larger] = one;
        larger += one > limit;
    }
    entry[count - 1] = entry[larger];
    entry[larger] = limit;
    return larger;
}

/* A place whose entry is about as large as the last one of the `wanted` largest: by a few at equal distances, from a
 * place of chance on, so that no order of entries is bad for all of them. */
static size_t place_between(const uint64_t *entry, size_t count, size_t wanted, uint32_t chance)
{
    enum { FEW = 15, MANY = 256 };
    const size_t step = count / FEW, start = (size_t)((uint64_t)chance * step >> 32);
    size_t place[FEW];
    if (count < MANY)
        return (size_t)((uint64_t)chance * count >> 32);
    for (size_t i = 0; i < FEW; i++) {
        const size_t one = start + i * step;
        size_t at = i;
        for (; at > 0 && entry[place[at - 1]] < entry[one]; at--)
            place[at] = place[at - 1];
        place[at] = one;
    }
    return place[(wanted - 1) * FEW / count];
}

/* Puts the `wanted` largest entries first, 1 <= wanted < count; the last of them is the least. All differ. */
static void select_largest(uint64_t *entry, size_t count, size_t wanted)
{
    uint32_t chance = 1;
    while (count > 1) {
        chance = chance * 1664525u + 1013904223u;
        size_t at = divide(entry, count, place_between(entry, count, wanted, chance));
        if (at + 1 == wanted)
            return;
        if (at + 1 > wanted) {
            count = at;
        } else {
            entry += at + 1;
            count -= at + 1;
            wanted -= at + 1;
        }
    }
}

/* Keeps the `most` best; the limit is the least of them. */
static void shorten(struct qz_list *of, size_t most)
{
    if (of->count <= most)
        return;
    select_largest(of->entry, of->count, most);
    of->count = most;
    of->limit = estimate_of(of->entry[most - 1]);
}

/* Queries from `from` to `to` that look at rows for lists of `most` entries. */
struct looking {
    const struct qz_shortlist *list;
    const struct qz_queries *queries;
    const uint8_t *mask;
    struct qz_list *lists;
    struct qz_stop *stop;
    size_t from, to, most;
};

/* What some queries found in blocks: sums by signs, and which rows may reach their limits. */
struct found {
    uint64_t first; /* row */
    size_t blocks;
    const uint64_t *wanted; /* rows of each */
    int16_t sum[SAMPLED][QZ_SIGN_QUERIES * QZ_SIGN_ROWS];
    uint64_t within[SAMPLED][QZ_SIGN_QUERIES];
};

/* `count` queries, from q on, look at a block, where there are `rows` rows. */
static void look_at(const struct looking *of, size_t q, size_t count, size_t block, size_t rows, struct found *found)
{
    const struct qz_signs *signs = of->list->signs;
    const uint64_t first = found->first + block * QZ_SIGN_ROWS;
    const struct qz_sign_rows these = {signs->plane + first * qz_sign_bytes(signs->steps),
                                       signs->steps,
                                       rows,
                                       signs->factor + first,
                                       signs->bias ? signs->bias + first : NULL,
                                       signs->inverse + first,
                                       signs->scale[first / QZ_SIGN_ROWS]};
    float limit[QZ_SIGN_QUERIES];
    for (size_t i = 0; i < count; i++)
        limit[i] = of->lists[q + i].limit;
    const struct qz_sign_queries with = {count, of->list->table + q * qz_sign_table(signs->steps), of->list->start + q,
                                         limit};
    if (found->wanted[block])
        of->queries->kernels->signs(&these, &with, found->sum[block], found->within[block]);
    else
        memset(found->within[block], 0, sizeof found->within[block]);
}

/* Puts rows of a block, at least one, into the list of query q. Their estimates may still be below its limit. */
static void append(const struct looking *of, size_t q, const int16_t *sum, uint64_t first, uint64_t within)
{
    const struct qz_signs *signs = of->list->signs;
    struct qz_list *to = &of->lists[q];
    uint64_t *entry = to->entry + to->count;
    const float limit = to->limit, start = of->list->start[q];
    do {
        const size_t r = qz_lowest_bit(within);
        const float near = signs->bias ? signs->bias[first + r] * start : 0.0f;
        const float estimate = qz_sign_estimate(signs->factor[first + r], sum[r], near);
        *entry = entry_of(estimate, first + r);
        entry += !(estimate < limit);
        within &= within - 1;
    } while (within);
    to->count = (size_t)(entry - to->entry);
    if (to->count > 2 * of->most)
        shorten(to, of->most);
}

/* Puts what query q, `at` in its group, found into its list: first it is noted, without branches, in which blocks there
 * is something. */
static void append_found(const struct looking *of, size_t q, size_t at, const struct found *found)
{
    uint8_t some[SAMPLED] = {0};
    size_t count = 0;
    for (size_t b = 0; b < found->blocks; b++) {
        some[count] = (uint8_t)b;
        count += (found->within[b][at] & found->wanted[b]) != 0;
    }
    for (size_t i = 0; i < count; i++)
        append(of, q, found->sum[some[i]] + at * QZ_SIGN_ROWS, found->first + some[i] * (uint64_t)QZ_SIGN_ROWS,
               found->within[some[i]][at] & found->wanted[some[i]]);
}

/* Signs that will be looked at soon, in lines, of which `part` are fetched at a time. */
struct soon {
    const uint8_t *next;
    size_t lines, part;
};

static void fetch(struct soon *soon)
{
    for (size_t i = 0; i < soon->part && soon->lines > 0; i++, soon->lines--, soon->next += QZ_SIGN_ROWS)
        __builtin_prefetch(soon->next);
}

static size_t sign_groups(const struct looking *of)
{
    return (size_t)qz_divide_up(of->to - of->from, QZ_SIGN_QUERIES);
}

/* Those of `rows` rows from `first` on, which may be behind the last one. With few queries memory is waited for anyway,
 * and what is read in order comes soonest. */
static struct soon looked_at_soon(const struct looking *of, uint64_t first, uint64_t end, size_t rows)
{
    const size_t bytes = qz_sign_bytes(of->list->signs->steps), groups = sign_groups(of);
    if (first >= end || groups < FETCHED)
        return (struct soon){0};
    return (struct soon){of->list->signs->plane + first * bytes,
                         (size_t)qz_divide_up(qz_least(rows, end - first), QZ_SIGN_ROWS) * bytes,
                         (size_t)qz_divide_up(bytes, groups)};
}

/* Factors of a block, of which many queries will read a few, and not in order. */
static void fetch_factors(const struct qz_signs *signs, uint64_t first)
{
    enum { LINE = 16 };
    for (size_t i = 0; i < QZ_SIGN_ROWS; i += LINE)
        __builtin_prefetch(signs->factor + first + i);
}

/* All queries look at rows, while those are fetched that come next. The list of a single query, for which nothing is
 * read twice, grows with each block. */
static void look_at_panel(const struct looking *of, uint64_t first, size_t rows, struct soon soon)
{
    const size_t blocks = (size_t)qz_divide_up(rows, QZ_SIGN_ROWS), together = of->to - of->from > 1 ? SAMPLED : 1;
    uint64_t wanted[SAMPLED];
    struct found found;
    for (size_t b = 0, at = 0; b < blocks; b++, at += QZ_SIGN_ROWS)
        wanted[b] = qz_wanted_rows(of->mask, first + at, qz_least(QZ_SIGN_ROWS, rows - at));
    for (size_t q = of->from, count; q < of->to; q += count) {
        count = qz_least(QZ_SIGN_QUERIES, of->to - q);
        for (size_t b = 0; b < blocks; b += found.blocks) {
            found.first = first + b * QZ_SIGN_ROWS;
            found.blocks = qz_least(together, blocks - b);
            found.wanted = wanted + b;
            for (size_t i = 0, left = rows - b * QZ_SIGN_ROWS; i < found.blocks; i++, left -= QZ_SIGN_ROWS) {
                fetch(&soon);
                if (together > 1 && q == of->from)
                    fetch_factors(of->list->signs, found.first + i * QZ_SIGN_ROWS);
                look_at(of, q, count, i, qz_least(QZ_SIGN_ROWS, left), &found);
            }
            for (size_t i = 0; i < count; i++)
                append_found(of, q + i, i, &found);
        }
    }
}

/* Of each STRIDE rows `rows` are looked at, after the first `skipped` ones. */
static void look_through(const struct looking *of, uint64_t first, uint64_t end, size_t skipped, size_t rows)
{
    for (first += skipped; first < end && !qz_stop_asked(of->stop); first += STRIDE)
        look_at_panel(of, first, qz_least(rows, end - first), looked_at_soon(of, first + STRIDE, end, rows));
}

static void empty(const struct looking *of)
{
    for (size_t q = of->from; q < of->to; q++) {
        of->lists[q].count = 0;
        of->lists[q].limit = -INFINITY;
    }
}

/* Fills lists from the first row to the last: their limits rise on the way. */
static void fill_in_order(const struct looking *of, uint64_t first, uint64_t end)
{
    empty(of);
    look_through(of, first, end, 0, STRIDE);
    for (size_t q = of->from; q < of->to; q++)
        shorten(&of->lists[q], of->most);
}

/* So many rows of a sample that the last of them is hardly ever among the `most` best of all: more than are expected by
 * three times the deviation of their number. */
static size_t most_of_sample(size_t most)
{
    const size_t expected = most / SAMPLED;
    return expected + 3 * (size_t)sqrt((double)expected) + 9;
}

/* Fills lists with rows that reach the limit of a sample, which is nearly always below that of all rows. Where it is
 * not, the list is filled in order. */
static void fill_by_sample(const struct looking *of, uint64_t first, uint64_t end)
{
    struct looking some = *of;
    float sampled[QZ_QUERIES];
    empty(of);
    some.most = most_of_sample(of->most);
    look_through(&some, first, end, 0, QZ_SIGN_ROWS);
    for (size_t q = of->from; q < of->to; q++) {
        shorten(&of->lists[q], some.most);
        sampled[q] = of->lists[q].limit;
    }
    look_through(of, first, end, QZ_SIGN_ROWS, PANEL);
    some.most = of->most;
    for (size_t q = of->from; q < of->to; q++) {
        some.from = q;
        some.to = q + 1;
        shorten(&of->lists[q], of->most);
        if (sampled[q] > -INFINITY && !(of->lists[q].limit > sampled[q]))
            fill_in_order(&some, first, end);
    }
}

void qz_shortlist_fill(const struct qz_shortlist *list, const struct qz_queries *queries, const uint8_t *mask,
                       uint64_t first, uint64_t end, struct qz_list *lists, struct qz_stop *stop)
{
    const struct looking of = {list, queries, mask, lists, stop, 0, queries->count, list->most};
    const int is_far = (end - first) * qz_sign_bytes(list->signs->steps) > NEAR;
    (sign_groups(&of) < FETCHED && list->signs->record == 0 && is_far ? fill_in_order : fill_by_sample)(&of, first,
                                                                                                        end);
}

void qz_shortlist_merge(const struct qz_shortlist *list, struct qz_list *lists, size_t count, size_t pitch)
{
    for (size_t i = 1; i < count; i++) { /* each has as many as are wanted, at most, and room for twice as many */
        const struct qz_list *one = &lists[i * pitch];
        memcpy(lists->entry + lists->count, one->entry, one->count * sizeof *one->entry);
        lists->count += one->count;
        shorten(lists, list->most);
    }
}

/* The sum of a query for the signs of a record. */
static int sum_up_more(const uint8_t *sign, size_t bytes, const int8_t *table)
{
    int sum = 0;
    for (size_t i = 0; i < bytes; i += MORE_TOGETHER, sign += MORE_TOGETHER, table += MORE_TOGETHER * MORE_TABLE) {
        const int first = table[sign[0]] + table[MORE_TABLE + sign[1]];
        const int second = table[2 * MORE_TABLE + sign[2]] + table[3 * MORE_TABLE + sign[3]];
        const int third = table[4 * MORE_TABLE + sign[4]] + table[5 * MORE_TABLE + sign[5]];
        const int fourth = table[6 * MORE_TABLE + sign[6]] + table[7 * MORE_TABLE + sign[7]];
        sum += (first + second) + (third + fourth);
    }
    return sum;
}

/* An entry with the estimate by all signs that are known: that by the first ones becomes a part of it. */
static uint64_t refined(const struct qz_shortlist *list, size_t q, uint64_t entry)
{
    const struct qz_signs *signs = list->signs;
    const uint64_t row = qz_listed_row(entry);
    const uint8_t *record = signs->records + row * signs->record;
    const int8_t *table = list->more + q * more_table(list);
    const float near = signs->bias ? signs->bias[row] * list->start[q] : 0.0f;
    const int sum = sum_up_more(record + QZ_SIGN_NUMBERS, more_bytes(list), table);
    float numbers[2];
    memcpy(numbers, record, sizeof numbers);
    return entry_of(numbers[0] * (estimate_of(entry) - near) + (numbers[1] * (float)sum + near), row);
}

void qz_shortlist_refine(const struct qz_shortlist *list, struct qz_list *of, size_t q)
{
    enum { AHEAD = 16 };
    const struct qz_signs *signs = list->signs;
    if (signs->record == 0)
        return;
    for (size_t i = 0; i < of->count; i++) {
        if (i + AHEAD < of->count)
            __builtin_prefetch(signs->records + qz_listed_row(of->entry[i + AHEAD]) * signs->record);
        of->entry[i] = refined(list, q, of->entry[i]);
    }
    shorten(of, list->kept);
}
