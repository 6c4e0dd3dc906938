"""Compiled kernels: loops over ads, characters and tokens that numpy has no verbs for.

All of them stand in this one file and take nothing from another: numba keeps what it has
compiled until the function's own file changes, and looks at no other file. A call costs as
much as a tenth of an ad, so :func:`transform_block` makes all features of a block in one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, auto
from math import exp, floor, isfinite, isnan, log1p, nan, sqrt
from typing import Any, NamedTuple, Self, TypeVar, cast

import numpy as np
from numba import njit
from numba.extending import register_jitable
from numpy.typing import NDArray

from demand.schema.arrays import Floats, Hashes

F = TypeVar("F", bound=Callable[..., Any])
H = TypeVar("H", bound=Any)  # hashes or numbers as an array, or one in compiled code


def compiled(function: F) -> F:
    """Compile a function at its first call, and keep the result on disk.

    It lies beside the source, or else in the user's cache (or in ``NUMBA_CACHE_DIR``);
    where neither can be written, every process compiles anew, which takes some seconds.
    The interpreter stays held: an answer takes a few of these calls, and after each of
    them it would have to wait for every other busy thread.
    """
    try:
        return cast(F, njit(function, cache=True))
    except RuntimeError:  # numba found no folder to write to
        return cast(F, njit(function))


def compilable(function: F) -> F:
    """Let compiled code call a function, which stays one of Python for all else.

    It is compiled as a part of each function that calls it, and not by itself: half of the
    time would go into the ways in from Python and out again, and most need none.
    """
    return cast(F, register_jitable(function))


# --- Hashes ---------------------------------------------------------------------------------

# The hash of "no value": the golden ratio's bits, which no text is likely to have.
MISSING = 0x9E3779B9
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_MIXERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)
_NOTHING, _ONE = np.uint64(0), np.uint64(1)


@compilable
def join(first: H, second: H | int) -> H:
    """Combine two hashes into one that depends on their order; it wraps around.

    Cheap, and different wherever they are; but its bits are not evenly mixed.
    """
    joined: H = first * _GOLDEN + second
    return joined


@compilable
def mix(first: H, second: H | int) -> H:
    """Combine two hashes into a 64-bit one of evenly mixed bits that depends on their order.

    The finaliser is splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    z: Any = join(first, second)
    z = (z ^ (z >> _SHIFTS[0])) * _MIXERS[0]
    z = (z ^ (z >> _SHIFTS[1])) * _MIXERS[1]
    mixed: H = z ^ (z >> _SHIFTS[2])
    return mixed


@compilable
def short_key(hashed: H, salt: Any) -> H:
    """Return 32 bits of a hash mixed with a salt: collisions at 1 in 4 billion."""
    key: H = mix(hashed, salt) >> _HALF
    return key


# --- Ads as they come in --------------------------------------------------------------------

# Rows of the hashes of values: texts, and behind them the class of the image.
PARENT, CATEGORY, PARAM_1, PARAM_2, PARAM_3, REGION, CITY, USER_TYPE, IMAGE = range(9)
# Levels of the chain of category and params.
LEVELS = 5
CATEGORY_LEVEL, PARAM_1_LEVEL, PARAM_2_LEVEL = 1, 2, 3
# Rows of the numeric columns.
ROUBLES, LOG_PRICE, SEQUENCE_NUMBER, IMAGE_CLASS, HAS_IMAGE, WEEKDAY, ALL_LETTERS = range(7)
READ_WHOLE = -1.0
IMAGE_CLASS_MAX = 1e9
_DAY = 24 * 60 * 60 * 1_000_000_000  # in nanoseconds
_NOT_A_DATE = np.iinfo(np.int64).min


class EncodedAds(NamedTuple):
    """The arrays of n ads."""

    # Characters of titles, descriptions, param_1, param_2 and param_3, n texts each: shapes
    # (m,) and (5 n + 1,), see demand.features.encoding.code_points.
    code: NDArray[np.uint32]
    first: NDArray[np.int64]
    hashes: Hashes  # of the columns demand.features.encoding.TEXTS, shape (8, n)
    # The price in roubles, and log(1 + roubles); the ad's number among its seller's; the image's
    # class; 1 where there is an image and else 0; the day of the week; letters and digits of a
    # description that is longer than what code has of it, and else -1. All but these are NaN
    # where missing. Shape (7, n).
    numeric: Floats


class CategoryHashes(NamedTuple):
    """Hashes of the category-like values of n ads.

    In the chain parent, category, param_1, param_2, param_3 each is joined with those before
    it: good for joining on; a table is looked up by the mixed chain.
    """

    values: Hashes  # of the texts and of the image's class, shape (9, n)
    chain: Hashes  # shape (5, n)
    mixed_chain: Hashes  # shape (5, n)


@compiled
def category_hashes(hashes: Hashes, image_class: Floats) -> CategoryHashes:
    """Join each level of the chain with those before it, and mix what is joined with its level.

    Takes hashes of texts, shape (8, n), and classes of images, shape (n,), NaN where missing.
    """
    texts, rows = hashes.shape
    values = np.empty((texts + 1, rows), np.uint64)
    values[:texts] = hashes
    chain, mixed = np.empty((LEVELS, rows), np.uint64), np.empty((LEVELS, rows), np.uint64)
    for row in range(rows):
        image = image_class[row]
        # What a cast to integers makes of other numbers depends on the machine.
        known = 0.0 <= image <= IMAGE_CLASS_MAX
        values[IMAGE, row] = np.uint64(image + 1.0) if known else np.uint64(0)
        for level in range(LEVELS):
            joined = values[level, row]
            if level > 0:
                joined = join(chain[level - 1, row], joined)
            chain[level, row], mixed[level, row] = joined, mix(joined, np.uint64(level))
    return CategoryHashes(values, chain, mixed)


