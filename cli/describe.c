/*
 * describe.c - prints the commands and their options: help pages, a manual page, and completions for shells
 *
 * All texts come from the table of commands in main.c and the table of options in args.c.
 */
#include "describe.h"

#include <string.h>

static const char *const exit_codes[][2] = {
    {"0", "done"},          {"1", "difference found"},      {"2", "wrong arguments"}, {"3", "malformed input"},
    {"4", "refused"},       {"5", "input or output error"}, {"6", "limit"},           {"7", "internal error"},
    {"130", "interrupted"},
};
enum { EXIT_CODES = sizeof exit_codes / sizeof exit_codes[0] };

/* ---- help ---- */

void print_usage(const command *commands, size_t count)
{
    printf("quantize %s - int4 for arrays\n\n", qz_version());
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "quantize %s %s", commands[i].name, commands[i].files);
        printf("  %-32s %s\n", left, commands[i].summary);
    }
    printf("\n'quantize help COMMAND' lists its options; 'quantize help --man' prints a manual page, 'quantize help\n"
           "--bash', '--zsh' and '--fish' what these shells read to complete words. Exit codes:");
    for (size_t i = 0; i < EXIT_CODES; i++)
        printf("%s%s %s", i == 0 ? "\n" : i == 4 ? ",\n" : ", ", exit_codes[i][0], exit_codes[i][1]);
    printf("\n");
}

void print_help(const command *c)
{
    option_text o;
    printf("quantize %s %s%s[options]\n\n%s\n\n", c->name, c->files, c->files[0] != '\0' ? " " : "", c->description);
    for (size_t i = 0; option_at(c, i, &o); i++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", o.name, o.value ? " " : "", o.value ? o.value : "");
        printf("  %-26s %s\n", left, o.help);
    }
}

/* ---- a manual page ---- */

/* Text in roff's language: hyphens that can be searched for, no line that begins with a command. */
static void roff(const char *text)
{
    for (int begins = 1; *text != '\0'; begins = *text++ == '\n') {
        if (begins && (*text == '.' || *text == '\''))
            fputs("\\&", stdout);
        fputs(*text == '-' ? "\\-" : *text == '\\' ? "\\e" : (char[2]){*text, '\0'}, stdout);
    }
}

static void roff_option(const option_text *o)
{
    printf(".TP\n.B ");
    roff(o->name);
    if (o->value)
        printf(" \\fI"), roff(o->value), printf("\\fR");
    printf("\n");
    roff(o->help);
    printf("\n");
}

static void print_manual(const command *commands, size_t count)
{
    printf(".TH QUANTIZE 1 \"\" \"quantize %s\" \"User Commands\"\n.SH NAME\nquantize \\- 4-bit quantization of arrays "
           "and "
           "model files\n.SH SYNOPSIS\n",
           qz_version());
    for (size_t i = 0; i < count; i++)
        printf("%s.B quantize %s\n%s%s%s[\\fIoptions\\fR]\n", i > 0 ? ".br\n" : "", commands[i].name,
               commands[i].files[0] != '\0' ? "\\fI" : "", commands[i].files,
               commands[i].files[0] != '\0' ? "\\fR " : "");
    printf(".SH DESCRIPTION\nQuantizes arrays and model files to 4 bits, decodes them, and compares what is in two "
           "files. An output\nappears under its name whole or not at all.\n.SH COMMANDS\n");
    for (size_t i = 0; i < count; i++) {
        option_text o;
        printf(".SS %s%s%s\n", commands[i].name, commands[i].files[0] != '\0' ? " " : "", commands[i].files);
        roff(commands[i].description);
        printf("\n");
        for (size_t k = 0; option_at(&commands[i], k, &o); k++)
            roff_option(&o);
    }
    printf(".SH EXIT STATUS\n");
    for (size_t i = 0; i < EXIT_CODES; i++)
        printf(".TP\n.B %s\n%s\n", exit_codes[i][0], exit_codes[i][1]);
    printf(
        ".SH ENVIRONMENT\n.TP\n.B QUANTIZE_KERNELS\nthe set of kernels to use, for tests; 'quantize info' lists them\n"
        ".TP\n.B TMPDIR\nwhere compressed tensors are expanded that are not read in order\n");
}

/* ---- completion ---- */

/* The value of an option that is one of some words, these words; else nothing. */
static void print_choices(const option_text *o, const char *between)
{
    const char *choice;
    for (size_t i = 0; (choice = option_choice(o, i)) != NULL; i++)
        printf("%s%s", i > 0 ? between : "", choice);
}

