/* One pass over JSON text: what is there is checked against RFC 8259 and UTF-8, and passed.
 *
 * Nothing is read beyond the byte after the text. That byte is there and is 0: CPython ends every bytes object so.
 * A 0 is no JSON outside of strings and none inside, so each loop over single bytes ends there by itself; whatever
 * looks at several bytes at once compares with `end` first.
 */
#ifndef FARSHORE_JSON_H
#define FARSHORE_JSON_H

#include <stdint.h>
#include <string.h>

#if PY_LITTLE_ENDIAN && defined(__GNUC__)
#define EIGHT_AT_ONCE 1
#else
#define EIGHT_AT_ONCE 0
#endif

enum {
    DEPTH_MAX = 64,             /* of nesting, ours and an event's; deeper ones are not read here */
    SKIPPED_DIGITS_MAX = 100,   /* of a number that nobody asked for; readers differ on what no float holds */
    SKIPPED_EXPONENT_MAX = 200, /* with so many digits far from infinity */
    SKIPPED_EXPONENT_MIN = -400,
};

/* What became of a part of an event. */
typedef enum {
    READ,
    DOUBTFUL, /* another reader must decide */
    FAILED,   /* a Python exception is set */
} Verdict;

typedef struct {
    const unsigned char *at, *end;
} Cursor;

static inline void
skip_space(Cursor *text)
{
    while (*text->at == ' ' || *text->at == '\n' || *text->at == '\r' || *text->at == '\t') {
        text->at++;
    }
}

/* Whether `byte` comes next; it is passed then. */
static inline int
take(Cursor *text, unsigned char byte)
{
    if (*text->at != byte) {
        return 0;
    }
    text->at++;
    return 1;
}

static inline int
is_digit(unsigned char byte)
{
    return (unsigned char)(byte - '0') < 10;
}

static inline int
is_continuation(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

/* The length of the character at `at`, which is not ASCII; 0 when it is no UTF-8 (Unicode, table 3-7). */
static int
utf8_length(const unsigned char *at)
{
    /* The byte after an event is 0 and no continuation, so each test stops before it would go beyond. */
    if (at[0] >= 0xC2 && at[0] <= 0xDF) {
        return is_continuation(at[1]) ? 2 : 0;
    }
    if ((at[0] & 0xF0) == 0xE0) {
        unsigned char least = at[0] == 0xE0 ? 0xA0 : 0x80; /* below it: overlong */
        unsigned char most = at[0] == 0xED ? 0x9F : 0xBF;  /* above it: half a surrogate pair */
        return at[1] >= least && at[1] <= most && is_continuation(at[2]) ? 3 : 0;
    }
    if (at[0] >= 0xF0 && at[0] <= 0xF4) {
        unsigned char least = at[0] == 0xF0 ? 0x90 : 0x80;
        unsigned char most = at[0] == 0xF4 ? 0x8F : 0xBF; /* above it: beyond U+10FFFF */
        return at[1] >= least && at[1] <= most && is_continuation(at[2]) && is_continuation(at[3]) ? 4 : 0;
    }
    return 0;
}

#if EIGHT_AT_ONCE
/* The high bits of those of eight bytes that are a quotation mark, a backslash, a control character or not ASCII.
 *
 * The lowest bit set is exact: taking 1 from a byte borrows into its high bit only where it was 0, or, after
 * such a byte, where it was 1. Bytes of 128 and more are marked in any case.
 */
static inline uint64_t
special_bytes(const unsigned char *eight)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    uint64_t word;
    memcpy(&word, eight, sizeof word);
    uint64_t quote = (word ^ (ones * '"')) - ones;
    uint64_t backslash = (word ^ (ones * '\\')) - ones;
    return (quote | backslash | (word - ones * 0x20) | word) & highs;
}
#endif

