/*
 * regex.c - extended regular expressions of POSIX: it says whether they match, not where
 *
 * An expression becomes a program: steps that take a byte, and steps that lead on to one or two others. The matcher
 * follows all ways through the program at the same time, so the time of a match is proportional to the text and the
 * program (K. Thompson, "Regular expression search algorithm", 1968).
 */
#include "set.h"

#include <ctype.h>

enum kind { TAKE, JUMP, FORK, AT_START, AT_END, MATCHED };

typedef struct step {
    enum kind kind;
    int to, other; /* of JUMP and FORK: from this step on */
    byte_set set;  /* of TAKE */
} step;

struct qz_windows_program {
    step *steps;
    int count, room;
    int failed; /* no memory */
};

typedef struct qz_windows_program program;

/* ---- an expression as a program ---- */

enum { MOST_STEPS = 1 << 20 };

/* Makes room for `more` steps at `at`. What stands behind moves; jumps within it stay right. */
static step *insert(program *p, int at, int more)
{
    if (p->count + more > p->room) {
        const int room = 2 * (p->count + more);
        step *wider = room <= MOST_STEPS ? realloc(p->steps, (size_t)room * sizeof *wider) : NULL;
        if (!wider) {
            p->failed = 1;
            return NULL;
        }
        p->steps = wider;
        p->room = room;
    }
    memmove(p->steps + at + more, p->steps + at, (size_t)(p->count - at) * sizeof(step));
    p->count += more;
    return p->steps + at;
}

static void put(program *p, int at, enum kind kind, int to, int other)
{
    step *s = insert(p, at, 1);
    if (s)
        *s = (step){.kind = kind, .to = to, .other = other};
}

/* What begins at `start` any number of times, or at most once. */
static void make_loop(program *p, int start)
{
    const int length = p->count - start;
    put(p, start, FORK, 1, length + 2);
    put(p, p->count, JUMP, -length - 1, 0);
}

static void make_optional(program *p, int start)
{
    put(p, start, FORK, 1, p->count - start + 1);
}

/* Appends the block of steps once more. */
static void append(program *p, const step *block, int length)
{
    step *s = insert(p, p->count, length);
    if (s)
        memcpy(s, block, (size_t)length * sizeof *s);
}

/* From `least` to `most` times; any number from `least` on if `most` is less than 0. */
static void repeat(program *p, int start, int least, int most)
{
    const int length = p->count - start;
    step *block = malloc((size_t)length * sizeof *block + 1);
    if (!block) {
        p->failed = 1;
        return;
    }
    memcpy(block, p->steps + start, (size_t)length * sizeof *block);
    p->count = start;
    for (int i = 0; i < (most < 0 ? least + 1 : most) && !p->failed; i++) {
        const int from = p->count;
        append(p, block, length);
        if (i >= least && most < 0)
            make_loop(p, from);
        else if (i >= least)
            make_optional(p, from);
    }
    free(block);
}

static const char *either(program *p, const char *at);

/* Each of these reads a part of an expression, and returns what follows it; NULL if there is no such part. */
static const char *atom(program *p, const char *at)
{
    byte_set set = {{0}};
    const char *end = at + 1;
    if (*at == '(') {
        end = either(p, at + 1);
        return end && *end == ')' ? end + 1 : NULL;
    }
    if (*at == '^' || *at == '$') {
        put(p, p->count, *at == '^' ? AT_START : AT_END, 0, 0);
        return end;
    }
    if (strchr("*+?{)", *at))
        return NULL;
    if (*at == '.') {
        memset(set.has, 1, sizeof set.has);
    } else if (*at == '[') {
        end = qz_windows_set(at + 1, 0, &set);
    } else {
        at += *at == '\\';
        set.has[(unsigned char)*at] = 1;
        end = *at != '\0' ? at + 1 : NULL;
    }
    step *s = end ? insert(p, p->count, 1) : NULL;
    if (s)
        *s = (step){.kind = TAKE, .set = set};
    return end;
}

/* {2}, {2,} or {2,3} */
static const char *bounds(program *p, int start, const char *at)
{
    char *end;
    if (!isdigit((unsigned char)at[1]))
        return NULL;
    const unsigned long least = strtoul(at + 1, &end, 10);
    unsigned long most = least;
    int is_open = 0;
    if (*end == ',') {
        is_open = end[1] == '}';
        most = is_open ? least : strtoul(end + 1, &end, 10);
        end += is_open;
    }
    if (*end != '}' || most < least || most > 255)
        return NULL;
    repeat(p, start, (int)least, is_open ? -1 : (int)most);
    return end + 1;
}

