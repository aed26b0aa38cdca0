/*
 * input_template.h - converts rows of floats to bytes, for products of bytes
 *
 * All sets, scalar.c included, use the same loops, which compilers vectorize. TARGET is that of the file that includes
 * this one.
 */

/* The largest magnitude of a block; NaN if there is one. As integers magnitudes ascend, and NaN is above all others. */
static inline TARGET float block_largest(const float *x)
{
    int32_t most = 0;
    for (size_t k = 0; k < QZ_LEVELS; k++) {
        int32_t bits = (int32_t)(qz_bits(x[k]) & 0x7fffffffu);
        most = bits > most ? bits : most;
    }
    return qz_float((uint32_t)most);
}

/* Bytes of a block with a step of 1 / inverse; of each eight columns the even ones come first. Returns their sum. */
static inline TARGET int32_t block_bytes(const float *x, int is_ordinary, float inverse, int8_t *code)
{
    const float round = 0x1.8p23f; /* whole numbers are all that is left beside it; it hides 127 steps at most */
    int8_t byte[QZ_LEVELS];
    int32_t total = 0;
    for (size_t k = 0; k < QZ_LEVELS; k++) {
        float shifted = (is_ordinary ? x[k] : 0.0f) * inverse + round;
        int32_t whole = (int32_t)(shifted - round);
        total += whole;
        byte[k] = (int8_t)whole;
    }
    for (size_t k = 0; k < QZ_LEVELS; k += 8)
        for (size_t i = 0; i < 4; i++) {
            code[k + i] = byte[k + 2 * i];
            code[k + 4 + i] = byte[k + 2 * i + 1];
        }
    return total;
}

static TARGET void input_bytes(const float *x, size_t blocks, int8_t *code, float *step, float *start, uint8_t *strange)
{
    for (size_t b = 0; b < blocks; b++) {
        const float largest = block_largest(x + b * QZ_LEVELS), most = QZ_LEVEL_MOST;
        const int is_ordinary = largest == 0.0f || (largest >= QZ_ORDINARY_LEAST && largest <= QZ_ORDINARY_MOST);
        const float inverse = is_ordinary && largest > 0.0f ? most / largest : 0.0f;
        int32_t total = block_bytes(x + b * QZ_LEVELS, is_ordinary, inverse, code + b * QZ_LEVELS);
        step[b] = is_ordinary ? largest / most : 0.0f;
        start[b] = step[b] * (float)total;
        strange[b] = (uint8_t)!is_ordinary;
    }
}
