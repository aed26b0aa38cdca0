/* The ten lines that a user of the library would start with, built in several ways by test_consume.py. */
#include <quantize.h>
#include <stdio.h>

int main(void)
{
    float x[4] = {-1.0f, -0.25f, 0.5f, 1.0f};
    int8_t codes[4];
    double scale, zero_point;
    if (qz_quantize_i4(x, QZ_F32, 4, QZ_MINMAX, codes, &scale, &zero_point, NULL, NULL) != QZ_OK)
        return 1;
    printf("%d %d %d %d %.17g %g %s\n", codes[0], codes[1], codes[2], codes[3], scale, zero_point, qz_version());
    return 0;
}