static void print_bash(const command *commands, size_t count)
{
    printf("# quantize %s: completion for bash\n_quantize()\n{\n"
           "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} options=\n"
           "    COMPREPLY=()\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"help --version",
           qz_version());
    for (size_t i = 0; i < count; i++)
        printf(" %s", commands[i].name);
    printf("\" -- \"$current\"))\n        return\n    fi\n    case ${COMP_WORDS[1]}:$previous in\n");
    for (size_t i = 0; i < count; i++) {
        option_text o;
        for (size_t k = 0; option_at(&commands[i], k, &o); k++) {
            if (!o.value || strcmp(o.value, "FILE") == 0) /* a FILE is what is completed where nothing is said */
                continue;
            printf("    %s:%s) COMPREPLY=($(compgen -W \"", commands[i].name, o.name);
            print_choices(&o, " ");
            printf("\" -- \"$current\")); return ;;\n");
        }
    }
    printf("    esac\n    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < count; i++) {
        option_text o;
        printf("    %s) options=\"", commands[i].name);
        for (size_t k = 0; option_at(&commands[i], k, &o); k++)
            printf("%s%s", k > 0 ? " " : "", o.name);
        printf("\" ;;\n");
    }
    printf("    esac\n    case $current in\n    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$current\")) ;;\n"
           "    *) mapfile -t COMPREPLY < <(compgen -f -- \"$current\") ;;\n    esac\n}\n"
           "complete -o filenames -F _quantize quantize\n");
}

/* In single quotes, for zsh's _arguments without the characters that it would read. */
static void print_quoted(const char *text, int zsh)
{
    for (; *text != '\0'; text++) {
        if (zsh && (*text == ':' || *text == '[' || *text == ']'))
            putchar('\\');
        fputs(*text == '\'' ? "'\\''" : *text == '\n' ? " " : (char[2]){*text, '\0'}, stdout);
    }
}

static void print_zsh(const command *commands, size_t count)
{
    printf(
        "#compdef quantize\n# quantize %s: completion for zsh\n_quantize()\n{\n    local -a commands\n    commands=(\n",
        qz_version());
    for (size_t i = 0; i < count; i++) {
        printf("        '%s:", commands[i].name);
        print_quoted(commands[i].summary, 1);
        printf("'\n");
    }
    printf("        'help:the options of a command'\n    )\n    if (( CURRENT == 2 )); then\n"
           "        _describe command commands\n        return\n    fi\n    local command=$words[2]\n    shift words\n"
           "    (( CURRENT-- ))\n    case $command in\n");
    for (size_t i = 0; i < count; i++) {
        option_text o;
        printf("    %s)\n        _arguments", commands[i].name);
        for (size_t k = 0; option_at(&commands[i], k, &o); k++) {
            printf(" \\\n            '%s[", o.name);
            print_quoted(o.help, 1);
            printf("]");
            if (o.value) {
                printf(":");
                print_quoted(o.value, 1);
                printf(":%s", strcmp(o.value, "FILE") == 0 ? "_files" : option_choice(&o, 0) ? "(" : " ");
                print_choices(&o, " ");
                printf("%s", option_choice(&o, 0) ? ")" : "");
            }
            printf("'");
        }
        printf(" \\\n            '*:file:_files'\n        ;;\n");
    }
    printf("    esac\n}\n_quantize \"$@\"\n");
}

static void print_fish(const command *commands, size_t count)
{
    printf("# quantize %s: completion for fish\n", qz_version());
    for (size_t i = 0; i < count; i++) {
        option_text o;
        printf("complete -c quantize -n __fish_use_subcommand -f -a %s -d '", commands[i].name);
        print_quoted(commands[i].summary, 0);
        printf("'\n");
        for (size_t k = 0; option_at(&commands[i], k, &o); k++) {
            printf("complete -c quantize -n '__fish_seen_subcommand_from %s' -l %s", commands[i].name, o.name + 2);
            if (o.value && strcmp(o.value, "FILE") == 0) {
                printf(" -r");
            } else if (o.value) {
                printf(" -x -a '");
                print_choices(&o, " ");
                printf("'");
            }
            printf(" -d '");
            print_quoted(o.help, 0);
            printf("'\n");
        }
    }
}

int print_description(const char *format, const command *commands, size_t count)
{
    static const struct {
        const char *name;
        void (*print)(const command *commands, size_t count);
    } formats[] = {{"--man", print_manual}, {"--bash", print_bash}, {"--zsh", print_zsh}, {"--fish", print_fish}};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(formats[i].name, format) == 0) {
            formats[i].print(commands, count);
            return 1;
        }
    return 0;
}
