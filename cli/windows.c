/*
 * windows.c - starts the tool on Windows: arguments in UTF-8, paths with slashes, streams whose line ends are not
 * changed
 *
 * The build renames the main() of main.c to run_tool().
 */
#include "cli.h"

#include <windows.h>

#include <shellapi.h>

int run_tool(int argc, char **argv);

static char *utf8_of(const wchar_t *text)
{
    const int bytes = WideCharToMultiByte(CP_UTF8, 0, text, -1, NULL, 0, NULL, NULL);
    char *copy = bytes > 0 ? malloc((size_t)bytes) : NULL;
    if (copy)
        WideCharToMultiByte(CP_UTF8, 0, text, -1, copy, bytes, NULL, NULL);
    return copy;
}

/* Whether a word is, or follows, an option about names of tensors, in which a backslash is one. */
static int is_of_names(const char *before, const char *word)
{
    static const char *const options[] = {"--include", "--exclude", "--rule", "--tensor"};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        const size_t length = strlen(options[i]);
        if (strcmp(before, options[i]) == 0 || (strncmp(word, options[i], length) == 0 && word[length] == '='))
            return 1;
    }
    return 0;
}

/* All that looks at paths knows slashes only. */
static void turn_backslashes(char *path)
{
    for (; *path != '\0'; path++)
        if (*path == '\\')
            *path = '/';
}

int main(void)
{
    int count = 0, fine;
    wchar_t **words = CommandLineToArgvW(GetCommandLineW(), &count);
    char **texts = words ? calloc((size_t)count + 1, sizeof *texts) : NULL;
    fine = texts != NULL;
    for (int i = 0; fine && i < count; i++)
        fine = (texts[i] = utf8_of(words[i])) != NULL;
    if (!fine) {
        fputs("quantize: out of memory\n", stderr);
        return LIMIT;
    }
    for (int i = 1; i < count; i++)
        if (!is_of_names(texts[i - 1], texts[i]))
            turn_backslashes(texts[i]);
    SetConsoleOutputCP(CP_UTF8);
    for (int fd = 0; fd <= 2; fd++)
        _setmode(fd, _O_BINARY);
    return run_tool(count, texts);
}
