"""The fixed words of a benchmark's report, and how its page looks on a screen and in print."""

from __future__ import annotations

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
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
"""Of the page; it asks for no fonts or pictures from elsewhere."""

NOTES = {
    "means": (
        "Means over all test crops of all seeds. Bold is the best contiguous contender by each completer. Scans "
        "in grey are no contenders: an oracle sees the truth, a control is an adaptive scan that was tampered "
        "with, and every pixel at the same total dose is another way to spend the electrons. Scans that are not "
        "contiguous jump from point to point."
    ),
    "comparisons": (
        "A ratio below 1 says that the scan has the lower loss. Intervals are of the hierarchical bootstrap over "
        "seeds, specimens and crops; p is of the Wilcoxon signed-rank test over specimens, corrected by Holm "
        "within each family of comparisons; wins are the share of the crops; the effect size is the rank-biserial "
        "correlation over specimens, 1 where the scan is better on all of them. The detectable ratio is the "
        "smallest difference that one such test finds four times in five with these specimens: one nearer to 1 "
        "may well have been missed. Bold is a difference that is shown."
    ),
    "factorial": (
        "The adaptive and the best static scan, each completed by the generator that all scans share, by one that "
        "was fine-tuned to that scan with the same number of crops, and by the best classical completer. Bold is "
        "an interval without 1."
    ),
    "kinds": (
        "The comparisons of adaptive scans on some of the pictures alone; n is the number of specimens. Bold is "
        "an interval without 1; these intervals are not corrected for their number."
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
