/*
 * npy_text.c - takes words, strings and signs from the text of a header, which is a Python literal
 */
#include "npy_text.h"

#include <string.h>

#include "../error.h"

qz_file_result qz_text_refuse(const qz_text *p, const char *at, const char *what)
{
    uint64_t offset = p->base == QZ_NO_OFFSET ? QZ_NO_OFFSET : p->base + (uint64_t)(at - p->text);
    return qz_fail(p->error, QZ_FILE_FORMAT, p->label, p->field, offset, "%s", what);
}

void qz_text_skip_space(qz_text *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'))
        p->at++;
}

int qz_text_take(qz_text *p, char wanted)
{
    qz_text_skip_space(p);
    if (p->at == p->end || *p->at != wanted)
        return 0;
    p->at++;
    return 1;
}

int qz_text_take_word(qz_text *p, const char *word)
{
    size_t n = strlen(word);
    qz_text_skip_space(p);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n) != 0)
        return 0;
    p->at += n;
    return 1;
}

int qz_text_take_string(qz_text *p, int wide, const char **text, size_t *length)
{
    qz_text_skip_space(p);
    const char *at = p->at;
    if (p->end - at > 1 && *at == 'u') /* Python 2 wrote u'...' */
        at++;
    if (at == p->end || (*at != '\'' && *at != '"'))
        return 0;
    char quote = *at++;
    *text = at;
    while (at < p->end && *at != quote && *at != '\\' && (unsigned char)*at >= 0x20 && *at != 0x7f &&
           (wide || (unsigned char)*at < 0x80))
        at++;
    if (at == p->end || *at != quote)
        return 0;
    *length = (size_t)(at - *text);
    p->at = at + 1;
    return 1;
}
