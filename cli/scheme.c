/*
 * scheme.c - describes schemes in words and as JSON
 */
#include "scheme.h"

#include "json.h"

const char *size_text(uint64_t size, char *out, size_t out_size)
{
    if (size == QZ_WHOLE_ROW)
        snprintf(out, out_size, "row");
    else if (size == QZ_WHOLE_MATRIX)
        snprintf(out, out_size, "all");
    else
        snprintf(out, out_size, "%" PRIu64, size);
    return out;
}

void json_size(const char *key, uint64_t size)
{
    char text[32];
    if (size == QZ_WHOLE_ROW || size == QZ_WHOLE_MATRIX)
        json_text(key, size_text(size, text, sizeof text));
    else
        json_whole(key, size);
}

const char *scheme_text(const qz_scheme *scheme, char *out, size_t out_size)
{
    char group[32], super[32], supers[96] = "";
    if (scheme->super_size != 0)
        snprintf(supers, sizeof supers, " times %s for %s", qz_dtype_name(scheme->super_dtype),
                 scheme->super_size == QZ_WHOLE_ROW ? "each row" : size_text(scheme->super_size, super, sizeof super));
    snprintf(out, out_size, "%s, groups of %s, %s scales%s", scheme->name,
             size_text(scheme->group_size, group, sizeof group), qz_dtype_name(scheme->scale_dtype), supers);
    return out;
}

qz_dtype scale_dtype_at(size_t i)
{
    qz_scheme like = *qz_scheme_by_name("int4");
    for (int dtype = 1; qz_dtype_name((qz_dtype)dtype); dtype++) {
        like.scale_dtype = (qz_dtype)dtype;
        if (qz_scheme_check(&like, QZ_DEFAULT) == QZ_OK && i-- == 0)
            return like.scale_dtype;
    }
    return (qz_dtype)0;
}

void json_scheme(const qz_scheme *scheme)
{
    json_text("scheme", scheme->name);
    json_size("group_size", scheme->group_size);
    json_text("scale_dtype", qz_dtype_name(scheme->scale_dtype));
    if (scheme->super_size != 0) {
        json_text("super_dtype", qz_dtype_name(scheme->super_dtype));
        json_size("super_size", scheme->super_size);
    }
    if (scheme->codes == QZ_TABLE) {
        json_begin("table", '[');
        for (int code = 0; code < 16; code++)
            json_real(NULL, (double)scheme->table[code]);
        json_end();
    }
}
