/*
 * nearest.c - finds the rows of a packed matrix that score best with queries
 *
 * Some queries are processed at a time, and rows are distributed among the threads. If a short list is enough, one is
 * made for each query (shortlist.h), and only its rows are considered. If there are bounds (bounds.h), a slice computes
 * them for a block of rows with each query, and keeps the rows whose upper bound reaches the k-th best lower bound so
 * far. These rows are decoded and scored when many have gathered, and at the end. Without bounds all rows are decoded
 * and scored. Both ways rank rows by the scores of scoring.h, and so find the same rows.
 */
#include "base/fpenv.h"
#include "base/number.h"
#include "base/pool.h"
#include "base/stop.h"
#include "bounds.h"
#include "matrix/tile.h"
#include "operation.h"
#include "packed/scheme.h"
#include "prepared.h"
#include "ranking.h"

#include <math.h>
#include <stdlib.h>

enum {
    SLICE_ROWS = 1024,      /* a slice has at least so many rows */
    GATHERED = 64,          /* rows are kept, beside k, before they are scored */
    QUERY_FLOATS = 1 << 20, /* of some queries together, unless a single one is longer */
    RANKED_MOST = 1 << 22   /* results that are kept for some queries together, unless a single one has more */
};

/* A row that may be among the best. */
struct candidate {
    double upper;
    uint64_t row;
};

/* What a slice has found for a query. */
struct seeker {
    struct qz_ranking best, lower; /* by score; by lower bound */
    struct candidate *gathered;
    size_t count, room;
    float limit; /* rows with an upper bound below it are not among the best */
};

struct search {
    struct qz_view view;
    struct qz_queries queries;
    struct qz_bounds bounds;
    struct qz_shortlist list;
    int can_be_bounded, bounded; /* whether there are bounds: for these rows; and for these queries, too */
    const uint8_t *mask;
    uint64_t rows;
    size_t k;               /* rows at most */
    size_t slices, some;    /* `some` queries at a time */
    struct seeker *seekers; /* some of them for each slice */
    struct qz_ranked *ranked, *merged;
    struct candidate *candidates;
    uint8_t *side; /* for each slice: room for a block of codes side by side, and for its sums */
    int32_t *sums;
    uint64_t bad_row[QZ_SLICES_MAX]; /* the first one whose values are not finite, or UINT64_MAX */
    struct qz_stop stop;
};

/* ---- a slice -------------------------------------------------------------------------------------------------- */

static int is_wanted(const struct search *search, uint64_t row)
{
    return !search->mask || search->mask[row] != 0;
}

static void add_score(struct search *search, size_t slice, struct qz_ranking *best, double key, uint64_t row)
{
    if (qz_is_finite_f64(key))
        qz_ranking_add(best, (struct qz_ranked){key, row});
    else if (row < search->bad_row[slice])
        search->bad_row[slice] = row;
}

static void raise_limit(struct seeker *seeker, float to)
{
    seeker->limit = to > seeker->limit ? to : seeker->limit;
}

/* By the lower bounds that there are, of which enough rows keep what they promise. */
static void raise_by_bound(struct seeker *seeker)
{
    raise_limit(seeker, qz_float_below(qz_ranking_least(&seeker->lower)));
}

static void raise_by_score(const struct search *search, size_t q, struct seeker *seeker)
{
    raise_limit(seeker, qz_bounds_limit(&search->bounds, q, qz_ranking_least(&seeker->best)));
}

/* Forgets those that are out of reach by now. */
static void sift(struct seeker *seeker)
{
    size_t kept = 0;
    for (size_t i = 0; i < seeker->count; i++)
        if (!(seeker->gathered[i].upper < (double)seeker->limit))
            seeker->gathered[kept++] = seeker->gathered[i];
    seeker->count = kept;
}

/* Scores those that are within reach. */
static void settle(struct search *search, size_t slice, size_t q, struct seeker *seeker)
{
    for (size_t i = 0; i < seeker->count; i++) {
        double key;
        if (seeker->gathered[i].upper < (double)seeker->limit)
            continue;
        qz_row_keys(&search->view, &search->queries, q, 1, seeker->gathered[i].row, &key);
        add_score(search, slice, &seeker->best, key, seeker->gathered[i].row);
        if (i % 16 == 15)
            raise_by_score(search, q, seeker);
    }
    seeker->count = 0;
    raise_by_score(search, q, seeker);
}

