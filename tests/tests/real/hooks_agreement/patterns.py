"""Prints what matchers match: those of a table, and random ones."""

import json
import random
import re
import sys
import warnings

from openhands.sdk.hooks.config import HookMatcher

warnings.simplefilter("ignore")

PARTS = [
    *"aabbA1_-", ".", r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", r"\b", r"\B", "^", "$", r"\A", r"\Z",
    r"\.", r"\n", "[ab]", "[^a]", "[a-c]", "[]a]", "[^]]", "[a-]", r"[\w-]", r"[\d_]", "[a&&b]",
    "[--a]", "[a||b]", "[[a]", r"\1", r"\2", r"\x61", r"\u0061", r"\141", r"\0", "{", "}", "{a}",
    "{1", "]", ",", "é", r"\é", r"\-", r"\_", "(?#c)", " ", "#", "\n", r"\z", r"\pL", r"\Q", "[z-a]",
    "[", "(", ")", r"\x{61}", r"\8", r"[\b]", r"[\8]", r"\777", r"[\777]", "\\",
]
TIMES = [
    "*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "{,}", "{2,1}", "*?", "+?", "??", "{1,2}?", "*+",
    "++", "?+", "{1,2}+", "{", "{}", "**", "* ",
]
OPEN = [
    "(", "(", "(?:", "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?s:", "(?x:", "(?a:",
    "(?m:", "(?-i:", "(?i-s:", "(?P<n>", "(?P<m>", "(?P=n)(?:", "(?(1)", "(?(n)", "(?(2)", "(?<n>",
    "(?P>", "(?", "(?^:", "(?u:", "(?L:", "(?ii:", "(?i-i:",
]
START = ["(?i)", "(?x)", "(?s)", "(?m)", "(?a)", "(?im)", "(?u)", "(?-i)", "(?#x)(?i)", "(?L)", "(?U)"]


def part(rng, depth):
    if depth and rng.random() < 0.28:
        return rng.choice(OPEN) + branch(rng, depth - 1) + (")" if rng.random() < 0.97 else "")
    return rng.choice(PARTS[:14] if rng.random() < 0.5 else PARTS)


def sequence(rng, depth):
    text = ""
    for _ in range(rng.randint(0 if depth < 2 else 1, 3)):
        text += part(rng, depth) + (rng.choice(TIMES) if rng.random() < 0.3 else "")
    return text


def branch(rng, depth):
    return "|".join(sequence(rng, depth) for _ in range(rng.choice([1, 1, 1, 2, 3])))


def made(seed, count):
    rng = random.Random(seed)
    while count > 0:
        pattern = (rng.choice(START) if rng.random() < 0.12 else "") + branch(rng, 3)
        if not 0 < len(pattern) < 60:
            continue
        # In slashes a pattern must be an expression; without slashes it may also be a plain name.
        pattern = f"/{pattern}/" if rng.random() < 0.5 else pattern
        for letters in ["aaaaabbA1", "aab1_-. \n}{é,#["]:
            for _ in range(2):
                count -= 1
                yield pattern, "".join(rng.choice(letters) for _ in range(rng.randint(0, 4)))
        yield pattern, pattern


def matches(pattern, tool):
    try:
        return HookMatcher(matcher=pattern).matches(tool)
    except (ValueError, OverflowError, re.error) as error:
        return type(error).__name__


asked = json.load(sys.stdin)
table = [*asked["table"], *made(asked["seed"], asked["count"])]
print(json.dumps([[pattern, tool, matches(pattern, tool)] for pattern, tool in table]))
