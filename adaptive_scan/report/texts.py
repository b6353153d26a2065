"""The words of a benchmark's report about how it is read and what was compared, and how its page looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

STYLE_SHEET = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 62rem; color: #1a1a1a; background: #ffffff;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .5rem; border-top: 2px solid #1a1a1a; }
p, ul { margin: .5rem 0; max-width: 48rem; }
li { margin: .3rem 0; }
code { font-family: ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; font-size: .9em;
  overflow-wrap: anywhere; }
nav { font-size: .92rem; margin: 1rem 0; }
nav a { display: inline-block; margin-right: 1rem; }
a { color: #0058a3; }
a:focus-visible, .wide:focus-visible, summary:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
.verdicts { background: #f3f6f9; border-left: 5px solid #0072b2; padding: .8rem 1rem .8rem 1.2rem; }
.verdicts ul { margin: 0; padding-left: 1.1rem; max-width: none; }
.verdicts li:first-child { font-weight: 600; }
.facts { color: #444444; }
figure { margin: 1.2rem 0 1.8rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { font-size: .9rem; line-height: 1.45; color: #333333; max-width: 50rem; margin-top: .4rem; }
.wide { overflow-x: auto; margin: 1rem 0 1.6rem; }
table { border-collapse: collapse; font-size: .82rem; line-height: 1.35; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; font-size: .95rem; padding: .2rem 0 .4rem; }
th, td { padding: .22rem .5rem; border-bottom: 1px solid #d9d9d9; text-align: right; vertical-align: baseline; }
thead th { border-bottom: 2px solid #1a1a1a; vertical-align: bottom; max-width: 9rem; }
th[scope=row], .name { text-align: left; font-weight: 400; white-space: nowrap; }
thead .name { font-weight: 600; }
td { white-space: nowrap; }
tbody tr:nth-child(even) { background: #f6f6f6; }
tbody tr.first td, tbody tr.first th { border-top: 2px solid #8c8c8c; }
.quiet { color: #5c5c5c; font-style: italic; }
details { margin: 1rem 0; }
summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6; padding: .8rem; font-size: .8rem; }
@media print {
  @page { margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  nav { display: none; }
  h2, caption { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  figure img { max-height: 235mm; object-fit: contain; object-position: left top; }
  .wide { overflow: visible; }
  table { font-size: 6.2pt; }
  th, td { padding: .1rem .25rem; }
  th[scope=row] { white-space: normal; }
  thead { display: table-header-group; }
  details::details-content { content-visibility: visible; block-size: auto; opacity: 1; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
"""Of the page; it asks for no fonts or pictures from elsewhere."""

NOTES = {
    "means": (
        "Means over all test crops of all seeds. Bold is the best contiguous contender by each completer. Scans "
        "in grey are no contenders: an oracle sees the truth, a control is an adaptive scan that was tampered "
        "with, and every pixel at the same total dose is another way to spend the electrons. Scans that are not "
        "contiguous jump from point to point. The FRC cut-off is the spatial frequency up to which a completion still "
        "agrees with its target: where the Fourier ring correlation of the two first falls below 1/7; higher is finer."
    ),
    "comparisons": (
        "A ratio below 1 says that the scan has the lower loss. Intervals are of the hierarchical bootstrap over "
        "seeds, specimens and crops, wider where specimens are few; there is none of fewer than six. p is of the "
        "Wilcoxon signed-rank test over specimens, corrected by Holm within each family of comparisons: the first "
        "table is one, at all geometries together; other adaptive scans, such as rules of thumb, are another. Wins are "
        "the share of the crops; the effect size is the rank-biserial correlation over specimens, 1 where the scan is "
        "better on all of them. The detectable ratio is the smallest difference that the test, corrected for the whole "
        "family, finds four times in five with these specimens: one nearer to 1 may well have been missed; a dash says "
        "that they are too few to show anything. Bold is a difference that is shown: the interval excludes 1, the "
        "corrected p is below 0.05, and every seed by itself goes the same way. It is about the networks of these "
        "seeds. The best classical completer is chosen on the test losses, one for all scans."
    ),
    "factorial": (
        "The adaptive and the best static scan, each completed by the generator that all scans share, by one that "
        "was fine-tuned to that scan with the same number of crops, and by the best classical completer, which is the "
        "one of the lowest mean loss on the test crops. Bold is an interval without 1."
    ),
    "kinds": (
        "The comparisons of adaptive scans on some of the pictures alone; n is the number of specimens, and fewer than "
        "six have no interval. Bold is a difference that is shown: an interval without 1, and a test over specimens "
        "corrected for the number of kinds in its row. The number of rows is not corrected for."
    ),
    "seeds": (
        "The same comparisons in each seed by itself: with networks of its own, on test pictures of its own. Where "
        "seeds lie on both sides of 1, nothing is shown. n is the number of specimens; bold is as above."
    ),
    "adaptivity": (
        "Path diversity is the mean distance between the positions of two crops' paths at the same time; the "
        "pixel overlap is the share of the pixels measured on either of two crops that was measured on both. The "
        "share of the path's variance that the crop predicts is that of a linear regression on specimens that it "
        "did not see, so it is a lower bound. What the controls lose stands among the comparisons."
    ),
    "costs": (
        "No scan may spend more than its dose. Distinct pixels, path length, scan time with flyback and settling, "
        "and the largest turn differ, and stand here."
    ),
}
"""What stands above the tables of a section, by its anchor."""

_PATHS = ("micrographs", "groups")


def without_folders(value: Any, key: str = "") -> Any:
    """A description without the folders of this machine: of micrographs, groups and absolute paths the last part.

    Args:
        value: JSON values.
        key: What the value is called.

    Example:
        >>> without_folders({"micrographs": "../data/gold", "geometry": "1/23", "policy": "/home/me/actor.zip"})
        {'micrographs': 'gold', 'geometry': '1/23', 'policy': 'actor.zip'}
    """
    if isinstance(value, Mapping):
        return {name: without_folders(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item, key) for item in value]
    if not isinstance(value, str):
        return value
    kind = PureWindowsPath if "\\" in value or PureWindowsPath(value).drive else PurePosixPath
    path = kind(value)
    return path.name or value if key in _PATHS or path.is_absolute() else value


def plain_facts(description: Mapping[str, Any]) -> str:
    """Pictures, instrument, field, positions and training of a benchmark in plain words; what is not known is left out.

    Args:
        description: Of the results: the settings of a benchmark.

    Example:
        >>> plain_facts({"pictures": {"micrographs": "/data/gold"}, "acquisition": "ideal"})
        'Pictures: micrographs of gold. Instrument: ideal.'
    """
    parts = (
        ("Pictures", _pictures(description.get("pictures"))),
        ("Instrument", description.get("acquisition")),
        ("Scans", _scans(description.get("geometries"))),
        ("Training", _training(description.get("generator"))),
    )
    return " ".join(f"{name}: {text}." for name, text in parts if text)


def _pictures(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    block = found.get("downsample", 1)
    if found.get("micrographs"):
        reduced = f", each pixel the mean of {block} x {block}" if isinstance(block, int) and block > 1 else ""
        return f"micrographs of {without_folders(found['micrographs'], 'micrographs')}{reduced}"
    families = ", ".join(str(name).replace("_", " ") for name in found.get("families") or ())
    number = f"{found['n_crops']:,} " if isinstance(found.get("n_crops"), int) else ""
    return f"{number}procedural specimens{f' ({families})' if families else ''}"


def _scans(found: Any) -> str:
    if not isinstance(found, Mapping):
        return ""
    texts, sides = [], []
    for name, geometry in found.items():
        if isinstance(geometry, Mapping) and {"n_segments", "n_positions", "image_size"} <= geometry.keys():
            segments, each = geometry["n_segments"], geometry["n_positions"]
            texts.append(f"{segments * each} positions at {name} ({segments} segments of {each})")
            sides.append(geometry["image_size"])
    return f"a field of {sides[0]} x {sides[0]} px; {', '.join(texts)}" if texts else ""


def _training(found: Any) -> str:
    if not isinstance(found, Mapping) or not {"kind", "n_updates", "batch_size", "fine_tuning_crops"} <= found.keys():
        return ""
    kind = str(found["kind"]).replace("_", " ")
    return (
        f"for each seed a network ({kind}) by {found['n_updates']:,} updates of {found['batch_size']} scans, then "
        f"{found['fine_tuning_crops']:,} crops for each fine-tuned one"
    )