static void gather(struct search *search, size_t slice, size_t q, struct seeker *seeker, struct qz_between between,
                   uint64_t row)
{
    seeker->gathered[seeker->count++] = (struct candidate){between.upper, row};
    if (qz_is_finite_f64(between.lower))
        qz_ranking_add(&seeker->lower, (struct qz_ranked){between.lower, row});
    if (seeker->count < seeker->room)
        return;
    raise_by_bound(seeker);
    sift(seeker);
    if (seeker->count > seeker->room / 2)
        settle(search, slice, q, seeker);
}

/* Rows that are within reach of a query, a bit for each. */
static void gather_rows(struct search *search, size_t slice, size_t q, const struct qz_bound_rows *rows,
                        const int32_t *sum, uint64_t within)
{
    struct seeker *seeker = &search->seekers[slice * search->some + q];
    for (; within; within &= within - 1) {
        size_t r = qz_lowest_bit(within);
        struct qz_between between = qz_bounds_between(&search->bounds, rows, q, r, sum);
        if (!(between.upper < (double)seeker->limit))
            gather(search, slice, q, seeker, between, qz_bounds_row(rows, r));
    }
    raise_by_bound(seeker);
}

static void look_with_all(struct search *search, size_t slice, const struct qz_bound_rows *rows, uint64_t wanted)
{
    const struct qz_bounds *bounds = &search->bounds;
    const struct seeker *seekers = search->seekers + slice * search->some;
    int32_t *sum = search->sums + slice * qz_bounds_all_sums(bounds);
    for (size_t first = 0, count; first < search->queries.count; first += count) {
        float limit[QZ_BOUND_QUERIES];
        uint64_t within[QZ_BOUND_QUERIES];
        count = qz_least(QZ_BOUND_QUERIES, search->queries.count - first);
        for (size_t i = 0; i < count; i++)
            limit[i] = seekers[first + i].limit;
        qz_bounds_multiply(bounds, rows, first, count, sum);
        qz_bounds_reach(bounds, rows, first, count, sum, limit, within);
        for (size_t i = 0; i < count; i++)
            if (within[i] & wanted)
                gather_rows(search, slice, first + i, rows, qz_bounds_sums(bounds, sum, i), within[i] & wanted);
    }
}

static void search_bounded(struct search *search, size_t slice, uint64_t first, uint64_t end)
{
    struct qz_bound_rows rows;
    uint8_t *side = search->side + slice * qz_bounds_beside_bytes(&search->bounds);
    for (size_t count; first < end && !qz_stop_asked(&search->stop); first += count) {
        count = qz_least(search->bounds.block, end - first);
        const uint64_t wanted = qz_wanted_rows(search->mask, first, count);
        if (!wanted)
            continue;
        qz_bounds_load(&search->bounds, first, count, side, &rows);
        look_with_all(search, slice, &rows, wanted);
    }
    for (size_t q = 0; q < search->queries.count; q++)
        settle(search, slice, q, &search->seekers[slice * search->some + q]);
}

static void search_decoded(struct search *search, size_t slice, uint64_t first, uint64_t end)
{
    for (uint64_t row = first; row < end && !qz_stop_asked(&search->stop); row++) {
        double key[QZ_QUERIES];
        if (!is_wanted(search, row))
            continue;
        qz_row_keys(&search->view, &search->queries, 0, search->queries.count, row, key);
        for (size_t q = 0; q < search->queries.count; q++)
            add_score(search, slice, &search->seekers[slice * search->some + q].best, key[q], row);
    }
}

/* Slices are whole blocks of rows. */
static uint64_t row_blocks(const struct search *search)
{
    return qz_divide_up(search->rows, QZ_BOUND_ROWS);
}

static uint64_t slice_start(const struct search *search, size_t slice)
{
    uint64_t start = qz_slice_start(row_blocks(search), search->slices, slice) * QZ_BOUND_ROWS;
    return start < search->rows ? start : search->rows;
}

static void begin_slice(struct search *search, size_t slice)
{
    search->bad_row[slice] = UINT64_MAX;
    for (size_t q = 0; q < search->queries.count; q++) {
        struct seeker *seeker = &search->seekers[slice * search->some + q];
        seeker->best.count = seeker->lower.count = seeker->count = 0;
        seeker->limit = -INFINITY;
    }
}

static void search_slice(void *context, size_t slice)
{
    struct search *search = context;
    uint64_t first = slice_start(search, slice), end = slice_start(search, slice + 1);
    begin_slice(search, slice);
    (search->bounded ? search_bounded : search_decoded)(search, slice, first, end);
}

