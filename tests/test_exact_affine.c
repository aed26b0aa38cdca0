/*
 * test_exact_affine.c - the best scale and offset, or float zero, of a group against an oracle that tries all pairs
 */
#include "support/program.h"
#include "support/reference.h"

#include "scales/exact_affine.h"

enum { MOST = 8 };

struct group {
    size_t n;
    float x[MOST], w[MOST];
    int weighted;
};

static const char *const kinds[] = {"normal", "uniform", "offset",     "positive", "grid",
                                    "sizes",  "same",    "two values", "tiny",     "negative"};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static double uniform(struct rng *rng)
{
    return (double)rng_below(rng, 1 << 24) * 0x1p-24;
}

static void fill_group(struct rng *rng, struct group *group, int kind)
{
    group->n = 3 + rng_below(rng, MOST - 3);
    group->weighted = (int)rng_below(rng, 2);
    double one = (double)rng_normal(rng), two = (double)rng_normal(rng);
    for (size_t i = 0; i < group->n; i++) {
        double normal = (double)rng_normal(rng), x = normal;
        switch (kind) {
        case 1:
            x = uniform(rng) * 2 - 1;
            break;
        case 2:
            x = 5 + uniform(rng);
            break;
        case 3:
            x = fabs(normal);
            break;
        case 4:
            x = ((double)rng_below(rng, 9) - 3) * 0.37;
            break;
        case 5:
            x = normal * ldexp(1, (int)rng_below(rng, 12) - 8);
            break;
        case 6:
            x = one;
            break;
        case 7:
            x = rng_below(rng, 2) ? one : two;
            break;
        case 8:
            x = normal * 0x1p-22;
            break;
        case 9:
            x = -3 - fabs(normal);
            break;
        default:
            break;
        }
        group->x[i] = (float)x;
        float weight = rng_normal(rng);
        group->w[i] = rng_below(rng, 3) ? weight * weight : 0.0f;
    }
    group->w[rng_below(rng, group->n)] = 1.5f;
}

/* Number i of a type, in order; negative for negative ones. */
static double number_of(qz_dtype dtype, int i)
{
    uint16_t half = (uint16_t)abs(i);
    double x = ref_load(&half, dtype);
    return i < 0 ? -x : x;
}

/* The error of a pair with the nearest of its sixteen values, or something above `limit` if it is above. */
static double error_of(const struct group *group, qz_zero kind, float scale, float zero, double limit)
{
    double total = 0;
    for (size_t i = 0; i < group->n && total <= limit; i++) {
        double weight = group->weighted ? (double)group->w[i] : 1, least = (double)INFINITY;
        double x = (double)group->x[i];
        double y = kind == QZ_ZERO_OFFSET ? (x - (double)zero) / (double)scale : x / (double)scale + (double)zero;
        int from = (int)ref_clamp(floor(y), 0, 14);
        for (int q = from; q <= from + 1; q++) {
            float product = scale * (float)q;
            float decoded = kind == QZ_ZERO_OFFSET ? product + zero : scale * ((float)q - zero);
            least = fmin(least, fabs(x - (double)decoded));
        }
        total += weight * least * least;
    }
    return total;
}

/* The least error of all pairs that can be stored. Elsewhere all values have the same code or more error than that. */
static double best_of_all(const struct group *group, qz_zero kind, qz_dtype dtype)
{
    double lo = (double)INFINITY, hi = -lo, best = lo;
    for (size_t i = 0; i < group->n; i++)
        if (!group->weighted || group->w[i] > 0) {
            lo = fmin(lo, (double)group->x[i]);
            hi = fmax(hi, (double)group->x[i]);
        }
    double size = fmax(fabs(lo), fabs(hi));
    int most = dtype == QZ_F16 ? 0x7bff : 0x7f7f;
    for (int i = -most; i <= most; i++) {
        double s = number_of(dtype, i);
        if (fabs(s) < (hi - lo) / 40 || fabs(s) < size * 0x1p-9 || fabs(s) > 2 * size || s == 0)
            continue;
        double a = kind == QZ_ZERO_OFFSET ? lo : -lo / s, b = kind == QZ_ZERO_OFFSET ? hi : -hi / s;
        double reach = kind == QZ_ZERO_OFFSET ? -15 * s : 15;
        double first = fmin(fmin(a, b), fmin(a, b) + reach), last = fmax(fmax(a, b), fmax(a, b) + reach);
        int from = -most, to = most;
        while (from < to) { /* the first number that is not below */
            int middle = (from + to) / 2 - ((from + to) % 2 < 0);
            if (number_of(dtype, middle) < first)
                from = middle + 1;
            else
                to = middle;
        }
        for (int z = from > -most ? from - 1 : from; z <= most; z++) {
            best = fmin(best, error_of(group, kind, (float)s, (float)number_of(dtype, z), best));
            if (number_of(dtype, z) > last)
                break;
        }
    }
    return best;
}

