/*
 * test_json.c - the reader of JSON: the grammar, strings, depth, and what is no JSON
 */
#include "support.h"

#include "containers/json.h"

/* A text that is copied to the end of an allocation, where sanitizers see each byte too many. */
static char *copy_text(const char *text, size_t n)
{
    char *copy = malloc(n + (n == 0));
    assert_non_null(copy);
    memcpy(copy, text, n);
    return copy;
}

/* One letter for each token: { } [ ] k s 1 t f n, then . at the end or ! where it is refused. */
static void tokens_of(const char *text, size_t n, unsigned deepest, char *out, size_t room)
{
    static const char letters[] = "!.{}[]ks1tfn";
    char *copy = copy_text(text, n);
    qz_json json;
    qz_json_begin(&json, copy, n, deepest);
    for (;;) {
        qz_json_kind kind = qz_json_next(&json);
        assert_true(room > 1);
        *out++ = letters[kind];
        room--;
        assert_true(json.start <= n);
        if (kind == QZ_JSON_ERROR)
            assert_true(json.wrong && json.wrong[0] != '\0');
        if (kind <= QZ_JSON_END)
            break;
    }
    assert_int_equal(qz_json_next(&json), json.kind); /* and so it stays */
    *out = '\0';
    free(copy);
}

static void tokens(void **state)
{
    (void)state;
    static const struct {
        const char *text, *tokens;
    } cases_[] = {
        {"{}", "{}."},
        {"[]", "[]."},
        {" \t\r\n{ } \n", "{}."},
        {"1", "1."},
        {"\"a\"", "s."},
        {"true", "t."},
        {"{\"a\":1,\"b\":[true,false,null,{}],\"c\":{\"d\":\"e\"}}", "{k1k[tfn{}]k{ks}}."},
        {"[ 1 , 2 ]", "[11]."},
        {"[0,-0,-1,10,1.5,1e5,1E+5,0.0e-0]", "[11111111]."},
        {"[[[[]]]]", "[[[[]]]]."},
        /* what is none */
        {"", "!"},
        {" ", "!"},
        {"{", "{!"},
        {"[", "[!"},
        {"}", "!"},
        {"]", "!"},
        {"[}", "[!"},
        {"{]", "{!"},
        {"[1}", "[1!"},
        {"{\"a\":1]", "{k1!"},
        {"{}{}", "{}!"},
        {"{},", "{}!"},
        {"1 2", "1!"},
        {"[1,]", "[1!"},
        {"[,1]", "[!"},
        {"[1,,2]", "[1!"},
        {"[1 2]", "[1!"},
        {"{,}", "{!"},
        {"{\"a\":1,}", "{k1!"},
        {"{\"a\"}", "{k!"},
        {"{\"a\" 1}", "{k!"},
        {"{\"a\":}", "{k!"},
        {"{\"a\"::1}", "{k!"},
        {"{a:1}", "{!"},
        {"{1:1}", "{!"},
        {"{'a':1}", "{!"},
        {"{\"a\":1 \"b\":2}", "{k1!"},
        {"[01]", "[!"},
        {"[-]", "[!"},
        {"[+1]", "[!"},
        {"[.5]", "[!"},
        {"[1.]", "[!"},
        {"[1.e5]", "[!"},
        {"[1e]", "[!"},
        {"[1e+]", "[!"},
        {"[0x10]", "[1!"},
        {"[1a]", "[1!"},
        {"[NaN]", "[!"},
        {"[Infinity]", "[!"},
        {"[tru]", "[!"},
        {"[truE]", "[!"},
        {"[nul", "[!"},
        {"[nulll]", "[n!"},
        {"[True]", "[!"},
        {"// comment\n{}", "!"},
        {"{}/* comment */", "{}!"},
        {"\xef\xbb\xbf{}", "!"},
        {"\xa0{}", "!"},
        {"\v{}", "!"},
    };
    char got[64];
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        tokens_of(cases_[i].text, strlen(cases_[i].text), 8, got, sizeof got);
        if (strcmp(got, cases_[i].tokens) != 0)
            fail_msg("%s: %s instead of %s\n", cases_[i].text, got, cases_[i].tokens);
    }
    tokens_of("{}\0", 3, 8, got, sizeof got); /* padding is white space */
    assert_string_equal(got, "{}!");
    tokens_of("[1\0]", 4, 8, got, sizeof got);
    assert_string_equal(got, "[1!");
}

