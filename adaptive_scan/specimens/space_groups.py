"""Hall symbols of the 230 space groups: generators from which all symmetry operations follow.

One setting of each group, the first of International Tables A (unique axis b, origin choice 1, hexagonal axes).
Notation: S. R. Hall, Acta Crystallographica A 37 (1981) 517, doi:10.1107/S0567739481001228; International Tables B,
A1.4.2.
"""

from __future__ import annotations

# fmt: off
HALL_SYMBOLS: tuple[str, ...] = (
    "P 1", "-P 1", "P 2y", "P 2yb", "C 2y", "P -2y", "P -2yc", "C -2y", "C -2yc", "-P 2y", "-P 2yb", "-C 2y",
    "-P 2yc", "-P 2ybc", "-C 2yc", "P 2 2", "P 2c 2", "P 2 2ab", "P 2ac 2ab", "C 2c 2", "C 2 2", "F 2 2", "I 2 2",
    "I 2b 2c", "P 2 -2", "P 2c -2", "P 2 -2c", "P 2 -2a", "P 2c -2ac", "P 2 -2bc", "P 2ac -2", "P 2 -2ab", "P 2c -2n",
    "P 2 -2n", "C 2 -2", "C 2c -2", "C 2 -2c", "A 2 -2", "A 2 -2b", "A 2 -2a", "A 2 -2ab", "F 2 -2", "F 2 -2d",
    "I 2 -2", "I 2 -2c", "I 2 -2a", "-P 2 2", "P 2 2 -1n", "-P 2 2c", "P 2 2 -1ab", "-P 2a 2a", "-P 2a 2bc",
    "-P 2ac 2", "-P 2a 2ac", "-P 2 2ab", "-P 2ab 2ac", "-P 2c 2b", "-P 2 2n", "P 2 2ab -1ab", "-P 2n 2ab",
    "-P 2ac 2ab", "-P 2ac 2n", "-C 2c 2", "-C 2ac 2", "-C 2 2", "-C 2 2c", "-C 2a 2", "C 2 2 -1ac", "-F 2 2",
    "F 2 2 -1d", "-I 2 2", "-I 2 2c", "-I 2b 2c", "-I 2b 2", "P 4", "P 4w", "P 4c", "P 4cw", "I 4", "I 4bw", "P -4",
    "I -4", "-P 4", "-P 4c", "P 4ab -1ab", "P 4n -1n", "-I 4", "I 4bw -1bw", "P 4 2", "P 4ab 2ab", "P 4w 2c",
    "P 4abw 2nw", "P 4c 2", "P 4n 2n", "P 4cw 2c", "P 4nw 2abw", "I 4 2", "I 4bw 2bw", "P 4 -2", "P 4 -2ab",
    "P 4c -2c", "P 4n -2n", "P 4 -2c", "P 4 -2n", "P 4c -2", "P 4c -2ab", "I 4 -2", "I 4 -2c", "I 4bw -2",
    "I 4bw -2c", "P -4 2", "P -4 2c", "P -4 2ab", "P -4 2n", "P -4 -2", "P -4 -2c", "P -4 -2ab", "P -4 -2n",
    "I -4 -2", "I -4 -2c", "I -4 2", "I -4 2bw", "-P 4 2", "-P 4 2c", "P 4 2 -1ab", "P 4 2 -1n", "-P 4 2ab",
    "-P 4 2n", "P 4ab 2ab -1ab", "P 4ab 2n -1ab", "-P 4c 2", "-P 4c 2c", "P 4n 2c -1n", "P 4n 2 -1n", "-P 4c 2ab",
    "-P 4n 2n", "P 4n 2n -1n", "P 4n 2ab -1n", "-I 4 2", "-I 4 2c", "I 4bw 2bw -1bw", "I 4bw 2aw -1bw", "P 3", "P 31",
    "P 32", "R 3", "-P 3", "-R 3", "P 3 2", 'P 3 2"', "P 31 2 (0 0 4)", 'P 31 2"', "P 32 2 (0 0 2)", 'P 32 2"',
    'R 3 2"', 'P 3 -2"', "P 3 -2", 'P 3 -2"c', "P 3 -2c", 'R 3 -2"', 'R 3 -2"c', "-P 3 2", "-P 3 2c", '-P 3 2"',
    '-P 3 2"c', '-R 3 2"', '-R 3 2"c', "P 6", "P 61", "P 65", "P 62", "P 64", "P 6c", "P -6", "-P 6", "-P 6c",
    "P 6 2", "P 61 2 (0 0 5)", "P 65 2 (0 0 1)", "P 62 2 (0 0 4)", "P 64 2 (0 0 2)", "P 6c 2c", "P 6 -2", "P 6 -2c",
    "P 6c -2", "P 6c -2c", "P -6 2", "P -6c 2", "P -6 -2", "P -6c -2c", "-P 6 2", "-P 6 2c", "-P 6c 2", "-P 6c 2c",
    "P 2 2 3", "F 2 2 3", "I 2 2 3", "P 2ac 2ab 3", "I 2b 2c 3", "-P 2 2 3", "P 2 2 3 -1n", "-F 2 2 3", "F 2 2 3 -1d",
    "-I 2 2 3", "-P 2ac 2ab 3", "-I 2b 2c 3", "P 4 2 3", "P 4n 2 3", "F 4 2 3", "F 4d 2 3", "I 4 2 3", "P 4acd 2ab 3",
    "P 4bd 2ab 3", "I 4bd 2c 3", "P -4 2 3", "F -4 2 3", "I -4 2 3", "P -4n 2 3", "F -4a 2 3", "I -4bd 2c 3",
    "-P 4 2 3", "P 4 2 3 -1n", "-P 4n 2 3", "P 4n 2 3 -1n", "-F 4 2 3", "-F 4a 2 3", "F 4d 2 3 -1d", "F 4d 2 3 -1ad",
    "-I 4 2 3", "-I 4bd 2c 3",
)
# fmt: on
"""Hall symbol of space group n at n - 1."""