/* ---- short lists ---------------------------------------------------------------------------------------------- */

static void fill_lists(void *context, size_t slice)
{
    struct search *search = context;
    qz_shortlist_fill(&search->list, &search->queries, search->mask, slice_start(search, slice),
                      slice_start(search, slice + 1), search->list.lists + slice * search->some, &search->stop);
}

/* A slice looks at its part of the list of a query. */
static void search_list(struct search *search, size_t slice, size_t q)
{
    const struct qz_bounds *bounds = &search->bounds;
    const struct qz_list *list = &search->list.lists[q];
    struct seeker *seeker = &search->seekers[slice * search->some + q];
    int32_t *sum = search->sums + slice * qz_bounds_all_sums(bounds);
    uint8_t *room = search->side + slice * qz_bounds_beside_bytes(bounds);
    size_t i = (size_t)qz_slice_start(list->count, search->slices, slice);
    const size_t end = (size_t)qz_slice_start(list->count, search->slices, slice + 1);
    while (i < end) {
        struct qz_bound_rows rows;
        uint64_t within;
        qz_bounds_begin_list(bounds, room, &rows);
        for (const size_t last = qz_least(i + QZ_BOUND_LISTED, end); i < last; i++) {
            if (i + QZ_BOUND_LISTED < end)
                qz_bounds_fetch_row(bounds, qz_listed_row(list->entry[i + QZ_BOUND_LISTED]));
            qz_bounds_load_listed(bounds, qz_listed_row(list->entry[i]), room, &rows);
        }
        qz_bounds_multiply(bounds, &rows, q, 1, sum);
        qz_bounds_reach(bounds, &rows, q, 1, sum, &seeker->limit, &within);
        gather_rows(search, slice, q, &rows, sum, within);
    }
    settle(search, slice, q, seeker);
}

static void search_lists(void *context, size_t slice)
{
    struct search *search = context;
    begin_slice(search, slice);
    for (size_t q = 0; q < search->queries.count && !qz_stop_asked(&search->stop); q++)
        search_list(search, slice, q);
}

/* A slice takes some queries. */
static void refine_lists(void *context, size_t slice)
{
    struct search *search = context;
    for (size_t q = slice; q < search->queries.count && !qz_stop_asked(&search->stop); q += search->slices) {
        qz_shortlist_merge(&search->list, search->list.lists + q, search->slices, search->some);
        qz_shortlist_refine(&search->list, &search->list.lists[q], q);
    }
}

