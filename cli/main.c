/*
 * main.c - main() of the tool: the table of commands, help, signals
 *
 * Each command is a function in a file of its own (commands.h).
 */
#include "commands.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "describe.h"
#include "json.h"
#include "output.h"
#include "resources.h"
#include "results.h"

#define INPUT_OPTIONS " --max-header --max-ratio --max-bytes --max-table --void2-as-bfloat16 --allow-trailing"
#define COMMON        " --json --quiet --help "
#define EVENTS        " --jsonl"

static const command commands[] = {
    {"info", "[FILE]", 0, 1, " --check" INPUT_OPTIONS COMMON, "list what a file holds, or what this program can do",
     "Lists the tensors of a file (.npy, .npz, .safetensors, .gguf): type, shape, scheme, bytes and bits per value.\n"
     "Without a file: version, kernel sets, CPUs and schemes.",
     run_info},
    {"encode", "IN OUT", 2, 2,
     " --scheme --group-size --axis --method --scale-dtype --table --weights --imatrix --gram --seed --nonfinite "
     "--include "
     "--exclude"
     " --min-size --rule --rules --no-default-rules --target-bits --min-sqnr --requantize"
     " --to --stats --report --dry-run --max-shard-size --part --resume --threads --force --no-fsync" INPUT_OPTIONS
         EVENTS COMMON,
     "quantize floats to 4 bits",
     "Quantizes the float tensors of IN (.npy, .npz, .safetensors, .gguf) and writes OUT (.npz, .safetensors, .gguf).\n"
     "These tensors are copied instead: scalars and tensors that are no floats; those that --include and --exclude\n"
     "leave out; those that are quantized already, without --requantize; and, unless --include names them or there is\n"
     "no other, tensors with one axis (norms, biases), tensors below --min-size, and in models embeddings, output\n"
     "heads, routers and the like. OUT can be a folder if IN is a folder with a model, or with --max-shard-size. --to\n"
     "writes the layout of another program, as convert does.",
     run_encode},
    {"decode", "IN OUT", 2, 2,
     " --dtype --tensor --max-shard-size --threads --force --no-fsync" INPUT_OPTIONS EVENTS COMMON, "decode to floats",
     "Decodes the quantized tensors of IN. OUT (.npz, .safetensors, .gguf) gets all tensors; OUT.npy the only one, or\n"
     "the one that --tensor names. Tensors that are not quantized are copied. OUT can be a folder if IN is one.",
     run_decode},
    {"convert", "IN OUT", 2, 2,
     " --to --report --requantize --no-verify --max-shard-size --part --choices --resume --threads --force "
     "--no-fsync" INPUT_OPTIONS EVENTS COMMON,
     "write quantized tensors in the layout of another program",
     "Writes the tensors of IN to OUT. Quantized tensors get another layout and keep their values. Layouts, all of\n"
     "which are read, too: own, gptq, gptq_v2, awq, compressed-tensors, mlx, bitsandbytes, modelopt, gpt-oss, gguf.\n"
     "A tensor that cannot keep its values is refused. At the end both files are decoded, and must be the same to the\n"
     "last bit. OUT can be a folder if IN is one.",
     run_convert},
    {"compare", "A B", 2, 2, " --report --force --min-sqnr --include --exclude --threads" INPUT_OPTIONS EVENTS COMMON,
     "measure the error between two files, tensor by tensor",
     "Compares the tensors of two files that have the same name; if each file has one tensor, these two. A is the\n"
     "original; either file may be quantized. Exits with 1 if a tensor is missing or has another shape, if integers\n"
     "differ, or if the SQNR of a tensor is below --min-sqnr.",
     run_compare},
    {"verify", "FILE [ORIGINAL]", 1, 2, " --min-sqnr --threads" INPUT_OPTIONS EVENTS COMMON,
     "check a file, and its error against the original",
     "Reads all of FILE, checks its structure, checksums, codes and scales, and decodes the quantized tensors, whose\n"
     "values must all be finite. With ORIGINAL, it then does what compare ORIGINAL FILE does, with its exit code.",
     run_verify},
    {"search", "BASE QUERIES", 2, 2, " --k --metric --approximate --tensor --threads" INPUT_OPTIONS COMMON,
     "find the rows of a quantized matrix that are nearest to queries",
     "Finds the rows of BASE, a quantized matrix, that score best with each row of QUERIES, a matrix of floats. Rows "
     "are\n"
     "counted from 0; of equal scores the first row is the best. BASE may have several tensors: --tensor names one.",
     run_search},
    {"bench", "", 0, 0, " --scheme --size --seconds --threads" COMMON, "measure the speed of this machine",
     "Measures each operation against copying, reading and writing memory in the same run. GB/s count the bytes of "
     "the\n"
     "float32 values (pack and unpack: of the codes). With --scheme, all methods of this scheme; without, schemes of "
     "each\n"
     "kind by their plain and their usual method.",
     run_bench},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

int stop_requested(void)
{
    return (int)stop;
}

int stop_asked(void *context)
{
    (void)context;
    return stop_requested();
}

static void catch_signals(void)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND}, before;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++)
        if (sigaction(ending[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) /* nohup stays in force */
            sigaction(ending[i], &action, NULL);
    /* A full disk, a limit on file size or a closed pipe must be results of write(), not signals that end the program.
     */
    action = (struct sigaction){.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGXFSZ, &action, NULL);
}

/* Started without stdin, stdout or stderr, the program would give that number to its output, and write its messages
 * into it. So the number is taken, in the wrong direction: writing to stdout or stderr still fails. */
static void open_standard(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) > fd)
            _exit(INTERNAL);
}