/* Pass what needs no look: most of a string at least. */
static inline void
skip_ordinary(Cursor *text)
{
#if EIGHT_AT_ONCE
    while (text->end - text->at >= 8) {
        uint64_t special = special_bytes(text->at);
        if (special != 0) {
            text->at += __builtin_ctzll(special) / 8;
            return;
        }
        text->at += 8;
    }
#endif
    while (*text->at >= 0x20 && *text->at < 0x80 && *text->at != '"' && *text->at != '\\') {
        text->at++;
    }
}

/* Pass an escape; the backslash is passed already. */
static int
skip_escape(Cursor *text)
{
    unsigned int unit = 0;
    unsigned char letter = *text->at;
    if (letter != 'u') {
        if (letter == 0 || strchr("\"\\/bfnrt", letter) == NULL) {
            return 0;
        }
        text->at++;
        return 1;
    }
    text->at++;
    for (int place = 0; place < 4; place++) {
        unsigned char byte = *text->at;
        unsigned char lower = byte | 0x20;
        if (is_digit(byte)) {
            unit = unit * 16 + (unsigned int)(byte - '0');
        } else if (lower >= 'a' && lower <= 'f') {
            unit = unit * 16 + (unsigned int)(lower - 'a') + 10;
        } else {
            return 0;
        }
        text->at++;
    }
    return unit < 0xD800 || unit > 0xDFFF; /* surrogates, paired or not: others decide */
}

/* Pass a string whose opening quotation mark is passed already. `plain` says whether it had no escape. */
static Verdict
skip_string(Cursor *text, int *plain)
{
    *plain = 1;
    for (;;) {
        skip_ordinary(text);
        unsigned char byte = *text->at;
        if (byte == '"') {
            text->at++;
            return READ;
        }
        if (byte == '\\') {
            text->at++;
            *plain = 0;
            if (!skip_escape(text)) {
                return DOUBTFUL;
            }
        } else if (byte < 0x20) {
            return DOUBTFUL; /* the 0 after the event too */
        } else {
            int length = utf8_length(text->at);
            if (length == 0) {
                return DOUBTFUL;
            }
            text->at += length;
        }
    }
}

/* ---- numbers ---- */

/* A number as it is written: mantissa * 10**exponent, unless it has more digits than that. */
typedef struct {
    const unsigned char *text; /* after the sign */
    uint64_t mantissa;
    int64_t exponent;
    Py_ssize_t digits; /* leading zeros too */
    int is_negative, is_whole;
} Number;

#if EIGHT_AT_ONCE
/* How many of eight bytes, from the first on, are digits; `digits` gets their values, the rest is no matter. */
static inline unsigned int
leading_digits(const unsigned char *eight, uint64_t *digits)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    uint64_t word;
    memcpy(&word, eight, sizeof word);
    word ^= ones * '0'; /* digits become 0 to 9, everything else 10 or more */
    *digits = word;
    /* A carry comes from a byte that is no digit, and goes to those after it alone. */
    uint64_t others = ((word + ones * (0x80 - 10)) | word) & highs;
    return others == 0 ? 8 : (unsigned int)__builtin_ctzll(others) / 8;
}

/* The number that eight digits are, the first of which is in the lowest byte: pairs, then fours, then all. */
static inline uint64_t
eight_digits(uint64_t digits)
{
    digits = (digits * 10 + (digits >> 8)) & 0x00FF00FF00FF00FFu;
    digits = (digits * 100 + (digits >> 16)) & 0x0000FFFF0000FFFFu;
    return (digits * 10000 + (digits >> 32)) & 0xFFFFFFFFu;
}
#endif

