/*
 * table.c - prints results for people: tables on stdout
 */
#include "table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

static void add_cell(table *t, const char *text)
{
    if (t->count == t->capacity) {
        t->capacity = t->capacity == 0 ? 64 : t->capacity * 2;
        t->cells = realloc(t->cells, t->capacity * sizeof *t->cells);
    }
    char *copy = strdup(text);
    if (!t->cells || !copy) {
        fputs("quantize: out of memory\n", stderr);
        exit(LIMIT);
    }
    t->cells[t->count++] = copy;
}

void table_begin(table *t, const char *align, const char *const *titles)
{
    *t = (table){.columns = strlen(align), .align = align};
    for (size_t i = 0; i < t->columns; i++)
        add_cell(t, titles[i]);
}

void table_cell(table *t, const char *format, ...)
{
    char text[SHAPE_TEXT];
    va_list arguments;
    va_start(arguments, format);
    if (strcmp(format, "%s") == 0) { /* most cells, of which there can be a million */
        add_cell(t, va_arg(arguments, const char *));
    } else {
        vsnprintf(text, sizeof text, format, arguments);
        add_cell(t, text);
    }
    va_end(arguments);
}

static void print_blanks(int count)
{
    while (count-- > 0)
        putchar(' ');
}

void table_print(table *t)
{
    int widths[32] = {0}, plain = takes_utf8(STDOUT_FILENO);
    for (size_t i = 0; i < t->count; i++) {
        int width = put_text(NULL, t->cells[i], plain);
        if (width > widths[i % t->columns])
            widths[i % t->columns] = width;
    }
    for (size_t row = 0; row < t->count; row += t->columns) {
        char **cells = t->cells + row;
        size_t used = t->columns; /* no blanks at the end of a line */
        while (used > 1 && cells[used - 1][0] == '\0')
            used--;
        for (size_t column = 0; column < used; column++) {
            int last = column + 1 == used, right = t->align[column] == 'r';
            int blanks = right ? widths[column] - put_text(NULL, cells[column], plain) : 0;
            print_blanks(blanks);
            int columns = put_text(stdout, cells[column], plain);
            print_blanks(right || last ? 0 : widths[column] - columns);
            fputs(last ? "\n" : "  ", stdout);
        }
    }
    for (size_t i = 0; i < t->count; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (table){0};
}
