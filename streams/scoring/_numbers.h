/* Decimal numbers to float64, correctly rounded: the nearest, of two as near the even one, as float() has it. */
#ifndef FARSHORE_NUMBERS_H
#define FARSHORE_NUMBERS_H

#include <float.h>

#include "_json.h"

enum {
    MANTISSA_DIGITS_MAX = 19, /* fits uint64 */
    DIGITS_MAX = 4096,        /* take_number's bound on exponents counts on it */
    POWER_MIN = -325,         /* of ten, in the table of powers */
    POWER_MAX = 308,
    POWER_BYTES = 24,         /* each: high and low half of the mantissa, uint64, and the binary exponent, int64 */
    POWERS_BYTES = (POWER_MAX - POWER_MIN + 1) * POWER_BYTES,
};

#if FLT_EVAL_METHOD == 0
static const double exact_powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                      1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
#endif

/* mantissa * 10**exponent as a float64, when one correctly rounded operation on exact numbers gives it. */
static inline int
by_exact_numbers(const Number *number, double *result)
{
#if FLT_EVAL_METHOD == 0
    if (number->mantissa > (uint64_t)1 << 53 || number->exponent < -22 || number->exponent > 22) {
        return 0;
    }
    double mantissa = (double)number->mantissa;
    *result = number->exponent < 0 ? mantissa / exact_powers[-number->exponent]
                                   : mantissa * exact_powers[number->exponent];
    return 1;
#else
    (void)number, (void)result;
    return 0;
#endif
}

/* mantissa * 10**exponent as a float64, by the table of powers, when its 128 bits decide the rounding.
 *
 * The table has 10**q = (P + d) * 2**e with a whole P in [2**127, 2**128) and 0 <= d < 1. Shifted left to
 * m in [2**63, 2**64), the mantissa gives a product m * (P + d) that is m * P or more by less than 2**64. Of
 * m * P, which is in [2**190, 2**192), the upper 128 bits are kept: the true product, in units of 2**64, is
 * at least these bits and less than these bits + 2. The first 53 of them are the result's, those after it,
 * `rest`, say how to round: down if rest + 2 is no more than half a unit, up if rest is more than half; in
 * between lie the halfway cases and what the table cannot tell from them.
 * After Eisel and Lemire ("Number parsing at a gigabyte per second", 2021), with the plainer bound.
 */
static int
by_table(const Number *number, const char *powers, double *result)
{
#ifdef __SIZEOF_INT128__
    typedef unsigned __int128 uint128;
    if (number->mantissa == 0 || number->exponent < POWER_MIN || number->exponent > POWER_MAX) {
        return 0;
    }
    uint64_t high, low;
    int64_t power_exponent;
    const char *power = powers + (number->exponent - POWER_MIN) * POWER_BYTES;
    memcpy(&high, power, 8);
    memcpy(&low, power + 8, 8);
    memcpy(&power_exponent, power + 16, 8);
    int shift = __builtin_clzll(number->mantissa);
    uint64_t mantissa = number->mantissa << shift;
    uint128 upper = (uint128)mantissa * high + (((uint128)mantissa * low) >> 64);
    int dropped = 128 - 53 - !(upper >> 127); /* bits after the result's 53 */
    uint128 half = (uint128)1 << (dropped - 1);
    uint128 rest = upper & ((half << 1) - 1);
    uint64_t bits = (uint64_t)(upper >> dropped);
    if (rest > half) {
        bits++; /* 2**53 at most, which the addition below carries into the exponent */
    } else if (rest + 2 > half) {
        return 0;
    }
    /* value = bits * 2**(dropped + 64) * 2**power_exponent * 2**-shift, and bits is 1.f * 2**52 */
    int64_t exponent = dropped + 64 + power_exponent - shift + 52 + 1023;
    if (exponent < 1 || exponent > 2045) {
        return 0; /* subnormal, or close to infinity */
    }
    uint64_t pattern = ((uint64_t)exponent << 52) + (bits - ((uint64_t)1 << 52));
    memcpy(result, &pattern, 8);
    return 1;
#else
    (void)powers, (void)number, (void)result;
    return 0;
#endif
}

/* Digits from the first one on that is not 0. */
static Py_ssize_t
significant_digits(const Number *number)
{
    Py_ssize_t digits = number->digits;
    for (const unsigned char *at = number->text; *at == '0' || *at == '.'; at++) {
        digits -= *at == '0';
    }
    return digits;
}

/* Any number that is no negative one and ends at `end`, by Python's own reader. */
static Verdict
by_python(const Number *number, const unsigned char *end, double *result)
{
    /* The text ends at the event's 0 at the latest, and the grammar is known. */
    char *stopped;
    *result = PyOS_string_to_double((const char *)number->text, &stopped, NULL);
    if (*result == -1.0 && PyErr_Occurred()) {
        return FAILED;
    }
    return (const unsigned char *)stopped == end && *result <= DBL_MAX ? READ : DOUBTFUL;
}

/* A number, correctly rounded and finite. */
static Py_ALWAYS_INLINE inline Verdict
read_number(Cursor *text, const char *powers, double *result)
{
    Number number;
    if (!take_number(text, &number) || number.digits > DIGITS_MAX) {
        return DOUBTFUL;
    }
    if (number.is_negative && number.is_whole && *number.text == '0') {
        return DOUBTFUL; /* -0: as a whole number it has no sign, as a float it has */
    }
    int fits = number.digits <= MANTISSA_DIGITS_MAX || significant_digits(&number) <= MANTISSA_DIGITS_MAX;
    if (!fits || !(by_exact_numbers(&number, result) || by_table(&number, powers, result))) {
        Verdict verdict = by_python(&number, text->at, result);
        if (verdict != READ) {
            return verdict;
        }
    }
    *result = number.is_negative ? -*result : *result;
    return READ;
}

#endif
