from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from skimage.io import imread

from adaptive_scan.benchmark.analysis import Analysis, analyse
from adaptive_scan.evaluation.results import Results
from adaptive_scan.report.page import report_page, write_report
from tests.synthetic_results import nested_losses, small_results, synthetic_results

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What a page holds; unbalanced tags and rows of other lengths are faults."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.bold: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open or ("th" in self.open and "table" in self.open):
            self.tables[-1][-1][-1] += data
            if "strong" in self.open:
                self.bold.append(data)

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.attributes if name == tag]


@pytest.fixture(scope="module")
def results() -> Results:
    results = small_results()
    examples = results.examples[0]
    one = replace(examples, indices=examples.indices[:1], targets=examples.targets[:1])
    return replace(results, examples=[one])


@pytest.fixture(scope="module")
def analysis(results: Results) -> Analysis:
    return analyse(results, n_resamples=50)


@pytest.fixture(scope="module")
def written(results: Results, analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_report(results, analysis, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(written: list[Path]) -> Page:
    return Page(written[0].read_text(encoding="utf-8"))


def tiny(**others: object) -> Results:
    rng = np.random.default_rng(0)
    losses = {("1/23", scan, "shared"): nested_losses(rng) for scan in ("spiral", "grid", "pathwise")}
    return synthetic_results(losses, **others)  # type: ignore[arg-type]


def bare_page(results: Results) -> Page:
    return Page(report_page(results, analyse(results, n_resamples=20), {}))


def sections(page: Page) -> list[str | None]:
    return [attributes["id"] for attributes in page.having("section")]


def test_tags_balance_and_rows_are_as_long_as_headers(page: Page) -> None:
    assert page.faults == []
    assert len(page.tables) > 5
    for table in page.tables:
        assert len(table) > 1
        assert {len(row) for row in table} == {len(table[0])}


def test_nothing_comes_from_elsewhere(page: Page, written: list[Path]) -> None:
    assert not page.having("script")
    assert not page.having("link")
    for _, attributes in page.attributes:
        for name in ("src", "srcset", "href", "data", "poster", "action"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value
    style = re.search(r"<style>(.*?)</style>", written[0].read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    assert not re.search(r"url\(|@import|http", style.group(1))
    assert any("default-src 'none'" in (meta.get("content") or "") for meta in page.having("meta"))


def test_every_figure_is_a_file_and_in_the_page_and_not_blank(page: Page, written: list[Path]) -> None:
    named = [attributes["id"] for attributes in page.having("figure")]
    assert named == [path.stem for path in written[1:]]
    assert len(named) > 10
    for path, image in zip(written[1:], page.having("img"), strict=True):
        assert path.parent.name == "figures"
        assert imread(path).std() > 5
        kind, _, content = str(image["src"]).partition(";base64,")
        data = base64.b64decode(content)
        if kind == "data:image/png":
            assert data == path.read_bytes()
        else:
            assert kind == "data:image/svg+xml"
            drawing = ElementTree.parse(io.BytesIO(data)).getroot()
            assert len(list(drawing.iter())) > 50
            assert not any(
                key.endswith("href") and not value.startswith(("#", "data:"))
                for part in drawing.iter()
                for key, value in part.attrib.items()
            )


def test_figures_have_alternatives_and_captions(page: Page) -> None:
    assert all(len(image["alt"] or "") > 20 for image in page.having("img"))
    assert len(page.having("figcaption")) == len(page.having("img"))


def test_verdicts_come_first(page: Page, analysis: Analysis) -> None:
    places = [page.text.index(sentence) for sentence in analysis.verdicts]
    assert places == sorted(places)
    assert places[-1] < page.text.index("Ratios of losses")


def test_tables_hold_the_means_of_the_analysis(page: Page, analysis: Analysis) -> None:
    found = {}
    for table in page.tables:
        if table[0][:4] == ["scan", "kind", "completer", "loss (10 MSE)"]:
            found[len(found)] = {(row[0], row[2]): row[3] for row in table[1:]}
    for place, geometry in enumerate(("1/23", "1/46")):
        wanted = {
            (one.scan, one.completer): f"{one.metrics['loss']:.4g}"
            for one in analysis.summaries
            if one.geometry == geometry
        }
        assert found[place] == wanted


def test_tables_hold_the_comparisons_of_the_analysis(page: Page, analysis: Analysis) -> None:
    rows = [row for table in page.tables if "verdict" in table[0] for row in table[1:]]
    assert len(rows) == len(analysis.comparisons)
    texts = {tuple(row[:4]): row[4] for row in rows}
    for one in analysis.comparisons:
        if one.first[0] in ("pathwise", "raster") and one.ratio is not None and one.ratio_ci95 is not None:
            low, high = one.ratio_ci95
            key = (one.geometry, one.first[0], one.first[1], one.second[0])
            assert texts[key] == f"{one.ratio:.3f} [{low:.3f}, {high:.3f}]"


def test_the_factorial_and_the_controls_are_there(page: Page, analysis: Analysis) -> None:
    (factorial,) = (table for table in page.tables if "kind of completer" in table[0])
    assert len(factorial) - 1 == len(analysis.factorial)
    assert [row[5] for row in factorial[1:]] == [f"{row.loss:.4g}" for row in analysis.factorial]
    (controls,) = (table for table in page.tables if "path diversity [px]" in table[0])
    assert [row[3:] for row in controls[1:]] == [["0.21", "0.34"]] * 2


def test_the_best_contiguous_contender_is_bold(page: Page, analysis: Analysis) -> None:
    for judge in ("shared", "linear"):
        here = [one for one in analysis.summaries if (one.geometry, one.completer) == ("1/23", judge)]
        contenders = [one for one in here if one.contiguous and one.role in ("static", "adaptive")]
        losses = [one.metrics["loss"] or 0.0 for one in contenders]
        assert f"{min(losses):.4g}" in page.bold
        lowest = min(here, key=lambda one: one.metrics["loss"] or 0.0)
        assert lowest.role == "oracle"
        assert f"{lowest.metrics['loss']:.4g}" not in page.bold


def test_columns_without_numbers_are_left_out(page: Page) -> None:
    headers = {name for table in page.tables for name in table[0]}
    assert "SSIM" in headers
    assert "defect recall" not in headers


def test_what_is_no_contender_is_marked(page: Page) -> None:
    kinds = {row[0]: row[1] for table in page.tables if table[0][:2] == ["scan", "kind"] for row in table[1:]}
    assert kinds["look_ahead_oracle"] == "oracle, no contender"
    assert kinds["pathwise_constant"] == "control, no contender"
    assert kinds["grid"] == "static, not contiguous"
    assert kinds["pathwise"] == "adaptive"


def test_the_identity_and_the_benchmark_are_there(page: Page, results: Results) -> None:
    assert results.identity in page.text
    assert page.text.count('"reference": "spiral"') == 1
    assert page.having("details")


def test_names_are_escaped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    evil = '<script>alert("1")</script>&$_{'
    losses = {(f"1/23 {evil}", scan, evil): nested_losses(rng) for scan in ("spiral", evil)}
    results = replace(synthetic_results(losses, n_examples=1, content=(evil, "b")), name=evil)
    paths = write_report(results, analyse(results, n_resamples=20), tmp_path)
    found = Page(paths[0].read_text(encoding="utf-8"))
    assert not found.faults
    assert not found.having("script")
    assert evil in found.text
    assert any(evil in row[0] for table in found.tables for row in table)


def test_sections_without_content_are_left_out() -> None:
    page = bare_page(tiny())
    assert not page.faults
    assert sections(page) == ["means", "comparisons", "kinds", "seeds", "costs", "benchmark"]
    assert sections(bare_page(tiny(content=("a",), sparsity=np.full((3, 6, 4), np.nan)))) == [
        "means", "comparisons", "seeds", "costs", "benchmark",
    ]  # fmt: skip
    assert "adaptivity" in sections(bare_page(tiny(adaptivity={"1/23": {"pathwise": {"path_diversity": 2.0}}})))
    assert "adaptivity" not in sections(bare_page(tiny(adaptivity={"1/23": {"pathwise": {"a": float("nan")}}})))


DESCRIPTION = {
    "pictures": {"micrographs": "/home/somebody/secret/gold", "groups": "../private/groups.csv", "downsample": 2},
    "acquisition": "ideal",
    "geometries": {"1/23": {"image_size": 48, "n_segments": 25, "n_positions": 4, "spacing": [0.7, 5.7]}},
    "generator": {"kind": "mask_aware", "n_updates": 4000, "batch_size": 32, "fine_tuning_crops": 32000},
    "scans": [{"name": "mine", "kind": "policy", "settings": {"folder": "C:\\\\somebody\\\\actor"}}],
}


def test_the_page_prints_the_benchmark_and_not_what_was_found() -> None:
    found = tiny(description={**DESCRIPTION, "groups_by_seed": {"0": {"test": ["group of gold"]}}, "versions": []})
    text = report_page(found, analyse(found, n_resamples=20), {})
    assert "&quot;fine_tuning_crops&quot;: 32000" in text
    assert "groups_by_seed" not in text
    assert "group of gold" not in text


def test_the_head_says_what_was_compared_and_no_folder_is_printed() -> None:
    text = report_page(tiny(description=DESCRIPTION), analyse(tiny(description=DESCRIPTION), n_resamples=20), {})
    head = text[: text.index("<nav")]
    assert (
        "Pictures: micrographs of gold, each pixel the mean of 2 x 2. Instrument: ideal. "
        "Scans: a field of 48 x 48 px; 100 positions at 1/23 (25 segments of 4). Training: for each seed a network "
        "(mask aware) by 4,000 updates of 32 scans, then 32,000 crops for each fine-tuned one."
    ) in head
    for secret in ("somebody", "secret", "private"):
        assert secret not in text
    assert "groups.csv" in text


def test_what_is_closed_on_a_screen_is_open_in_print(written: list[Path], page: Page, analysis: Analysis) -> None:
    style = written[0].read_text(encoding="utf-8").partition("@media print")[2]
    assert "details::details-content { content-visibility: visible;" in style
    assert len(page.having("details")) == 2
    assert analysis.further
    assert all(sentence in page.text for sentence in analysis.further)


def test_ratios_of_every_seed_stand_in_a_table(page: Page, analysis: Analysis) -> None:
    (table,) = (table for table in page.tables if "seed 0" in table[0])
    assert table[0][4:] == ["seed 0", "seed 1", "seed 2"]
    assert table[1][4].startswith(f"{analysis.comparisons[0].by_seed['seed 0'][0]:.3f} [")


def test_numbers_and_names_are_written_in_one_way(written: list[Path], page: Page) -> None:
    text = written[0].read_text(encoding="utf-8")
    assert "95% interval" in text
    assert not re.search(r"95[\s\N{NO-BREAK SPACE}]%", page.text)
    assert "where the Fourier ring correlation of the two first falls below 1/7" in page.text


def test_links_lead_to_sections(page: Page) -> None:
    assert [link["href"] for link in page.having("a")] == [f"#{name}" for name in sections(page)]


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    results = tiny(n_examples=1)
    analysis = analyse(results, n_resamples=20)
    first, second = (write_report(results, analysis, tmp_path / name) for name in ("a", "b"))
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