static int print_version(int json)
{
    if (!json) {
        printf("quantize %s\n", qz_version());
    } else {
        json_begin(NULL, '{');
        json_text("version", qz_version());
        json_end();
    }
    return output_end(DONE);
}

static int is_version(const char *word)
{
    return strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0;
}

static const command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int unknown_command(const char *given)
{
    const char *names[COMMANDS + 2] = {"help", "--version"};
    for (size_t i = 0; i < COMMANDS; i++)
        names[i + 2] = commands[i].name;
    char shown[NAME_TEXT];
    const char *guess = nearest(given, names, COMMANDS + 2);
    qz_escape(given, strlen(given), shown, sizeof shown);
    if (guess)
        return fail(USAGE, "there is no command '%s'; did you mean %s?", shown, guess);
    return fail(USAGE, "there is no command '%s'; 'quantize help' lists them", shown);
}

static int help(const char *name)
{
    const command *c = name ? find_command(name) : NULL;
    if (name && !c)
        return print_description(name, commands, COMMANDS) ? DONE : unknown_command(name);
    if (c)
        print_help(c);
    else
        print_usage(commands, COMMANDS);
    return DONE;
}

/* Kernels that were asked for by name and cannot run are an error, before any work is done. */
static int check_kernels(void)
{
    if (qz_kernels())
        return DONE;
    char list[200] = "";
    const char *name;
    int supported;
    for (size_t i = 0; (name = qz_kernels_at(i, &supported)) != NULL; i++)
        if (supported)
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", list[0] != '\0' ? ", " : "", name);
    return fail(USAGE,
                "the environment variable QUANTIZE_KERNELS names kernels that are unknown or that this CPU lacks; "
                "unset it, or use one of: %s",
                list);
}

static int run_command(const command *c, int argc, char **argv)
{
    static settings s; /* output_end() still looks at it */
    int code = parse_arguments(c, argc, argv, &s);
    s.arguments = argv;
    s.argument_count = argc;
    results_start(&s);
    if (code == DONE && s.say.help)
        print_help(c);
    else if (code == DONE && (code = check_kernels()) == DONE)
        code = c->run(&s);
    at_tensor(NULL, 0);
    if (stop_requested() && code >= 128)
        fail(code, "%s",
             output_was_written() ? "interrupted; the output is complete, but there is no report of it"
                                  : "interrupted; nothing was written");
    code = output_end(code);
    free_arguments(&s);
    return code;
}

int main(int argc, char **argv)
{
    open_standard();
    catch_signals();
    keep_memory();
    if (argc < 2) {
        print_usage(commands, COMMANDS);
        output_end(DONE);
        return fail(USAGE, "which command?");
    }
    if (is_version(argv[1]))
        return print_version(argc > 2 && strcmp(argv[2], "--json") == 0);
    if (argc > 2 && strcmp(argv[1], "--json") == 0 && is_version(argv[2]))
        return print_version(1);
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return output_end(help(argc > 2 ? argv[2] : NULL));
    const command *c = find_command(argv[1]);
    return c ? run_command(c, argc - 2, argv + 2) : unknown_command(argv[1]);
}