/* Pass digits and take them into the mantissa, which wraps when there are too many; how many they were. */
static Py_ALWAYS_INLINE inline Py_ssize_t
take_digits(Cursor *text, uint64_t *mantissa)
{
    const unsigned char *first = text->at;
#if EIGHT_AT_ONCE
    /* Numbers differ in length; without a branch for each digit there is less to mispredict. */
    static const uint64_t powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    while (text->end - text->at >= 8) {
        uint64_t digits;
        unsigned int count = leading_digits(text->at, &digits);
        if (count == 0) {
            return text->at - first;
        }
        digits <<= 64 - 8 * count; /* zeros in front */
        *mantissa = *mantissa * powers[count] + eight_digits(digits);
        text->at += count;
        if (count < 8) {
            return text->at - first;
        }
    }
#endif
    while (is_digit(*text->at)) {
        *mantissa = *mantissa * 10 + (uint64_t)(*text->at - '0');
        text->at++;
    }
    return text->at - first;
}

/* Pass a number by RFC 8259's grammar. What follows it is looked at by whoever comes next. */
static Py_ALWAYS_INLINE inline int
take_number(Cursor *text, Number *number)
{
    number->is_negative = *text->at == '-';
    text->at += number->is_negative;
    number->text = text->at;
    number->mantissa = 0;
    number->exponent = 0;
    number->is_whole = 1;
    while (is_digit(*text->at)) { /* few, as a rule */
        number->mantissa = number->mantissa * 10 + (uint64_t)(*text->at - '0');
        text->at++;
    }
    number->digits = text->at - number->text;
    if (number->digits == 0 || (number->digits > 1 && *number->text == '0')) {
        return 0;
    }
    if (take(text, '.')) {
        Py_ssize_t fraction = take_digits(text, &number->mantissa);
        if (fraction == 0) {
            return 0;
        }
        number->is_whole = 0;
        number->digits += fraction;
        number->exponent = -fraction;
    }
    if (*text->at == 'e' || *text->at == 'E') {
        int64_t exponent = 0;
        number->is_whole = 0;
        text->at++;
        int is_negative = *text->at == '-';
        if (*text->at == '-' || *text->at == '+') {
            text->at++;
        }
        if (!is_digit(*text->at)) {
            return 0;
        }
        while (is_digit(*text->at)) {
            if (exponent < 100000) { /* beyond it nothing changes for a number of DIGITS_MAX digits */
                exponent = exponent * 10 + (*text->at - '0');
            }
            text->at++;
        }
        number->exponent += is_negative ? -exponent : exponent;
    }
    return 1;
}

/* ---- values that nobody asked for ---- */

static Verdict
skip_value(Cursor *text, int depth)
{
    int plain;
    Number number;
    if (depth > DEPTH_MAX) {
        return DOUBTFUL;
    }
    unsigned char opening = *text->at;
    if (opening == '"') {
        text->at++;
        return skip_string(text, &plain);
    }
    if (opening == '{' || opening == '[') {
        unsigned char closing = opening == '{' ? '}' : ']';
        text->at++;
        skip_space(text);
        if (take(text, closing)) {
            return READ;
        }
        for (;;) {
            if (opening == '{') {
                if (!take(text, '"') || skip_string(text, &plain) != READ) {
                    return DOUBTFUL;
                }
                skip_space(text);
                if (!take(text, ':')) {
                    return DOUBTFUL;
                }
                skip_space(text);
            }
            if (skip_value(text, depth + 1) != READ) {
                return DOUBTFUL;
            }
            skip_space(text);
            if (take(text, closing)) {
                return READ;
            }
            if (!take(text, ',')) {
                return DOUBTFUL;
            }
            skip_space(text);
        }
    }
    if (opening == '-' || is_digit(opening)) {
        return take_number(text, &number) && number.digits <= SKIPPED_DIGITS_MAX &&
                       number.exponent <= SKIPPED_EXPONENT_MAX && number.exponent >= SKIPPED_EXPONENT_MIN
                   ? READ
                   : DOUBTFUL;
    }
    for (const char *const *word = (const char *const[]){"true", "false", "null", NULL}; *word; word++) {
        Py_ssize_t length = (Py_ssize_t)strlen(*word);
        if (text->end - text->at >= length && memcmp(text->at, *word, (size_t)length) == 0) {
            text->at += length;
            return READ;
        }
    }
    return DOUBTFUL;
}

#endif
