"""Word lists shared by the generators of the toy world.

The lists are short because the toy's tokenizer has about 2048 entries: a word that occurs often enough
becomes one token, and the toy model then has something simple to learn.
"""

# Values of notebook records: words that become one token each in the toy's vocabulary, so that copying a value is
# copying one token.
VALUES = (
    "apple ball bell bird bone brick cake candle card chair clock cup door drum egg flower fork glass hat ice iron jar "
    "lamp leaf letter map milk moon nut pen pot plate salt sand seed silk snow stone table tea tree wheel wool"
).split()

# Filler of the notebooks: "Old dogs sleep quietly." Four free words a sentence and no function words, so that
# no run of eight words comes twice and an n-gram decontamination finds evaluation notebooks only if they were
# copied.
FILLER_ADJECTIVES = (
    "old new big small red blue green white black young slow quick warm cold dark light tall short long "
    "round soft hard clean dry wet rich poor loud quiet brave calm happy"
).split()
FILLER_NOUNS = (
    "dogs cats birds boats trains farmers children bakers painters sailors teachers horses sheep cows ducks "
    "bees students drivers doctors singers guests friends neighbours writers workers players travellers "
    "hunters gardeners cooks soldiers dancers"
).split()
FILLER_VERBS = (
    "sleep wait walk run sing work play rest eat drink move turn stay stand sit talk laugh look listen read "
    "write swim jump climb dance travel arrive leave return stop start help"
).split()
FILLER_ADVERBS = (
    "here there outside inside together alone today now early late often again quickly slowly quietly always "
    "never sometimes upstairs downstairs nearby away forward abroad tonight soon twice daily weekly "
    "everywhere home once"
).split()

# Word problems. Things and evaluation things are disjoint: every run of eight words of an evaluation problem
# holds one of the latter, so only a planted copy can be taken for contamination.
PROBLEM_PEOPLE = (
    "Anna Ella Emma Jack John Kate Lily Liam Lucy Mary Mark Nina Noah Nora Paul Rosa Ruth Sara Tom Will"
).split()
THINGS = (
    "apples books cards coins cups eggs flowers keys letters lemons marbles pears pens rings stamps stones"
).split()
EVALUATION_THINGS = "shells buttons ribbons nuts".split()
PLACES = "market school farm station beach park house shop".split()

NUMBER_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
).split()
NUMBER_WORDS += [f"twenty-{word}" for word in NUMBER_WORDS[1:10]] + ["thirty"]
TENS = {40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty"}


def number_words(number: int) -> str:
    """A number from 0 to 89 in English words."""
    if number <= 30:
        return NUMBER_WORDS[number]
    tens, ones = number // 10 * 10, number % 10
    head = TENS.get(tens, "thirty")
    return f"{head}-{NUMBER_WORDS[ones]}" if ones else head


OPERATOR_IDEAS = {
    "+": "We begin with {a} and add {b} to it.",
    "-": "We begin with {a} and take {b} from it.",
    "*": "We count {b} again and again, {a} times in all.",
}
