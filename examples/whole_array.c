/*
 * whole_array.c - one scale for a whole array
 *
 * Quantizes eight temperatures to 4 bits each, packs them into four bytes, and goes all the way back.
 */
#include <quantize.h>

#include <stdio.h>

enum { N = 8 };

int main(void)
{
    const float celsius[N] = {-12.5f, -3.0f, 0.0f, 4.25f, 9.0f, 16.0f, 21.5f, 25.0f};
    int8_t codes[N], unpacked[N];
    uint8_t packed[N / 2];
    float back[N];
    double scale, zero_point;
    qz_detail detail = QZ_DETAIL_INIT;

    qz_result result = qz_quantize_i4(celsius, QZ_F32, N, QZ_MINMAX, codes, &scale, &zero_point, NULL, &detail);
    if (result == QZ_OK)
        result = qz_pack_i4(codes, N, packed, NULL, NULL);
    if (result == QZ_OK)
        result = qz_unpack_i4(packed, N, unpacked, NULL);
    if (result == QZ_OK)
        result = qz_dequantize_i4(unpacked, N, scale, zero_point, back, QZ_F32, NULL, NULL);
    if (result != QZ_OK) {
        fprintf(stderr, "%s (first at %llu)\n", qz_result_text(result), (unsigned long long)detail.index);
        return 1;
    }

    printf("scale %.1f, zero point %.0f\n", scale, zero_point);
    printf("bytes %02x %02x %02x %02x\n", packed[0], packed[1], packed[2], packed[3]);
    for (int i = 0; i < N; i++)
        printf("%7.2f -> %2d -> %7.2f\n", (double)celsius[i], codes[i], (double)back[i]);
    return 0;
}
