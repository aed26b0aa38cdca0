/*
 * test_patterns.c - fnmatch() and regexec() of files/windows/ beside those of the system here
 *
 * It runs where there are both: everywhere but on Windows.
 */
#include "support/program.h"

#include <fnmatch.h>
#include <regex.h>

/* The system's types and functions keep their names; those of files/windows/ get others. */
typedef struct small_regex {
    struct qz_windows_program *program;
} small_regex;

void qz_windows_regfree(small_regex *expression);
int qz_windows_fnmatch(const char *pattern, const char *name, int flags);
int qz_windows_regcomp(small_regex *expression, const char *pattern, int flags);
int qz_windows_regexec(const small_regex *expression, const char *text, size_t count, void *found, int flags);
size_t qz_windows_regerror(int code, const small_regex *expression, char *out, size_t room);

#define regex_t small_regex
#define regfree qz_windows_regfree
#include "../../files/windows/glob.c"
#include "../../files/windows/regex.c"
#include "../../files/windows/set.c"
#undef regex_t
#undef regfree

static const char *const few[] = {"a", "b", "c"};

/* A text of some of these pieces, one after another. */
static void make(struct rng *rng, const char *const *pieces, size_t count, size_t most, char *out)
{
    *out = '\0';
    for (size_t i = rng_below(rng, most + 1); i > 0; i--)
        strcat(out, pieces[rng_below(rng, count)]);
}
#define MAKE(rng, pieces, most, out) make(rng, pieces, sizeof(pieces) / sizeof(pieces)[0], most, out)

static const char *const letters[] = {"a", "b", "c", "1", "-", "]", ".", "B", "\\", "*", "^", "\xc3\xa4"};

static void test_globs(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a",      "b",    "1",    "*",    "?",  "[ab]",        "[!a]",
                                         "[^b-z]", "[]a]", "[a",   "\\*",  "\\", "[a-c]",       "**",
                                         "]",      "-",    "[-b]", "[b-]", ".",  "[[:alpha:]]", "[\\]]",
                                         "[!]]",   "B",    "[1]",  "[a-]", "^",  "[^^]",        "[[:digit:]b]"};
    struct rng rng = rng_make(1);
    size_t matched = 0;
    for (size_t i = 0; i < cases(2000000, 100000); i++) {
        char glob[200], name[100];
        MAKE(&rng, pieces, 6, glob);
        MAKE(&rng, letters, 5, name);
        const int wanted = fnmatch(glob, name, 0) != 0;
        matched += !wanted;
        if ((qz_windows_fnmatch(glob, name, 0) != 0) != wanted)
            fail_msg("'%s' and '%s': %s", glob, name, wanted ? "matched" : "not matched");
    }
    assert_true(matched > cases(2000000, 100000) / 100);
}

static void test_expressions(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a",     "b",     "1",          ".",       "a*",          "b+",    "c?",
                                         "(a|b)", "(ab)*", "|",          "(",       ")",           "[ab]",  "[^a]",
                                         "[]a]+", "a{2}",  "(a|1){1,2}", "b{2,}",   "^",           "$",     "\\.",
                                         "\\*",   "(a*)*", "(|b)",       "[a-c]*",  "[[:alnum:]]", "B",     "(a+b?)+",
                                         "-",     "(^a)",  "(b$)",       "[[.-.]]", "a{0}",        "(b|)?", "c{0,2}"};
    struct rng rng = rng_make(2);
    size_t matched = 0, good = 0;
    for (size_t i = 0; i < cases(200000, 20000); i++) {
        char text[300], whole[320];
        MAKE(&rng, pieces, 5, text);
        snprintf(whole, sizeof whole, i % 2 == 0 ? "^(%s)$" : "%s", text);
        regex_t theirs;
        small_regex ours;
        const int refused = regcomp(&theirs, whole, REG_EXTENDED | REG_NOSUB);
        const int also = qz_windows_regcomp(&ours, whole, 0);
        if (refused == 0 && also == 0) {
            good++;
            for (int k = 0; k < 20; k++) {
                char name[100];
                if (k % 2 == 0)
                    MAKE(&rng, letters, 5, name);
                else
                    MAKE(&rng, few, 7, name);
                const int wanted = regexec(&theirs, name, 0, NULL, 0) != 0;
                matched += !wanted;
                if ((qz_windows_regexec(&ours, name, 0, NULL, 0) != 0) != wanted)
                    fail_msg("'%s' and '%s': %s", whole, name, wanted ? "matched" : "not matched");
            }
        } else if (refused != 0 && also == 0) {
            fail_msg("'%s' is accepted", whole);
        }
        if (refused == 0)
            regfree(&theirs);
        if (also == 0)
            qz_windows_regfree(&ours);
    }
    printf("%zu expressions were compared, %zu matches\n", good, matched);
    assert_true(good > cases(200000, 20000) / 3 && matched > good);
}

/* Time grows with the product of lengths, whatever the expression. */
static void test_time(void **state)
{
    (void)state;
    char text[3001];
    small_regex expression;
    memset(text, 'a', 3000);
    text[3000] = '\0';
    assert_int_equal(qz_windows_regcomp(&expression, "^((a*)*(a|a)*)*b$", 0), 0);
    assert_int_equal(qz_windows_regexec(&expression, text, 0, NULL, 0), REG_NOMATCH);
    qz_windows_regfree(&expression);
    assert_int_equal(qz_windows_regcomp(&expression, "((((a{255}){255}){255}){255}){255}", 0), REG_ESPACE);
}

int main(void)
{
    start_program("test_patterns");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_globs), cmocka_unit_test(test_expressions),
                                       cmocka_unit_test(test_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