static void check_group(const struct group *group, qz_zero kind, qz_dtype dtype, const char *name)
{
    struct qz_exact_affine rule = {dtype, kind, 1, 4.0, 0.0};
    struct qz_exact_source source = {group->x, group->weighted ? group->w : NULL, group->n, NULL, NULL, 0};
    float scale = 0, zero = 0;
    qz_exact_pair(&rule, &source, &scale, &zero);
    double error = qz_affine_error(kind, &source, scale, zero), size = 0, weights = 0;
    for (size_t i = 0; i < group->n; i++) {
        double weight = group->weighted ? (double)group->w[i] : 1;
        weights += weight;
        size = weight > 0 ? fmax(size, fabs((double)group->x[i])) : size;
    }
    double best = best_of_all(group, kind, dtype);
    if (!((error - weights * size * size * 0x1p-44) * (1 - 0x1p-15) <= best))
        fail_msg("%s, %s, type %d, %zu values%s: error %g of (%g, %g), could be %g", name,
                 kind == QZ_ZERO_OFFSET ? "offset" : "float zero", dtype, group->n,
                 group->weighted ? " with weights" : "", error, (double)scale, (double)zero, best);
    /* A search that is not exact leaves little, from any pair. */
    struct qz_exact_affine quick = {dtype, kind, 0, 1.0, 0.01};
    float s = 0, z = 0;
    qz_exact_pair(&quick, &source, &s, &z);
    double found = qz_affine_error(kind, &source, s, z);
    if (size > 0x1p-14 && best > weights * size * size * 0x1p-24 && !(found * 0.985 <= best))
        fail_msg("%s: a quick search left %g, of %g", name, found, best);
}

static void test_all_pairs(void **state)
{
    (void)state;
    struct rng rng = rng_make(1);
    size_t count = cases(6, 2);
    for (size_t i = 0; i < count; i++) {
        struct group group;
        int kind = (int)rng_below(&rng, KINDS);
        fill_group(&rng, &group, kind);
        check_group(&group, i % 2 ? QZ_ZERO_OFFSET : QZ_ZERO_FLOAT, QZ_BF16, kinds[kind]);
    }
}

/* Values that a pair decodes to are found again without error. */
static void test_lossless(void **state)
{
    (void)state;
    struct rng rng = rng_make(3);
    for (int i = 0; i < 200; i++) {
        float x[40];
        double s = ldexp(1024 + (double)rng_below(&rng, 1024), -12),
               o = ldexp((double)rng_below(&rng, 4096) - 2048, -9);
        for (size_t k = 0; k < 40; k++)
            x[k] = (float)(s * (double)(k == 0 ? 0 : k == 1 ? 15 : rng_below(&rng, 16)) + o);
        struct qz_exact_source source = {x, NULL, 40, NULL, NULL, 0};
        struct qz_exact_affine rule = {QZ_F16, QZ_ZERO_OFFSET, 0, 1.0 / 6, 0.01};
        float scale = 0, zero = 0;
        qz_exact_pair(&rule, &source, &scale, &zero);
        double error = qz_affine_error(QZ_ZERO_OFFSET, &source, scale, zero);
        assert_true(error <= 40 * 36 * 0x1p-44 * 16);
    }
}

/* A group in pieces is the group. */
static float piece_values[1000], piece_weights[1000];
static const float *some_piece(void *context, uint64_t start, size_t *n, const float **w)
{
    (void)context;
    *n = *n < 77 ? *n : 77;
    *w = piece_weights + start;
    return piece_values + start;
}

static void test_pieces(void **state)
{
    (void)state;
    struct rng rng = rng_make(4);
    for (int i = 0; i < 6; i++) {
        for (size_t k = 0; k < 1000; k++) {
            piece_values[k] = rng_normal(&rng);
            piece_weights[k] = (float)rng_below(&rng, 5);
        }
        struct qz_exact_affine rule = {QZ_F16, i % 2 ? QZ_ZERO_FLOAT : QZ_ZERO_OFFSET, i / 2 % 2, 1.0, 0.01};
        struct qz_exact_source whole = {piece_values, piece_weights, 1000, NULL, NULL, 0}, pieces = whole;
        pieces.piece = some_piece;
        float a[2] = {0, 0}, b[2] = {0, 0};
        qz_exact_pair(&rule, &whole, &a[0], &a[1]);
        qz_exact_pair(&rule, &pieces, &b[0], &b[1]);
        double first = qz_affine_error(rule.zero, &whole, a[0], a[1]);
        double second = qz_affine_error(rule.zero, &whole, b[0], b[1]);
        assert_true(fabs(first - second) <= first * (rule.exact ? 0x1p-15 : 0.02));
    }
}

int main(void)
{
    start_program("test_exact_affine");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_pairs),
        cmocka_unit_test(test_lossless),
        cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