@compiled
def weekdays_of(nanoseconds: NDArray[np.int64]) -> Floats:
    """Return the day of the week of times since 1970, shape (n,): Monday is 0; NaN for NaT."""
    days = np.empty(len(nanoseconds))
    for row in range(len(nanoseconds)):
        moment = nanoseconds[row]
        # The first of January 1970 was a Thursday.
        days[row] = nan if moment == _NOT_A_DATE else (moment // _DAY + 3) % 7
    return days


# --- Smoothed means and the price level -----------------------------------------------------

LEVEL_ABOVE = np.arange(-1, LEVELS - 1)  # each level of the chain falls back to the one before


@compilable
def place_of(known: NDArray[np.uint32], key: np.uint64) -> int:
    """Return where a key stands among sorted ones, or -1 where it is not among them."""
    low, high = 0, len(known)
    while low < high:
        middle = (low + high) // 2
        if known[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < len(known) and known[low] == key else -1


@compiled
def smoothed_means(
    keys: NDArray[np.uint32],
    means: NDArray[np.float32],
    groups: Hashes,
    above: NDArray[np.int64],
    overall: float,
) -> Floats:
    """Return the mean of each group, or what stands in for it where it is unknown: (s, n).

    ``keys`` and ``means`` are as :func:`demand.features.encoders.fit_means` has them, ``groups``
    those of n rows, shape (s, n). For each of the s kinds of groups, ``above`` has the number of
    the kind before it that stands in, or -1 for ``overall``.
    """
    found = np.empty(groups.shape, np.float64)
    for kind in range(groups.shape[0]):
        for row in range(groups.shape[1]):
            place = place_of(keys, groups[kind, row] >> _HALF)
            if place >= 0:
                found[kind, row] = means[place]
            elif above[kind] < 0:
                found[kind, row] = overall
            else:
                found[kind, row] = found[above[kind], row]
    return found


@compilable
def log_prices(numeric: Floats) -> Floats:
    """Return log(1 + roubles) of n ads, NaN where the price is missing, shape (n,)."""
    return np.where(np.isfinite(numeric[ROUBLES]), numeric[LOG_PRICE], nan)


# --- Words and n-grams ----------------------------------------------------------------------
# A stem is a word's first letters, which joins most Russian inflections. Punctuation, emoji
# and white space only separate words, so they cannot change a prediction. A hash of letters
# is a polynomial in an odd number that wraps around: its upper bits are the mixed ones.

BEYOND = 0x10000  # stands for all code points beyond the basic plane
_SPACE = np.uint64(32)
RARITY_BUCKETS = 1 << 15
RARITY_SHIFT = np.uint64(64 - 15)
# Steps of the rarity that is kept in 8 bits: from 1 (in every ad) to 1 + log of the ads.
RARITY_STEP = 1.0 / 16.0


class Occurrences(NamedTuple):
    """Things that occur in texts, such as words: row and hash of each, sorted by row, (m,)."""

    row: NDArray[np.int64]
    hashed: Hashes


class Words(NamedTuple):
    """Where the w words of n texts stand."""

    start: NDArray[np.int64]  # first character of each word, shape (w,)
    length: NDArray[np.int64]  # its letters, shape (w,)
    stems: Occurrences
    letters: NDArray[np.int64]  # letters and digits of each text, shape (n,)


class Texts(NamedTuple):
    """What the texts of n ads consist of."""

    # Distinct words of the columns title, description (its beginning), param_1, param_2 and
    # param_3: one after the other, n rows each.
    words: Occurrences
    title_grams: Occurrences  # distinct n-grams of letters
    description_grams: Occurrences
    title_letters: Floats  # letters and digits, shape (n,)
    description_letters: Floats  # of the whole descriptions


@compiled
def count_letters(code: NDArray[np.uint32], is_letter: NDArray[np.bool_]) -> int:
    """Return how many characters are letters or digits."""
    letters = 0
    for point in code:
        letters += is_letter[min(point, BEYOND)]
    return letters


@compiled
def find_words(
    code: NDArray[np.uint32], first: NDArray[np.int64], is_letter: NDArray[np.bool_], stem: int
) -> Words:
    """Find the words of n texts, of which the first ``stem`` letters count.

    ``code`` and ``first`` come from :func:`demand.features.encoding.code_points`, ``is_letter``
    from :func:`demand.features.encoding.letters_table`.
    """
    texts = len(first) - 1
    most = (len(code) + texts) // 2 + 1  # between two words stands what separates them
    row, start = np.empty(most, np.int64), np.empty(most, np.int64)
    length, hashed = np.empty(most, np.int64), np.empty(most, np.uint64)
    letters = np.zeros(texts, np.int64)
    found = 0
    for text in range(texts):
        place, end = first[text], first[text + 1]
        while place < end:
            if not is_letter[min(code[place], BEYOND)]:
                place += 1
                continue
            begin, joined = place, _NOTHING
            while place < end and is_letter[min(code[place], BEYOND)]:
                if place - begin < stem:
                    joined = (joined + np.uint64(code[place])) * _GOLDEN
                place += 1
            row[found], start[found] = text, begin
            length[found], hashed[found] = place - begin, joined
            letters[text] += place - begin
            found += 1
    stems = Occurrences(row[:found], hashed[:found])
    return Words(start[:found], length[:found], stems, letters)


@compiled
def find_grams(
    code: NDArray[np.uint32], words: Words, shortest: int, longest: int, first: int, last: int
) -> Occurrences:
    """Return the n-grams of letters of the texts from ``first`` to before ``last``.

    As scikit-learn's ``char_wb``: a space before and after a word is part of it, and
    no n-gram reaches into the next word. ``shortest`` is at least 2. Rows are counted
    from ``first`` on.
    """
    row, start, length = words.stems.row, words.start, words.length
    begin_word, end_word = np.searchsorted(row, first), np.searchsorted(row, last)
    most = 0
    for word in range(begin_word, end_word):
        most += (length[word] + 2) * (longest - shortest + 1)
    rows, hashed = np.empty(most, np.int64), np.empty(most, np.uint64)
    found = 0
    for word in range(begin_word, end_word):
        behind = length[word]
        for begin in range(-1, behind):
            joined = _NOTHING
            for place in range(begin, min(begin + longest, behind + 1)):
                if place < 0 or place == behind:
                    letter = _SPACE
                else:
                    letter = np.uint64(code[start[word] + place])
                joined = (joined + letter) * _GOLDEN
                if place - begin + 1 >= shortest:
                    rows[found], hashed[found] = row[word] - first, joined
                    found += 1
    return Occurrences(rows[:found], hashed[:found])


@compiled
def distinct(found: Occurrences) -> Occurrences:
    """Keep the first of those that occur in a text more than once."""
    row, hashed = found.row, found.hashed
    n = len(row)
    longest = run = 0
    for place in range(n):
        run = run + 1 if place > 0 and row[place] == row[place - 1] else 1
        longest = max(longest, run)
    bits = 1
    while (1 << bits) < 2 * longest:
        bits += 1
    # An open hash table a text; the stamp tells whose a slot is, so none is ever emptied.
    slots, stamps = np.empty(1 << bits, np.uint64), np.full(1 << bits, -1, np.int64)
    rows, kept = np.empty(n, np.int64), np.empty(n, np.uint64)
    end = 0
    for place in range(n):
        slot = np.int64(hashed[place] >> np.uint64(64 - bits))
        while stamps[slot] == row[place] and slots[slot] != hashed[place]:
            slot = (slot + 1) & ((1 << bits) - 1)
        if stamps[slot] != row[place]:
            stamps[slot], slots[slot] = row[place], hashed[place]
            rows[end], kept[end] = row[place], hashed[place]
            end += 1
    return Occurrences(rows[:end], kept[:end])


@compiled
def read_texts(ads: EncodedAds, is_letter: NDArray[np.bool_], stem: int, with_grams: bool) -> Texts:
    """Read the texts of n ads once, for all that is made of them; as :func:`find_words`.

    Without n-grams there are none of any text.
    """
    n = ads.numeric.shape[1]
    found = find_words(ads.code, ads.first, is_letter, stem)
    letters, whole = found.letters.astype(np.float64), ads.numeric[ALL_LETTERS]
    upto = n if with_grams else 0
    return Texts(
        distinct(found.stems),
        distinct(find_grams(ads.code, found, 2, 5, 0, upto)),
        distinct(find_grams(ads.code, found, 3, 4, n, n + upto)),
        letters[:n],
        np.where(whole == READ_WHOLE, letters[n : 2 * n], whole),
    )


@compilable
def count_grams(texts: Texts) -> NDArray[np.int64]:
    """Count n-grams by bucket, each once a text; shape (``RARITY_BUCKETS``,)."""
    counts = np.zeros(RARITY_BUCKETS, np.int64)
    for grams in (texts.title_grams, texts.description_grams):
        for hashed in grams.hashed:
            counts[hashed >> RARITY_SHIFT] += 1
    return counts


# --- Dense features -------------------------------------------------------------------------


class ReadAds(NamedTuple):
    """All that is read off n ads before they become features."""

    numeric: Floats  # as in :class:`EncodedAds`
    categories: CategoryHashes
    texts: Texts
    log_price: Floats  # log(1 + roubles), NaN where the price is missing, shape (n,)
    levels: Floats  # what is usual at each level of the chain, shape (5, n)


CLIP = 5.0  # standard deviations, so that an absurd value cannot dominate
DENSE_NUMBERS = 6
BINARY_FEATURES = 8  # beside those of the types of sellers, with sine and cosine of the day
_ANGLES = np.arange(7) * (2 * np.pi / 7)
_DAYS = np.array([np.sin(_ANGLES), np.cos(_ANGLES)])


@compilable
def _log_of_sequence(number: float) -> float:
    """Return log(1 + an ad's number among its seller's); a missing one is the first."""
    return log1p(max(1.0 if isnan(number) else number, 0.0))


@compilable
def _dense_numbers(read: ReadAds) -> Floats:
    """Return price, price over its level twice, lengths and sequence number, shape (6, n)."""
    texts, sequence, usual = read.texts, read.numeric[SEQUENCE_NUMBER], read.levels[LEVELS - 1]
    numbers = np.empty((DENSE_NUMBERS, len(sequence)))
    for ad in range(len(sequence)):
        price = read.log_price[ad]
        missing = isnan(price)
        numbers[0, ad] = usual[ad] if missing else price
        numbers[1, ad] = 0.0 if missing else price - usual[ad]
        numbers[2, ad] = 0.0 if missing else price - read.levels[CATEGORY_LEVEL, ad]
        numbers[3, ad] = log1p(texts.description_letters[ad])
        numbers[4, ad] = log1p(texts.title_letters[ad])
        numbers[5, ad] = _log_of_sequence(sequence[ad])
    return numbers


@compiled
def write_numbers(
    dense: NDArray[np.float32],
    numbers: Floats,
    low: Floats,
    width: Floats,
    which: NDArray[np.int64],
    center: Floats,
    scale: Floats,
) -> None:
    """Write numbers, shape (6, n), by how far they have come through each bin, and scaled.

    Into the first bins + 6 columns: shares of bins that are passed, in [0, 1], and standard
    deviations. Takes the state of :class:`demand.features.encoders.NumberEncoder`.
    """
    bins = len(low)
    for ad in range(len(dense)):
        for place in range(bins):
            come = numbers[which[place], ad] - low[place]
            dense[ad, place] = min(max(come / width[place], 0.0), 1.0)
    write_scaled(dense[:, bins:], numbers, center, scale)


@compiled
def write_scaled(dense: NDArray[np.float32], values: Floats, center: Floats, scale: Floats) -> None:
    """Write values, shape (s, n), as bounded standard deviations from the mean: (n, s)."""
    for ad in range(len(dense)):
        for row in range(len(center)):
            scaled = (values[row, ad] - center[row]) / scale[row]
            dense[ad, row] = min(max(scaled, -CLIP), CLIP)


@compilable
def _write_binary_features(dense: NDArray[np.float32], read: ReadAds, user_types: Hashes) -> None:
    """Write what is missing, an image, the day of the week and the type of seller.

    All but sine and cosine of the day are 0 or 1; into shape (n, 8 + types).
    """
    numeric, values, texts = read.numeric, read.categories.values, read.texts
    for ad in range(len(dense)):
        dense[ad, 0] = np.isnan(read.log_price[ad])
        dense[ad, 1] = numeric[HAS_IMAGE, ad] > 0 or np.isfinite(numeric[IMAGE_CLASS, ad])
        dense[ad, 2] = texts.description_letters[ad] == 0
        for param in range(PARAM_1, PARAM_3 + 1):
            dense[ad, 3 + param - PARAM_1] = values[param, ad] == np.uint64(MISSING)
        day = numeric[WEEKDAY, ad]
        for side in range(2):
            dense[ad, 6 + side] = 0.0 if np.isnan(day) else _DAYS[side, int(day)]
        for kind in range(len(user_types)):
            dense[ad, BINARY_FEATURES + kind] = values[USER_TYPE, ad] == user_types[kind]


# --- Target encoding ------------------------------------------------------------------------

# Each kind of group whose mean target is a feature: the chain first. And the kind that stands
# in for it where a group is unknown.
FALLBACK = {
    "parent": None,
    "category": "parent",
    "param_1": "category",
    "param_2": "param_1",
    "param_3": "param_2",
    "category_image": "param_1",
    "category_user_type": "param_1",
    "category_price": "param_1",
    "param_1_price": "param_1",
    "category_region": "param_1",
    "image": None,
    "region": None,
    "city": "region",
}
TARGET_GROUPS = tuple(FALLBACK)
_TARGET_GROUPS = len(TARGET_GROUPS)
_BESIDE = len(TARGET_GROUPS) - LEVELS
_PRICE_MISSING = np.uint64(1 << 32)  # more than any number of bins
TARGET_ABOVE = np.array([TARGET_GROUPS.index(f) if f else -1 for f in FALLBACK.values()])


@compilable
def _target_groups(categories: CategoryHashes, log_price: Floats, price_bins: Floats) -> Hashes:
    """Return the group of each ad for each of ``TARGET_GROUPS``, shape (s, n)."""
    levels, rows = categories.chain.shape
    groups = np.empty((levels + _BESIDE, rows), np.uint64)
    for row in range(rows):
        category = categories.chain[CATEGORY_LEVEL, row]
        param_1 = categories.chain[PARAM_1_LEVEL, row]
        image, region = categories.values[IMAGE, row], categories.values[REGION, row]
        price_bin = _PRICE_MISSING
        if not np.isnan(log_price[row]):
            price_bin = np.uint64(np.searchsorted(price_bins, log_price[row]))
        beside = (
            join(category, image),
            join(category, categories.values[USER_TYPE, row]),
            join(category, price_bin),
            join(param_1, price_bin),
            join(category, region),
            image,
            region,
            join(region, categories.values[CITY, row]),
        )
        for level in range(levels):
            groups[level, row] = categories.mixed_chain[level, row]
        for number in range(_BESIDE):
            # The levels of the chain have the salts before.
            salt = np.uint64(levels + number)
            groups[levels + number, row] = mix(beside[number], salt)
    return groups


# --- Numbers in bins ------------------------------------------------------------------------

# Behind all bins of all scales; what is missing weighs as much as what is known.
MISSING_BIN = 1_000


class Scale(NamedTuple):
    """Evenly spaced bins; what lies outside belongs to the outermost."""

    first: float  # where the first bin is centred
    step: float  # distance of two centres, in the unit of the number
    bins: int  # at least 2


class Bins(NamedTuple):
    """The two bins of a number, and their weights, whose squares sum up to 1."""

    lower: int
    upper: int
    lower_weight: float
    upper_weight: float


# Logarithm of roubles, twice; of the price over its level; of the characters of the
# description; letters of the title; logarithm of the ad's number.
_PRICE, _FINE_PRICE = Scale(0.0, 1.0, 26), Scale(0.0, 0.5, 51)
_OVER_LEVEL = Scale(-4.0, 0.7, 12)
_DESCRIPTION, _TITLE = Scale(0.0, 1.0, 11), Scale(0.0, 8.0, 8)
_SEQUENCE = Scale(0.0, 1.0, 12)


@compilable
def place_number(value: float, scale: Scale) -> Bins:
    """Place a number between the centres of two bins; NaN has one of its own.

    The weights fall linearly with the distance to the centre, and are scaled to a sum of
    squares of 1: an additive model then gives a price and its neighbours similar answers
    (a first-order B-spline; Eilers and Marx, *Statistical Science* 1996).
    """
    if isnan(value):
        return Bins(MISSING_BIN, MISSING_BIN, 1.0, 0.0)
    place = min(max((value - scale.first) / scale.step, 0.0), scale.bins - 1.0)
    lower = min(floor(place), scale.bins - 2)
    share = place - lower
    length = sqrt(share**2 + (1.0 - share) ** 2)
    return Bins(lower, lower + 1, (1.0 - share) / length, share / length)


@compilable
def roundness(price: float) -> np.uint64:
    """Say by which power of ten, up to a thousand, a price can be divided."""
    if not isfinite(price) or price < 0:
        return np.uint64(0)
    if price == 0:
        return np.uint64(1)
    kind = 2
    for power in (1000.0, 100.0, 10.0):
        if price % power == 0:
            break
        kind += 1
    return np.uint64(kind)


# --- Tokens ---------------------------------------------------------------------------------

_TOKENS_AN_AD, _CROSSES_AN_AD = 24, 4  # beside those of words and n-grams
_SIGN = np.uint64(40)


class TokenGroup(IntEnum):
    """Groups of tokens, each with the variance of the logit that it explains, before the data.

    The variances were found by maximising the marginal likelihood of a Gaussian process with
    these kernels on samples of real ads (Rasmussen and Williams, 2006, ch. 5; the likelihood
    linearised as by Breslow and Clayton, 1993). A name is the salt of its group's hashes:
    renaming one invalidates saved models.
    """

    prior: float

    def __new__(cls, prior: float) -> Self:
        """Make a group, numbered in the order of the names."""
        group = int.__new__(cls, len(cls.__members__))
        group._value_ = len(cls.__members__)
        group.prior = prior
        return group

    PARENT_CATEGORY = 0.256
    CATEGORY = 0.155
    PARAM_CHAIN = 0.003
    USER_TYPE = 0.226
    USER_TYPE_IMAGE = 0.017
    IMAGE_CLASS = 0.015
    CITY = 0.006
    PRICE_ROUNDNESS = 0.008
    TITLE_GRAMS = 0.115
    TITLE_WORDS = 0.01
    TITLE_WORDS_USER_TYPE = 0.105
    DESCRIPTION_GRAMS = 0.07
    DESCRIPTION_WORDS = 0.003
    DESCRIPTION_WORDS_USER_TYPE = 0.015
    PARAM_1_WORDS = 0.11
    PARAM_2_WORDS = 0.083
    PARAM_3_WORDS = 0.11
    PARAM_WORDS_PRICE = 0.039
    PRICE_OVER_LEVEL = 0.054
    CATEGORY_PRICE = 0.028
    CATEGORY_USER_TYPE_PRICE = 0.017
    IMAGE_PRICE = 0.01
    PARENT_TITLE_LENGTH = 0.042
    PARENT_DESCRIPTION_LENGTH = 0.034
    USER_TYPE_DESCRIPTION_LENGTH = 0.008
    PARENT_SEQUENCE = 0.004


class CrossGroup(IntEnum):
    """Groups of tokens that say what goes with what, numbered behind those of one thing.

    Most are seen a few times only, so that it takes tens of thousands of ads to learn from
    them. "Params" stands for the whole chain of category and params.
    """

    TITLE_PAIRS = len(TokenGroup)
    TITLE_PAIRS_PARAMS = auto()
    TITLE_WORDS_CATEGORY = auto()
    TITLE_WORDS_PARAMS = auto()
    TITLE_WORDS_PARAMS_PRICE = auto()
    TITLE_WORDS_PARAMS_USER_TYPE = auto()
    DESCRIPTION_WORDS_CATEGORY = auto()
    DESCRIPTION_WORDS_PARAMS = auto()
    PARAMS_PRICE = auto()
    PARAMS_USER_TYPE = auto()
    PARAMS_CITY = auto()
    PARAMS_IMAGE = auto()


class TokenHashing(NamedTuple):
    """How tokens are hashed into signed buckets."""

    salt: Hashes  # of each group, shape (groups,)
    scale: Floats  # 0 where a group's tokens are left out
    buckets: np.uint64
    # One less, where that keeps the bits of the remainder, and else 0: a division takes
    # longer than all else that is done for a token.
    mask: np.uint64


class Tokens(NamedTuple):
    """Where tokens are written: ad, bucket and weight of each, shape (m,); and how.

    The functions below write from ``end`` on and return where they ended.
    """

    row: NDArray[np.int32]
    bucket: NDArray[np.int32]
    weight: NDArray[np.float32]
    hashing: TokenHashing


@compilable
def _add(tokens: Tokens, end: int, ad: int, group: int, hashed: np.uint64, weight: float) -> int:
    hashing = tokens.hashing
    if hashing.scale[group] == 0.0:
        return end
    mixed = mix(hashed, hashing.salt[group])
    sign = -1.0 if (mixed >> _SIGN) & _ONE == _NOTHING else 1.0
    tokens.row[end] = ad
    bucket = mixed & hashing.mask if hashing.mask else mixed % hashing.buckets
    tokens.bucket[end] = bucket
    tokens.weight[end] = weight * hashing.scale[group] * sign
    return end + 1


@compilable
def _cross(
    tokens: Tokens, end: int, ad: int, group: int, hashed: np.uint64, bins: Bins, weight: float
) -> int:
    """Add the two bins of a number, crossed with a value."""
    lower, upper = join(hashed, np.uint64(bins.lower)), join(hashed, np.uint64(bins.upper))
    end = _add(tokens, end, ad, group, lower, weight * bins.lower_weight)
    return _add(tokens, end, ad, group, upper, weight * bins.upper_weight)


@compilable
def _no_image(image: np.uint64) -> np.uint64:
    return _ONE if image == _NOTHING else _NOTHING


@compilable
def _add_values(tokens: Tokens, end: int, read: ReadAds) -> int:
    """Add what is one token an ad."""
    chain, values, group = read.categories.chain, read.categories.values, TokenGroup
    roubles = read.numeric[ROUBLES]
    for ad in range(len(roubles)):
        user_type, image = values[USER_TYPE, ad], values[IMAGE, ad]
        city = join(values[REGION, ad], values[CITY, ad])
        with_image = join(user_type, _no_image(image))
        rounded = roundness(roubles[ad])
        end = _add(tokens, end, ad, group.PARENT_CATEGORY, chain[0, ad], 1.0)
        end = _add(tokens, end, ad, group.CATEGORY, chain[CATEGORY_LEVEL, ad], 1.0)
        end = _add(tokens, end, ad, group.PARAM_CHAIN, chain[PARAM_2_LEVEL, ad], 1.0)
        end = _add(tokens, end, ad, group.USER_TYPE, user_type, 1.0)
        end = _add(tokens, end, ad, group.USER_TYPE_IMAGE, with_image, 1.0)
        end = _add(tokens, end, ad, group.IMAGE_CLASS, image, 1.0)
        end = _add(tokens, end, ad, group.CITY, city, 1.0)
        end = _add(tokens, end, ad, group.PRICE_ROUNDNESS, rounded, 1.0)
    return end


@compilable
def _add_numbers(tokens: Tokens, end: int, read: ReadAds) -> int:
    """Add the two bins of each number, crossed with values."""
    chain, values, group = read.categories.chain, read.categories.values, TokenGroup
    texts, log_price, sequence = read.texts, read.log_price, read.numeric[SEQUENCE_NUMBER]
    for ad in range(len(sequence)):
        parent, category = chain[0, ad], chain[CATEGORY_LEVEL, ad]
        user_type = values[USER_TYPE, ad]
        of_both, no_image = join(category, user_type), _no_image(values[IMAGE, ad])
        price = place_number(log_price[ad], _PRICE)
        fine_price = place_number(log_price[ad], _FINE_PRICE)
        over_level = place_number(log_price[ad] - read.levels[LEVELS - 1, ad], _OVER_LEVEL)
        text = place_number(np.log1p(texts.description_letters[ad]), _DESCRIPTION)
        title = place_number(texts.title_letters[ad], _TITLE)
        number = place_number(_log_of_sequence(sequence[ad]), _SEQUENCE)
        end = _cross(tokens, end, ad, group.PRICE_OVER_LEVEL, _NOTHING, over_level, 1.0)
        end = _cross(tokens, end, ad, group.CATEGORY_PRICE, category, fine_price, 1.0)
        end = _cross(tokens, end, ad, group.CATEGORY_USER_TYPE_PRICE, of_both, price, 1.0)
        end = _cross(tokens, end, ad, group.IMAGE_PRICE, no_image, price, 1.0)
        end = _cross(tokens, end, ad, group.PARENT_DESCRIPTION_LENGTH, parent, text, 1.0)
        length = group.USER_TYPE_DESCRIPTION_LENGTH + 0
        end = _cross(tokens, end, ad, length, user_type, text, 1.0)
        end = _cross(tokens, end, ad, group.PARENT_TITLE_LENGTH, parent, title, 1.0)
        end = _cross(tokens, end, ad, group.PARENT_SEQUENCE, parent, number, 1.0)
    return end


@compilable
def _add_words(
    tokens: Tokens, end: int, words: Occurrences, user_type: Hashes, log_price: Floats
) -> int:
    """Add words: alone, of texts with the type of seller, of params with the price.

    Those of a column give an ad unit length, and so do those of all params together.
    """
    row, hashed = words
    n = len(log_price)
    counts, in_params = np.zeros(5 * n, np.int64), np.zeros(n, np.int64)
    for word in range(len(row)):
        counts[row[word]] += 1
        if row[word] >= 2 * n:
            in_params[row[word] % n] += 1
    for word in range(len(row)):
        column, ad = row[word] // n, row[word] % n
        weight = 1.0 / sqrt(counts[row[word]])
        if column >= 2:
            group, crossed = TokenGroup.PARAM_1_WORDS + column - 2, TokenGroup.PARAM_WORDS_PRICE + 0
            price = place_number(log_price[ad], _PRICE)
            together = 1.0 / sqrt(in_params[ad])
            end = _add(tokens, end, ad, group, hashed[word], weight)
            end = _cross(tokens, end, ad, crossed, hashed[word], price, together)
        else:
            group, crossed = TokenGroup.TITLE_WORDS + 0, TokenGroup.TITLE_WORDS_USER_TYPE + 0
            if column == 1:
                group = TokenGroup.DESCRIPTION_WORDS + 0
                crossed = TokenGroup.DESCRIPTION_WORDS_USER_TYPE + 0
            of_seller = join(hashed[word], user_type[ad])
            end = _add(tokens, end, ad, group, hashed[word], weight)
            end = _add(tokens, end, ad, crossed, of_seller, weight)
    return end


@compilable
def _add_grams(
    tokens: Tokens, end: int, group: int, grams: Occurrences, rarity: NDArray[np.uint8]
) -> int:
    """Add the n-grams of one column; the rarer one is, the more it weighs within its text."""
    row, hashed = grams
    first = 0
    while first < len(row):
        last, squares = first, 0.0
        while last < len(row) and row[last] == row[first]:
            squares += (rarity[hashed[last] >> RARITY_SHIFT] * RARITY_STEP) ** 2
            last += 1
        for gram in range(first, last):
            weight = rarity[hashed[gram] >> RARITY_SHIFT] * RARITY_STEP / sqrt(squares)
            end = _add(tokens, end, row[gram], group, hashed[gram], weight)
        first = last
    return end


# Words of a title that are taken in pairs; and steps of the price over its category's level.
_PAIRED_MAX = 8
_STEP, _STEPS = 0.8, 5


@compilable
def _price_step(over_level: float) -> np.uint64:
    if isnan(over_level):
        return np.uint64(MISSING_BIN)
    return np.uint64(_STEPS + round(min(max(over_level / _STEP, -_STEPS), _STEPS)))


@compilable
def _add_crosses(tokens: Tokens, end: int, read: ReadAds) -> int:
    """Add pairs of words, and words and params with what they stand beside."""
    chain, values, group = read.categories.chain, read.categories.values, CrossGroup
    hashed, n = read.texts.words.hashed, len(read.log_price)
    # Where the words of each title begin, and behind them those of each description.
    first = np.searchsorted(read.texts.words.row, np.arange(2 * n + 1))
    for ad in range(n):
        params, category = chain[LEVELS - 1, ad], chain[CATEGORY_LEVEL, ad]
        user_type, image = values[USER_TYPE, ad], values[IMAGE, ad]
        city = join(values[REGION, ad], values[CITY, ad])
        over_level = read.log_price[ad] - read.levels[CATEGORY_LEVEL, ad]
        of_price = join(params, _price_step(over_level))
        of_seller = join(params, user_type)
        end = _add(tokens, end, ad, group.PARAMS_PRICE, of_price, 1.0)
        end = _add(tokens, end, ad, group.PARAMS_USER_TYPE, of_seller, 1.0)
        end = _add(tokens, end, ad, group.PARAMS_CITY, join(params, city), 1.0)
        end = _add(tokens, end, ad, group.PARAMS_IMAGE, join(params, image), 1.0)
        title = hashed[first[ad] : first[ad + 1]]
        for word in title:
            weight = 1.0 / sqrt(len(title))
            priced, sold = group.TITLE_WORDS_PARAMS_PRICE, group.TITLE_WORDS_PARAMS_USER_TYPE
            end = _add(tokens, end, ad, group.TITLE_WORDS_CATEGORY, join(word, category), weight)
            end = _add(tokens, end, ad, group.TITLE_WORDS_PARAMS, join(word, params), weight)
            end = _add(tokens, end, ad, priced, join(word, of_price), weight)
            end = _add(tokens, end, ad, sold, join(word, of_seller), weight)
        paired = min(len(title), _PAIRED_MAX)
        for one in range(paired):
            for other in range(one + 1, paired):
                weight = sqrt(2.0 / (paired * (paired - 1)))
                low, high = min(title[one], title[other]), max(title[one], title[other])
                pair = mix(low, high)
                end = _add(tokens, end, ad, group.TITLE_PAIRS, pair, weight)
                end = _add(tokens, end, ad, group.TITLE_PAIRS_PARAMS, join(pair, params), weight)
        description = hashed[first[n + ad] : first[n + ad + 1]]
        for word in description:
            weight, of_params = 1.0 / sqrt(len(description)), join(word, params)
            of_category = join(word, category)
            end = _add(tokens, end, ad, group.DESCRIPTION_WORDS_CATEGORY, of_category, weight)
            end = _add(tokens, end, ad, group.DESCRIPTION_WORDS_PARAMS, of_params, weight)
    return end


@compilable
def _hash_tokens(read: ReadAds, state: FittedState) -> Tokens:
    """Hash all tokens of n ads."""
    texts, log_price = read.texts, read.log_price
    hashing = TokenHashing(state.group_salt, state.group_scale, state.buckets, state.mask)
    # A word is at most a token alone and two with the price.
    most = _TOKENS_AN_AD * len(log_price) + 3 * len(texts.words.row)
    most += len(texts.title_grams.row) + len(texts.description_grams.row)
    if state.crosses:
        # Of a title's word four, and two with each of those before it.
        most += _CROSSES_AN_AD * len(log_price)
        most += (4 + 2 * (_PAIRED_MAX - 1)) * len(texts.words.row)
    row, bucket = np.empty(most, np.int32), np.empty(most, np.int32)
    tokens = Tokens(row, bucket, np.empty(most, np.float32), hashing)
    end = _add_values(tokens, 0, read)
    end = _add_numbers(tokens, end, read)
    end = _add_words(tokens, end, texts.words, read.categories.values[USER_TYPE], log_price)
    of_title, of_description = TokenGroup.TITLE_GRAMS + 0, TokenGroup.DESCRIPTION_GRAMS + 0
    end = _add_grams(tokens, end, of_title, texts.title_grams, state.rarity)
    end = _add_grams(tokens, end, of_description, texts.description_grams, state.rarity)
    if state.crosses:
        end = _add_crosses(tokens, end, read)
    return Tokens(row[:end], bucket[:end], tokens.weight[:end], hashing)


# --- All features of a block ----------------------------------------------------------------


class FittedState(NamedTuple):
    """The state of all encoders, see :mod:`demand.features.encoders`, and how tokens are hashed.

    Flat, as all that goes into :func:`transform_block`: numba takes plain tuples in a third of
    the time.
    """

    is_letter: NDArray[np.bool_]
    word_letters: int
    price_keys: NDArray[np.uint32]
    price_means: NDArray[np.float32]
    price_overall: float
    price_bins: Floats
    rarity: NDArray[np.uint8]
    low: Floats
    width: Floats
    which: NDArray[np.int64]
    center: Floats
    scale: Floats
    target_keys: NDArray[np.uint32]
    target_means: NDArray[np.float32]
    target_overall: float
    target_center: Floats
    target_scale: Floats
    user_types: Hashes
    group_salt: Hashes  # as in :class:`TokenHashing`
    group_scale: Floats
    buckets: np.uint64
    mask: np.uint64
    crosses: bool  # with tokens of :class:`CrossGroup`, and without n-grams


@compilable
def dense_width(bins: int, user_types: int) -> int:
    """Return the number of dense features, d, for all bins of numbers and types of sellers."""
    return bins + DENSE_NUMBERS + BINARY_FEATURES + user_types + _TARGET_GROUPS


@compiled
def measure(
    read: ReadAds, price_bins: Floats, user_types: Hashes
) -> tuple[Floats, NDArray[np.float32], Hashes, NDArray[np.int64]]:
    """Return what encoders are fitted on, of n ads.

    Their numbers, shape (6, n); the binary features, shape (n, 8 + types); the group of each of
    ``TARGET_GROUPS``, shape (s, n); and their n-grams by bucket of rarity.
    """
    binary = np.empty((len(read.log_price), BINARY_FEATURES + len(user_types)), np.float32)
    _write_binary_features(binary, read, user_types)
    groups = _target_groups(read.categories, read.log_price, price_bins)
    return _dense_numbers(read), binary, groups, count_grams(read.texts)


@compiled
def transform_block(
    encoded: tuple[Any, ...], fitted: tuple[Any, ...]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Return all features of n ads.

    Takes :class:`EncodedAds` and :class:`FittedState` as plain tuples. Returns row, bucket and
    weight, see :class:`demand.features.builder.SparseAds`; and the dense features, shape (n, d),
    of which the last columns are the target encoding.
    """
    ads, state = EncodedAds(*encoded), FittedState(*fitted)
    categories = category_hashes(ads.hashes, ads.numeric[IMAGE_CLASS])
    texts = read_texts(ads, state.is_letter, state.word_letters, not state.crosses)
    levels = smoothed_means(
        state.price_keys,
        state.price_means,
        categories.mixed_chain,
        LEVEL_ABOVE,
        state.price_overall,
    )
    read = ReadAds(ads.numeric, categories, texts, log_prices(ads.numeric), levels)
    bins = len(state.low)
    width = dense_width(bins, len(state.user_types))
    dense = np.empty((read.numeric.shape[1], width), np.float32)
    numbers = _dense_numbers(read)
    write_numbers(dense, numbers, state.low, state.width, state.which, state.center, state.scale)
    _write_binary_features(dense[:, bins + DENSE_NUMBERS :], read, state.user_types)
    groups = _target_groups(read.categories, read.log_price, state.price_bins)
    targets, overall = (state.target_keys, state.target_means), state.target_overall
    means = smoothed_means(*targets, groups, TARGET_ABOVE, overall)
    last = dense[:, width - _TARGET_GROUPS :]
    write_scaled(last, means, state.target_center, state.target_scale)
    tokens = _hash_tokens(read, state)
    return tokens.row, tokens.bucket, tokens.weight, dense


# --- The model's inference ------------------------------------------------------------------

# Two in three outcomes are exactly 0. Up to a prediction of about 0.55 so many are (one
# in five and more) that an honest interval begins at 0. This keeps it there: with 2
# instead, the intervals that begin higher held the outcomes of 6 in 10 real ads only.
ZERO_MARGIN = 4.0
# No prediction counts as nearer to 0 or 1, so that no scale is 0.
_EDGE = 0.01
PARENT_SALT, CATEGORY_SALT = np.uint64(1), np.uint64(2)


@compiled
def deal_probabilities(
    row: NDArray[np.int32],
    bucket: NDArray[np.int32],
    weight: NDArray[np.float32],
    table: NDArray[np.float32],
    bias: float,
    dense: NDArray[np.float32],
    deep: NDArray[np.float32],
    sizes: NDArray[np.int64],
) -> Floats:
    """Return the network's answers, shape (n,): see :class:`demand.model.predictor.Inference`.

    Of the wide path it takes the table, shape (buckets,), and the bias. Of the deep one each
    layer's weights as (inputs, outputs) and then its biases, all in one; and the sizes of the
    layers, the inputs' first.
    """
    logits = np.zeros(len(dense))
    for token in range(len(row)):
        logits[row[token]] += table[bucket[token]] * weight[token]
    sides = np.empty((2, max(sizes)), np.float32)
    for ad in range(len(dense)):
        for place in range(sizes[0]):
            sides[0, place] = dense[ad, place]
        logit = logits[ad] + bias + _deep_logit(sides, deep, sizes)
        small = exp(-abs(logit))  # which does not overflow, as e^x would
        logits[ad] = 1.0 / (1.0 + small) if logit >= 0 else small / (1.0 + small)
    return logits


@compilable
def _deep_logit(
    sides: NDArray[np.float32], deep: NDArray[np.float32], sizes: NDArray[np.int64]
) -> float:
    """Return the output of the last layer for the inputs on the first of two sides.

    From layer to layer the numbers go from one side to the other and back.
    """
    first, layers = 0, len(sizes) - 1
    for layer in range(layers):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        before, after = sides[layer % 2], sides[(layer + 1) % 2]
        biases = first + inputs * outputs
        for output in range(outputs):
            after[output] = deep[biases + output]
        # Input by input, not output by output: the processor takes several outputs at once.
        for place in range(inputs):
            of_input = deep[first + place * outputs : first + (place + 1) * outputs]
            for output in range(outputs):
                after[output] += before[place] * of_input[output]
        for output in range(outputs if layer < layers - 1 else 0):
            if after[output] < 0:
                after[output] = 0
        first = biases + outputs
    return float(sides[layers % 2, 0])


@compilable
def interval_scales(predicted: H) -> tuple[H, H]:
    """Return the units below and above, of one prediction or of many.

    On real ads the distance from p to the 80 % quantile of outcomes grows like p², so
    that one quantile fits small and large predictions; any power from 1 to 2.5 is as
    narrow to 1 %. The standard deviation √(p · (1 - p)) instead is wider by a third, and
    holds the outcomes of only 6 in 10 ads where p is large.
    """
    return np.square(np.maximum(1.0 - predicted, _EDGE)), np.square(np.maximum(predicted, _EDGE))


@compiled
def interval_bounds(
    predicted: Floats,
    parents: Hashes,
    keys: NDArray[np.uint32],
    quantiles: NDArray[np.float32],
    pooled: float,
) -> tuple[Floats, Floats, int]:
    """Return low, high, and the first row whose prediction is no probability, or -1."""
    low, high = np.empty(len(predicted)), np.empty(len(predicted))
    for row in range(len(predicted)):
        p = predicted[row]
        if not 0.0 <= p <= 1.0:
            return low, high, row
        place = place_of(keys, short_key(parents[row], PARENT_SALT))
        q = np.float64(quantiles[place]) if place >= 0 else pooled
        down, up = interval_scales(p)
        low[row] = min(max(p - (q + ZERO_MARGIN) * down, 0.0), p)
        high[row] = min(max(p + q * up, p), 1.0)
    return low, high, -1


@compiled
def percentiles_of(
    predicted: Floats, categories: Hashes, keys: NDArray[np.uint32], quantiles: Floats
) -> Floats:
    """Return where answers stand among the quantiles of their category, shape (n,), in [0, 1]."""
    shares = np.empty(len(predicted), np.float64)
    for row in range(len(predicted)):
        place = place_of(keys, short_key(categories[row], CATEGORY_SALT))
        if place < 0:
            place = len(keys)
        below = np.searchsorted(quantiles[place], predicted[row])
        upto = np.searchsorted(quantiles[place], predicted[row], side="right")
        shares[row] = (below + upto) / (2.0 * quantiles.shape[1])
    return shares
