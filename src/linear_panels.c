/*
 * linear_panels.c - weights as floats, and products with them
 */
#include "linear_panels.h"
#include "base/number.h"

#include <math.h>

enum { TURNED = QZ_TILE / QZ_PANEL_WEIGHTS }; /* rows that are turned at a time */

/* n columns of rows of the packed matrix become weights. */
static void load_columns(const struct qz_view *view, const struct qz_panel *part, float *panel)
{
    float some[TURNED * QZ_PANEL_WEIGHTS];
    for (size_t i = 0, rows; i < part->n; i += rows) {
        rows = qz_least(TURNED, part->n - i);
        for (size_t r = 0; r < rows; r++)
            qz_decode_part(view, part->from + i + r, part->first, part->count, some + r * part->count);
        view->kernels->transpose(some, (ptrdiff_t)part->count, part->count, rows, panel + i, QZ_PANEL_PITCH);
    }
}

static void load_panel(const struct qz_weights *weights, const struct qz_panel *part, float *panel)
{
    if (weights->columns) {
        load_columns(weights->view, part, panel);
        return;
    }
    for (size_t c = 0; c < part->count; c++)
        qz_decode_part(weights->view, part->first + c, part->from, part->n, panel + c * QZ_PANEL_PITCH);
}

void qz_panel_row(const struct qz_weights *weights, const struct qz_panel *part, const float *x, float *sum)
{
    _Alignas(64) float panel[QZ_PANEL_WEIGHTS * QZ_PANEL_PITCH];
    float some[QZ_PANEL_WEIGHTS];
    for (size_t i = 0; i < part->n; i += QZ_PRODUCT_MOST) {
        const struct qz_panel piece = {part->first, part->from + i, part->count,
                                       qz_least(QZ_PRODUCT_MOST, part->n - i)};
        load_panel(weights, &piece, panel);
        weights->view->kernels->products(x + i, 0, 1, panel, QZ_PANEL_PITCH, part->count, piece.n, some, 0);
        for (size_t c = 0; c < part->count; c++)
            sum[c] += some[c];
    }
}

static void add_tile(const float *tile, size_t rows, size_t count, size_t row, uint64_t first, int begins,
                     const struct qz_outputs *outputs)
{
    for (size_t r = 0; r < rows; r++) {
        float *to = outputs->value + (int64_t)(row + r) * outputs->rows_apart + (int64_t)first * outputs->apart;
        for (size_t c = 0; c < count; c++, to += outputs->apart) {
            float sum = tile[r * QZ_PANEL_WEIGHTS + c];
            *to = qz_output(begins ? sum : *to + sum);
        }
    }
}

void qz_panel_products(const struct qz_weights *weights, uint64_t first, size_t count, const float *x, ptrdiff_t pitch,
                       size_t rows, uint64_t n, const struct qz_outputs *outputs)
{
    _Alignas(64) float panel[QZ_PANEL_WEIGHTS * QZ_PANEL_PITCH];
    float tile[QZ_PANEL_INPUTS * QZ_PANEL_WEIGHTS];
    for (uint64_t from = 0; from < n; from += QZ_PRODUCT_MOST) {
        const struct qz_panel part = {first, from, count, qz_least(QZ_PRODUCT_MOST, n - from)};
        load_panel(weights, &part, panel);
        for (size_t r = 0, some; r < rows; r += some) {
            some = qz_least(QZ_PANEL_INPUTS, rows - r);
            weights->view->kernels->products(x + (ptrdiff_t)r * pitch + (ptrdiff_t)from, pitch, some, panel,
                                             QZ_PANEL_PITCH, count, part.n, tile, QZ_PANEL_WEIGHTS);
            add_tile(tile, some, count, r, first, from == 0, outputs);
        }
    }
}
