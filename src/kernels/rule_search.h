/*
 * rule_search.h - what ggml's searches try, and the values of IQ4; part of rule_search_scalar.h and _template.h
 */
#ifndef QZ_RULE_SEARCH_H
#define QZ_RULE_SEARCH_H

#include "kernels.h"

/* Where a group begins. */
static inline size_t qz_rule_group(size_t l)
{
    return l / QZ_BLOCK * QZ_BLOCK * QZ_RULE_SEARCHED + l % QZ_BLOCK;
}

/* The first try divides 127 by the largest value, further ones -134 to -120. Where no value reaches the least magnitude,
 * the scale is 0. */
enum { QZ_RULE_IQ4_TRIES = 16, QZ_RULE_Q4_K_TRIES = 21 };
#define QZ_RULE_IQ4_LEAST 1e-15f

static inline float qz_rule_iq4_end(int try)
{
    return (float)(try - 135);
}

/* The steps between the ends of a group. */
static inline float qz_rule_q4_k_steps(int try)
{
    return 14.0f + 0.1f * (float)try;
}

/* Cells as candidates.c cuts them: they hold y up to the ends times 1.06. */
static const struct qz_search qz_iq4_levels = {
    .value = {{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}},
    .upper = {{-115.5f, -93.5f, -74.0f, -57.0f, -42.0f, -28.5f, -16.0f, -4.5f, 7.0f, 19.0f, 31.5f, 45.5f, 61.0f, 79.0f,
               101.0f, INFINITY}},
    .cells = 1,
    .cell_most = {134.0f},
    .cell_factor = {0x1.e895e6p-4f},
    .cell_upper = {{INFINITY, INFINITY, -115.5f,  INFINITY, -93.5f,   INFINITY, INFINITY, -74.0f,
                    INFINITY, -57.0f,   -42.0f,   INFINITY, -28.5f,   INFINITY, -16.0f,   -4.5f,
                    7.0f,     INFINITY, 19.0f,    31.5f,    INFINITY, 45.5f,    INFINITY, 61.0f,
                    INFINITY, 79.0f,    INFINITY, INFINITY, 101.0f,   INFINITY, INFINITY, INFINITY}},
    .cell_first = {{0, 0, 0, 1,  1,  2,  2,  2,  3,  3,  4,  5,  5,  6,  6,  7,
                    8, 9, 9, 10, 11, 11, 12, 12, 13, 13, 14, 14, 14, 15, 15, 15}},
};

#endif