static void search_by_lists(struct search *search, qz_pool *pool)
{
    qz_shortlist_take(&search->list, &search->queries);
    qz_pool_run(pool, search->slices, fill_lists, search);
    qz_pool_run(pool, search->slices, refine_lists, search);
    qz_pool_run(pool, search->slices, search_lists, search);
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

/* Most rows that a slice has. */
static uint64_t slice_rows(const struct search *search)
{
    return qz_divide_up(row_blocks(search), search->slices) * QZ_BOUND_ROWS;
}

static void free_search(struct search *search)
{
    qz_shortlist_free(&search->list);
    free(search->queries.value);
    free(search->bounds.queries.code);
    free(search->bounds.queries.start);
    free(search->seekers);
    free(search->ranked);
    free(search->merged);
    free(search->candidates);
    free(search->side);
    free(search->sums);
}

/* Room for n elements, or NULL. */
static void *room_for(uint64_t n, uint64_t size)
{
    uint64_t bytes;
    return qz_multiply(n > 0 ? n : 1, size, &bytes) && bytes <= PTRDIFF_MAX ? malloc((size_t)bytes) : NULL;
}

/* Decides how many queries are worked on together, and makes room for what is found. */
static qz_result prepare_memory(struct search *search, uint64_t queries)
{
    size_t k = qz_least(search->k, slice_rows(search)), each = 2 * k, room = k + GATHERED;
    uint64_t columns = search->view.cols;
    size_t some = qz_least(QZ_QUERIES, queries);
    if (k > SIZE_MAX / (4 * QZ_QUERIES * QZ_SLICES_MAX))
        return QZ_ERROR_MEMORY;
    while (some > 1 &&
           (some * columns > QUERY_FLOATS || some * search->slices * (each + search->list.most) > RANKED_MOST))
        some--;
    search->some = some;
    size_t seekers = search->slices * some;
    search->queries.value = room_for(columns, some * sizeof(float));
    search->bounds.queries.code = room_for(search->bounds.chunks * QZ_CHUNK, some);
    search->bounds.queries.start = room_for(search->bounds.terms, some * sizeof(float));
    search->seekers = room_for(seekers, sizeof *search->seekers);
    search->ranked = room_for(each, seekers * sizeof *search->ranked);
    search->merged = room_for(search->k, sizeof *search->merged);
    search->candidates = room_for(room, seekers * sizeof *search->candidates);
    if (search->can_be_bounded) {
        search->side = room_for(search->slices, qz_bounds_beside_bytes(&search->bounds));
        search->sums = room_for(search->slices, qz_bounds_all_sums(&search->bounds) * sizeof(int32_t));
        if (!search->side || !search->sums)
            return QZ_ERROR_MEMORY;
    }
    if (search->list.signs && !qz_shortlist_room(&search->list, seekers, some))
        return QZ_ERROR_MEMORY;
    if (!search->queries.value || !search->bounds.queries.code || !search->bounds.queries.start || !search->seekers ||
        !search->ranked || !search->merged || !search->candidates)
        return QZ_ERROR_MEMORY;
    for (size_t i = 0; i < seekers; i++)
        search->seekers[i] = (struct seeker){.best = {search->ranked + i * each, 0, k},
                                             .lower = {search->ranked + i * each + k, 0, k},
                                             .gathered = search->candidates + i * room,
                                             .room = room};
    return QZ_OK;
}

/* ---- queries and results -------------------------------------------------------------------------------------- */

/* A query as float32. Nonzero if any value cannot be used. */
static int load_query(const struct search *search, const qz_matrix *matrix, uint64_t row, float *value)
{
    const struct qz_kernels *kernels = search->view.kernels;
    float range[2];
    for (uint64_t col = 0; col < matrix->cols; col += QZ_TILE) {
        struct qz_tile tile = {row, col, 1, qz_least(QZ_TILE, matrix->cols - col)};
        ptrdiff_t stride;
        int overflow;
        const float *x = qz_tile_load(kernels, matrix, &tile, value + col, &stride, &overflow);
        if (x != value + col)
            memcpy(value + col, x, tile.cols * sizeof *value);
        if (kernels->range_f32(value + col, tile.cols, range))
            return 1;
    }
    return 0;
}

/* Queries from `first` on. Nonzero if any value cannot be used. */
static int load_queries(struct search *search, const qz_matrix *matrix, uint64_t first)
{
    struct qz_queries *queries = &search->queries;
    queries->count = qz_least(search->some, matrix->rows - first);
    for (size_t q = 0; q < queries->count; q++)
        if (load_query(search, matrix, first + q, queries->value + q * (size_t)matrix->cols))
            return 1;
    qz_queries_measure(queries);
    return 0;
}

/* The best of all slices, and what stands in the places behind them. */
static void hand_over(struct search *search, size_t q, uint64_t k, double *scores, int64_t *ids)
{
    struct qz_ranking all = {search->merged, 0, search->k};
    double sign = search->queries.metric == QZ_L2 ? -1.0 : 1.0;
    for (size_t slice = 0; slice < search->slices; slice++) {
        const struct qz_ranking *best = &search->seekers[slice * search->some + q].best;
        for (size_t i = 0; i < best->count; i++)
            qz_ranking_add(&all, best->heap[i]);
    }
    qz_ranking_sort(&all);
    for (size_t i = 0; i < all.count; i++) {
        scores[i] = sign * all.heap[i].key + 0.0; /* never -0 */
        ids[i] = (int64_t)all.heap[i].row;
    }
    for (uint64_t i = all.count; i < k; i++) {
        scores[i] = -sign * (double)INFINITY;
        ids[i] = -1;
    }
}

static qz_result outcome(const struct search *search, qz_detail *detail)
{
    uint64_t bad = UINT64_MAX;
    for (size_t slice = 0; slice < search->slices; slice++)
        bad = search->bad_row[slice] < bad ? search->bad_row[slice] : bad;
    if (bad == UINT64_MAX)
        return QZ_OK;
    if (detail)
        qz_locate_in_row(&search->view, bad, detail);
    return QZ_ERROR_PACKED;
}

static qz_result search_some(struct search *search, const qz_matrix *matrix, uint64_t first, uint64_t k,
                             const qz_nearest_options *options, double *scores, int64_t *ids, qz_detail *detail)
{
    if (load_queries(search, matrix, first))
        return qz_locate_unusable(matrix, 0, detail);
    if (search->k == 0) {
        for (size_t slice = 0; slice < search->slices; slice++)
            search->bad_row[slice] = UINT64_MAX;
    } else {
        search->bounded = search->can_be_bounded && qz_bounds_take(&search->bounds, &search->queries);
        if (search->bounded && search->list.signs)
            search_by_lists(search, options->pool);
        else
            qz_pool_run(options->pool, search->slices, search_slice, search);
    }
    if (qz_is_stopped(&search->stop))
        return QZ_ERROR_STOPPED;
    for (size_t q = 0; q < search->queries.count; q++)
        hand_over(search, q, k, scores + (first + q) * k, ids + (first + q) * k);
    return outcome(search, detail);
}

/* ---- the call ------------------------------------------------------------------------------------------------- */

/* 1 if the arguments make sense, as far as no memory need be known. */
static qz_result check(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, const qz_matrix *queries,
                       uint64_t k, const qz_nearest_options *options)
{
    qz_sizes sizes;
    uint64_t results;
    if (qz_scheme_check(scheme, QZ_DEFAULT) != QZ_OK || !qz_is_array_dtype(queries->dtype) ||
        options->size < sizeof *options || !qz_metric_name(options->metric))
        return QZ_ERROR_ARGUMENT;
    if (!qz_matrix_check(queries) || !qz_multiply(queries->rows, k, &results) || results > INT64_MAX / 16 ||
        rows > INT64_MAX || queries->cols > INT32_MAX)
        return QZ_ERROR_SIZE;
    qz_result result = qz_packed_sizes(scheme, packed, rows, queries->cols, &sizes);
    if (result != QZ_OK)
        return result;
    if (options->prepared && !qz_prepared_fits(options->prepared, scheme, packed, rows, queries->cols, options->metric))
        return QZ_ERROR_ARGUMENT;
    return QZ_OK;
}

static void begin(struct search *search, const qz_scheme *scheme, const qz_packed *packed, uint64_t rows,
                  const qz_matrix *queries, uint64_t k, const qz_nearest_options *options)
{
    qz_view_make(&search->view, search->queries.kernels, scheme, packed, rows, queries->cols, queries->cols);
    search->queries.metric = options->metric;
    search->queries.cols = queries->cols;
    search->mask = options->mask;
    search->rows = rows;
    search->k = qz_least(k, rows);
    search->slices = qz_least(qz_least(qz_pool_threads(options->pool), QZ_SLICES_MAX), 1 + rows / SLICE_ROWS);
    search->can_be_bounded = rows > 0 && qz_bounds_make(&search->bounds, &search->view, options->metric);
    search->bounds.ready = options->prepared ? qz_prepared_ready(options->prepared) : NULL;
    search->bounds.by_length |= search->bounds.ready != NULL;
    if (options->approximate && options->prepared && search->k > 0)
        qz_shortlist_begin(&search->list, qz_prepared_signs(options->prepared), rows, queries->cols, search->k);
    search->bounds.one_by_one = search->list.signs != NULL;
    qz_stop_begin(&search->stop, options->stop, options->stop_context);
}

static QZ_NOINLINE qz_result nearest(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows,
                                     const qz_matrix *queries, uint64_t k, const qz_nearest_options *options,
                                     double *scores, int64_t *ids, qz_detail *detail)
{
    struct search search;
    memset(&search, 0, sizeof search);
    qz_result result = check(scheme, packed, rows, queries, k, options);
    if (result != QZ_OK)
        return result;
    search.queries.kernels = qz_kernels_active();
    if (!search.queries.kernels)
        return QZ_ERROR_KERNELS;
    begin(&search, scheme, packed, rows, queries, k, options);
    result = prepare_memory(&search, queries->rows);
    for (uint64_t first = 0; result == QZ_OK && first < queries->rows; first += search.some)
        result = search_some(&search, queries, first, k, options, scores, ids, detail);
    free_search(&search);
    return result;
}

qz_result qz_nearest(const qz_scheme *scheme, const qz_packed *packed, uint64_t rows, const qz_matrix *queries,
                     uint64_t k, const qz_nearest_options *options, double *scores, int64_t *ids, qz_detail *detail)
{
    static const qz_nearest_options plain = QZ_NEAREST_OPTIONS_INIT;
    qz_fp_state state = qz_fp_enter();
    qz_result result = nearest(scheme, packed, rows, queries, k, options ? options : &plain, scores, ids, detail);
    qz_fp_leave(state);
    return result;
}