static const char *piece(program *p, const char *at)
{
    const int start = p->count;
    at = atom(p, at);
    while (at && *at != '\0' && strchr("*+?{", *at)) {
        if (*at == '{') {
            at = bounds(p, start, at);
            continue;
        }
        if (*at == '+')
            put(p, p->count, FORK, start - p->count, 1);
        else if (*at == '*')
            make_loop(p, start);
        else
            make_optional(p, start);
        at++;
    }
    return at;
}

static const char *either(program *p, const char *at)
{
    const int start = p->count;
    while (at && *at != '\0' && *at != '|' && *at != ')')
        at = piece(p, at);
    if (!at || *at != '|')
        return at;
    put(p, start, FORK, 1, p->count - start + 2);
    const int jump = p->count;
    put(p, jump, JUMP, 0, 0);
    at = either(p, at + 1);
    if (!p->failed)
        p->steps[jump].to = p->count - jump;
    return at;
}

int qz_windows_regcomp(regex_t *expression, const char *pattern, int flags)
{
    program *p = calloc(1, sizeof *p);
    (void)flags;
    expression->program = p;
    if (!p)
        return REG_ESPACE;
    const char *end = either(p, pattern);
    put(p, p->count, MATCHED, 0, 0);
    const int code = p->failed ? REG_ESPACE : end && *end == '\0' ? 0 : REG_BADPAT;
    if (code != 0)
        regfree(expression);
    return code;
}

void qz_windows_regfree(regex_t *expression)
{
    if (expression->program)
        free(expression->program->steps);
    free(expression->program);
    expression->program = NULL;
}

size_t qz_windows_regerror(int code, const regex_t *expression, char *out, size_t room)
{
    (void)expression;
    return (size_t)snprintf(out, room, "%s", code == REG_ESPACE ? "Memory exhausted" : "Invalid expression") + 1;
}

/* ---- a program that runs ---- */

/* Steps that are reached before a byte; `seen` holds how many bytes went before when it was reached last, and one more. */
typedef struct reached {
    int *steps, *waiting;
    size_t *seen;
    int count;
} reached;

/* Adds a step with those that follow without a byte. Returns 1 if the end is among them. */
static int reach(reached *r, const program *p, int first, size_t place, int is_end)
{
    int left = 0;
    r->waiting[left++] = first;
    while (left > 0) {
        const int at = r->waiting[--left];
        const step *s = &p->steps[at];
        if (r->seen[at] == place + 1)
            continue;
        r->seen[at] = place + 1;
        if (s->kind == MATCHED)
            return 1;
        if (s->kind == TAKE)
            r->steps[r->count++] = at;
        else if (s->kind == JUMP || s->kind == FORK)
            r->waiting[left++] = at + s->to;
        else if (s->kind == AT_START ? place == 0 : is_end)
            r->waiting[left++] = at + 1;
        if (s->kind == FORK)
            r->waiting[left++] = at + s->other;
    }
    return 0;
}

static int run(const program *p, reached *now, reached *next, const char *text)
{
    const size_t length = strlen(text);
    for (size_t place = 0; place <= length; place++) {
        if (reach(now, p, 0, place, place == length)) /* a match may begin anywhere */
            return 0;
        next->count = 0;
        for (int i = 0; i < now->count && place < length; i++)
            if (p->steps[now->steps[i]].set.has[(unsigned char)text[place]] &&
                reach(next, p, now->steps[i] + 1, place + 1, place + 1 == length))
                return 0;
        const reached swapped = *now;
        *now = *next;
        *next = swapped;
    }
    return REG_NOMATCH;
}

int qz_windows_regexec(const regex_t *expression, const char *text, size_t count, void *found, int flags)
{
    const program *p = expression->program;
    const size_t steps = (size_t)p->count;
    int *memory = malloc(steps * 4 * sizeof *memory);
    size_t *seen = calloc(2 * steps, sizeof *seen);
    reached now = {memory, memory + 2 * steps, seen, 0};
    reached next = {memory + steps, memory + 2 * steps, seen + steps, 0};
    (void)count, (void)found, (void)flags;
    const int code = memory && seen ? run(p, &now, &next, text) : REG_ESPACE;
    free(memory);
    free(seen);
    return code;
}