static void strings(void **state)
{
    (void)state;
    static const struct {
        const char *text, *value; /* NULL: none */
        size_t length;
    } cases_[] = {
        {"\"\"", "", 0},
        {"\"abc\"", "abc", 3},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u0061\\u00e4\\u20AC\\ud83d\\uDE00\"", "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 10},
        {"\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9},
        {"\"a\\u0000b\"", "a\0b", 3},
        {"\"\\uffff\\ud7ff\\ue000\"", "\xef\xbf\xbf\xed\x9f\xbf\xee\x80\x80", 9},
        {"\"\\udbff\\udfff\"", "\xf4\x8f\xbf\xbf", 4},
        {"\"\x7f\"", "\x7f", 1},
        {"\"", NULL, 0},
        {"\"abc", NULL, 0},
        {"\"\\", NULL, 0},
        {"\"\\\"", NULL, 0},
        {"\"\\a\"", NULL, 0},
        {"\"\\x61\"", NULL, 0},
        {"\"\\U0061\"", NULL, 0},
        {"\"\\u006\"", NULL, 0},
        {"\"\\u006g\"", NULL, 0},
        {"\"\\u+061\"", NULL, 0},
        {"\"\\u", NULL, 0},
        {"\"\\ud83d\"", NULL, 0},
        {"\"\\ud83dx\"", NULL, 0},
        {"\"\\ud83d\\n\"", NULL, 0},
        {"\"\\ud83d\\u0061\"", NULL, 0},
        {"\"\\ud83d\\ud83d\"", NULL, 0},
        {"\"\\ude00\"", NULL, 0},
        {"\"\\ude00\\ud83d\"", NULL, 0},
        {"\"\\ud83d\\u\"", NULL, 0},
        {"\"a\nb\"", NULL, 0},
        {"\"a\tb\"", NULL, 0},
        {"\"\x1f\"", NULL, 0},
        {"\"\x80\"", NULL, 0},
        {"\"\xc3\"", NULL, 0},
        {"\"\xc0\xaf\"", NULL, 0},
        {"\"\xe0\x80\xaf\"", NULL, 0},
        {"\"\xed\xa0\x80\"", NULL, 0},
        {"\"\xf4\x90\x80\x80\"", NULL, 0},
        {"\"\xff\"", NULL, 0},
        {"\"\xc3\\u00a4\"", NULL, 0}, /* no character is made of a byte and an escape */
        {"\"\\u00e4\xa4\"", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        size_t n = strlen(cases_[i].text);
        char *copy = copy_text(cases_[i].text, n);
        qz_json json;
        qz_json_begin(&json, copy, n, 1);
        qz_json_kind kind = qz_json_next(&json);
        if (kind != (cases_[i].value ? QZ_JSON_STRING : QZ_JSON_ERROR))
            fail_msg("%s: kind %d, %s\n", cases_[i].text, kind, json.wrong ? json.wrong : "");
        if (cases_[i].value) {
            assert_int_equal(json.length, cases_[i].length);
            assert_memory_equal(json.string, cases_[i].value, cases_[i].length + 1);
            assert_int_equal(qz_json_next(&json), QZ_JSON_END);
        }
        free(copy);
    }
}

/* Every character that is one, by itself and as an escape. */
static void every_character(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 13) {
        char text[16], *copy;
        qz_json json;
        size_t n = (size_t)(c < 0x10000 ? snprintf(text, sizeof text, "\"\\u%04x\"", (unsigned)c)
                                        : snprintf(text, sizeof text, "\"\\u%04X\\u%04X\"",
                                                   (unsigned)(0xd800 + ((c - 0x10000) >> 10)),
                                                   (unsigned)(0xdc00 + (c & 0x3ff))));
        copy = copy_text(text, n);
        qz_json_begin(&json, copy, n, 1);
        int half = c >= 0xd800 && c < 0xe000;
        assert_int_equal(qz_json_next(&json), half ? QZ_JSON_ERROR : QZ_JSON_STRING);
        if (!half && c >= 0x20 && c != '"' && c != '\\') {
            char kept[8];
            size_t length = json.length;
            memcpy(kept, json.string, length);
            assert_int_equal(length, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
            n = (size_t)snprintf(text, sizeof text, "\"%.*s\"", (int)length, kept);
            free(copy);
            copy = copy_text(text, n);
            qz_json_begin(&json, copy, n, 1);
            assert_int_equal(qz_json_next(&json), QZ_JSON_STRING);
            assert_int_equal(json.length, length);
            assert_memory_equal(json.string, kept, length);
        }
        free(copy);
    }
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wrong; /* a part of it; NULL: none */
        uint64_t value;
    } cases_[] = {
        {"0", NULL, 0},
        {"7", NULL, 7},
        {"9223372036854775807", NULL, INT64_MAX},
        {"9223372036854775808", "beyond", 0},
        {"18446744073709551616", "beyond", 0},
        {"99999999999999999999999999999999999999", "beyond", 0},
        {"-1", "negative", 0},
        {"-0", "negative", 0},
        {"1.0", "whole", 0},
        {"1e3", "whole", 0},
        {"1E3", "whole", 0},
        {"\"3\"", "not a number", 0},
        {"null", "not a number", 0},
        {"true", "not a number", 0},
        {"[", "not a number", 0},
    };
    for (size_t i = 0; i < sizeof cases_ / sizeof cases_[0]; i++) {
        char *copy = copy_text(cases_[i].text, strlen(cases_[i].text));
        qz_json json;
        uint64_t value;
        qz_json_begin(&json, copy, strlen(cases_[i].text), 1);
        qz_json_next(&json);
        const char *wrong = qz_json_whole(&json, &value);
        if ((!wrong) != (!cases_[i].wrong) || (wrong && !strstr(wrong, cases_[i].wrong)))
            fail_msg("%s: %s\n", cases_[i].text, wrong ? wrong : "accepted");
        if (!wrong)
            assert_true(value == cases_[i].value);
        free(copy);
    }
}

/* Depth is limited, at the limit and far beyond it, and costs nothing. */
static void depth(void **state)
{
    (void)state;
    for (unsigned limit = 1; limit <= 70; limit++) {
        unsigned real = limit < QZ_JSON_DEEPEST ? limit : QZ_JSON_DEEPEST;
        for (unsigned deep = 1; deep <= real + 1; deep++) {
            char text[200], got[200];
            memset(text, '[', deep);
            memset(text + deep, ']', deep);
            tokens_of(text, 2 * (size_t)deep, limit, got, sizeof got);
            assert_int_equal(got[strlen(got) - 1], deep <= real ? '.' : '!');
            assert_int_equal(strlen(got), deep <= real ? 2 * deep + 1 : deep);
        }
    }
    size_t n = 10000000;
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        text[i] = i % 2 ? ']' : '[';
    memset(text, '[', n / 2);
    qz_json json;
    qz_json_begin(&json, text, n, 64);
    assert_int_equal(qz_json_next(&json), QZ_JSON_ARRAY);
    assert_int_equal(qz_json_skip(&json), QZ_JSON_ERROR);
    assert_int_equal(json.start, 64);
    free(text);
}

static void skipping(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":{\"x\":[1,{\"y\":\"]}\"},[]],\"z\":{}},\"b\":[[],[[2]]],\"c\":3}";
    char *copy = copy_text(text, sizeof text - 1);
    qz_json json;
    qz_json_begin(&json, copy, sizeof text - 1, 8);
    assert_int_equal(qz_json_next(&json), QZ_JSON_OBJECT);
    for (const char *key = "abc"; *key != '\0'; key++) {
        const char one[2] = {*key, '\0'};
        assert_int_equal(qz_json_next(&json), QZ_JSON_KEY);
        assert_true(qz_json_is(&json, one));
        assert_false(qz_json_is(&json, "d"));
        qz_json_next(&json);
        assert_false(qz_json_is(&json, one));
        assert_int_equal(qz_json_skip(&json), *key == 'a'   ? QZ_JSON_OBJECT_END
                                              : *key == 'b' ? QZ_JSON_ARRAY_END
                                                            : QZ_JSON_NUMBER);
        assert_int_equal(json.depth, 1);
    }
    assert_int_equal(qz_json_next(&json), QZ_JSON_OBJECT_END);
    assert_int_equal(qz_json_next(&json), QZ_JSON_END);
    free(copy);
}

/* No prefix of a text in brackets is a text, and damage never leads out of it. */
static void damage(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\\u00e4\\ud83d\\ude00\\n\":[1,-2.5e+3,true,{\"b\":null}],\"\xc3\xa4\":{\"c\":\"d\"}}";
    char got[64];
    for (size_t n = 0; n < sizeof text - 1; n++) {
        tokens_of(text, n, 8, got, sizeof got);
        assert_int_equal(got[strlen(got) - 1], '!');
    }
    for (size_t bit = 0; bit < 8 * (sizeof text - 1); bit++) {
        char changed[sizeof text];
        memcpy(changed, text, sizeof text);
        changed[bit / 8] = (char)(changed[bit / 8] ^ 1 << bit % 8);
        tokens_of(changed, sizeof text - 1, 8, got, sizeof got);
    }
    struct rng rng = rng_make(1);
    for (size_t i = 0; i < cases(200000, 20000); i++) {
        static const char parts[] = "{}[],:\"\\u0d8e1-.+ntrfalse \x80\xc3\xa4\n";
        char made[32], long_got[80];
        size_t n = rng_below(&rng, sizeof made);
        for (size_t j = 0; j < n; j++)
            made[j] = parts[rng_below(&rng, sizeof parts)];
        tokens_of(made, n, 8, long_got, sizeof long_got);
    }
}

int main(void)
{
    start_program("test_json");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens),  cmocka_unit_test(strings), cmocka_unit_test(every_character),
        cmocka_unit_test(numbers), cmocka_unit_test(depth),   cmocka_unit_test(skipping),
        cmocka_unit_test(damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
