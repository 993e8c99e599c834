"""Rows of well-known layouts become documents: columns, templates, dialogues, filters by value and by score."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from smolmake.data import hub
from smolmake.data.documents import Document, read_documents
from smolmake.data.readers import data_files
from smolmake.errors import UserError
from smolmake.graph.specs.data import HubDataset, PathDataset
from smolmake.recipe.sources import Rows, Source

TEXT = "A text about volcanoes and how they come to be."
FINEWEB_EDU = [
    {"text": TEXT, "id": "<urn:uuid:0>", "dump": "CC-MAIN-2024-10", "url": "https://a.b/c", "file_path": "s3://x",
     "language": "en", "language_score": 0.97, "token_count": 12, "score": 3.4, "int_score": 3},
    {"text": "Buy now!", "id": "<urn:uuid:1>", "dump": "CC-MAIN-2024-10", "url": "https://a.b/d", "file_path": "s3://x",
     "language": "en", "language_score": 0.61, "token_count": 2, "score": 1.2, "int_score": 1},
]  # fmt: skip
FINEWEB2 = [
    {"text": "Ein Text über Vulkane.", "id": "0", "dump": "d", "url": "u", "date": "2024", "file_path": "f",
     "language": "deu", "language_score": 0.99, "language_script": "Latn", "minhash_cluster_size": 4,
     "top_langs": "{}"},
]  # fmt: skip
DCLM = [
    {"bff_contained_ngram_count_before_dedupe": 1, "language_id_whole_page_fasttext": {"en": 0.9}, "metadata": {"a": 1},
     "previous_word_count": 9, "text": TEXT, "url": "u", "warcinfo": "w", "fasttext_openhermes_reddit_eli5_vs_rw": 0.2},
]  # fmt: skip
FINEMATH = [
    {"url": "u", "fetch_time": 1, "content_mime_type": "text/html", "warc_filename": "w", "text": TEXT,
     "token_count": 9, "char_count": 40, "metadata": "{}", "score": 4.6, "int_score": 5, "crawl": "c",
     "snapshot_type": "latest", "language": "en", "language_score": 0.9},
]  # fmt: skip
STACK_EDU = [
    {"blob_id": "b", "language": "Python", "repo_name": "a/b", "path": "/c.py", "src_encoding": "UTF-8",
     "length_bytes": 9, "score": 4.0, "int_score": 4, "detected_licenses": ["MIT"], "text": "print(1)\n"},
    {"blob_id": "b", "language": "Java", "repo_name": "a/b", "path": "/C.java", "src_encoding": "UTF-8",
     "length_bytes": 9, "score": 3.0, "int_score": 3, "detected_licenses": ["MIT"], "text": "class C {}\n"},
]  # fmt: skip
MEGAMATH = [
    {"text": TEXT, "url": "u", "math_score": 0.95, "lang": "en", "lang_score": 0.9,
     "timestamp": "t", "type": "web-pro"},
    {"text": "Not that much of mathematics.", "url": "u", "math_score": 0.2, "lang": "en", "lang_score": 0.9,
     "timestamp": "t", "type": "web-pro"},
]  # fmt: skip
SMOLTALK2 = [
    {"messages": [{"role": "user", "content": "What is lava?"}, {"role": "assistant", "content": "Molten rock."}],
     "chat_template_kwargs": {"enable_thinking": False, "custom_instructions": "", "python_tools": [], "xml_tools": []},
     "source": "smoltalk"},
]  # fmt: skip
ANSWERS = [{"question": "What is {lava}?", "answer": "Molten rock.", "n": 1}]

LAYOUTS: list[tuple[str, list[dict[str, Any]], dict[str, Any], list[str | None]]] = [
    ("fineweb-edu", FINEWEB_EDU, {}, [TEXT, "Buy now!"]),
    ("fineweb-edu by score", FINEWEB_EDU, {"at_least": {"int_score": 3}}, [TEXT, None]),
    ("fineweb-edu by language", FINEWEB_EDU, {"at_least": {"language_score": 0.65}}, [TEXT, None]),
    ("fineweb-2", FINEWEB2, {"where": {"language_script": ["Latn"]}}, ["Ein Text über Vulkane."]),
    ("fineweb-2, too frequent", FINEWEB2, {"at_most": {"minhash_cluster_size": 3}}, [None]),
    ("dclm", DCLM, {"at_least": {"fasttext_openhermes_reddit_eli5_vs_rw": 0.018112}}, [TEXT]),
    ("finemath", FINEMATH, {"at_least": {"score": 4}}, [TEXT]),
    ("stack-edu", STACK_EDU, {"where": {"language": ["Python", "Rust"]}}, ["print(1)\n", None]),
    ("megamath", MEGAMATH, {"at_least": {"math_score": 0.5}}, [TEXT, None]),
    (
        "smoltalk2", SMOLTALK2, {"template": "{messages}", "turn": "<|im_start|>{role}\n{content}<|im_end|>\n"},
        ["<|im_start|>user\nWhat is lava?<|im_end|>\n<|im_start|>assistant\nMolten rock.<|im_end|>\n"],
    ),
    ("smoltalk2 as text", SMOLTALK2, {"text": "messages"}, ["user: What is lava?\n\nassistant: Molten rock.\n\n"]),
    ("answers", ANSWERS, {"template": "Q: {question}\n\nA: {answer} {{end}}"},
     ["Q: What is {lava}?\n\nA: Molten rock. {end}"]),
]  # fmt: skip
TABLE = [
    {"text": "007", "score": "3.5", "kept": "True", "lang": "en", "n": "1"},
    {"text": "a", "score": "2", "kept": "false", "lang": "de", "n": "2"},
]
FORMATS = ["parquet", "arrow", "stream.arrow", "jsonl.zst"]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows)
    if path.name.endswith(".parquet"):
        pq.write_table(table, path)
    elif path.name.endswith(".stream.arrow"):
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    elif path.name.endswith(".arrow"):
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    else:
        import json

        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(zstandard.compress(lines.encode()))


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize(("rows", "keys", "texts"), [case[1:] for case in LAYOUTS], ids=[case[0] for case in LAYOUTS])
def test_layouts(tmp_path: Path, ending: str, rows: Any, keys: dict[str, Any], texts: list[str | None]) -> None:
    write(tmp_path / f"data.{ending}", rows)
    documents = list(read_documents([tmp_path / f"data.{ending}"], "auto", Rows(**keys), "s", None))
    assert [document.text if document.reason is None else None for document in documents] == texts


@pytest.mark.parametrize(
    ("keys", "texts"),
    [
        ({}, ["007", "a"]),
        ({"at_least": {"score": 3}}, ["007"]),
        ({"at_most": {"score": 2.0}}, ["a"]),
        ({"where": {"kept": [True]}}, ["007"]),
        ({"where": {"n": [2, 3]}}, ["a"]),
        ({"where": {"lang": ["en"], "n": ["1"]}}, ["007"]),
        ({"template": "{lang}: {text}"}, ["en: 007", "de: a"]),
    ],
)
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_rows_of_a_table_are_chosen_by_what_their_text_says(
    tmp_path: Path, delimiter: str, keys: dict[str, Any], texts: list[str]
) -> None:
    lines = [delimiter.join(row) for row in (TABLE[0], *(row.values() for row in TABLE))]
    file = tmp_path / ("a.csv" if delimiter == "," else "a.tsv")
    file.write_text("\n".join(lines) + "\n")
    documents = list(read_documents([file], "auto", Rows(**keys), "s", None))
    assert [document.text for document in documents if document.reason is None] == texts


def test_why_a_row_is_dropped(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", FINEWEB_EDU)
    keys = {"where": {"language": ["de"]}, "at_least": {"score": 9}}
    assert {d.reason for d in read_documents([tmp_path / "a.parquet"], "auto", Rows(**keys), "s", None)} == {
        "other_language"
    }
    by_score = list(read_documents([tmp_path / "a.parquet"], "auto", Rows(at_most={"score": 2}), "s", None))
    assert [document.reason for document in by_score] == ["high_score", None]


@pytest.mark.parametrize(
    ("rows", "keys", "what"),
    [
        ([{"text": 7}], {}, "`text` holds something else than text"),
        ([{"text": None}], {}, "`text` holds something else than text"),
        ([{"text": "a", "score": "high"}], {"at_least": {"score": 1}}, "`score` holds something else than a number"),
        ([{"text": [{"role": "user", "body": "x"}]}], {}, "has no text `content`"),
        ([{"text": "a"}], {"where": {"lang": ["en"]}}, "`lang` is not in this file"),
        ([{"text": "a"}], {"template": "{title} {text}"}, "`title` is not in this file"),
    ],
)
def test_rows_of_wrong_types_and_columns(tmp_path: Path, rows: Any, keys: dict[str, Any], what: str) -> None:
    write(tmp_path / "a.jsonl.zst", rows)
    with pytest.raises(UserError) as caught:
        list(read_documents([tmp_path / "a.jsonl.zst"], "auto", Rows(**keys), "s", None))
    assert what in caught.value.what and caught.value.file == tmp_path / "a.jsonl.zst" and caught.value.remedy


def test_what_cannot_be_read_is_passed_over_and_told(tmp_path: Path) -> None:
    good = '{"text": "good"}\n'
    (tmp_path / "lines.jsonl").write_bytes(
        good.encode() + b'{"text": "cut\n[1]\n{"text": "\xff"}\n{"text": 3}\n' + good.encode()
    )
    write(tmp_path / "whole.parquet", [{"text": "row"}])
    content = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-40])
    lines = zstandard.compress((good * 5000).encode())
    (tmp_path / "cut.jsonl.zst").write_bytes(lines[: len(lines) // 2])
    (tmp_path / "latin.txt").write_bytes(b"\xe4")
    files = [tmp_path / name for name in ("lines.jsonl", "cut.parquet", "whole.parquet", "cut.jsonl.zst", "latin.txt")]
    told: list[UserError] = []
    rows = Rows(on_error="skip")
    documents = Counter(read_documents(files, "auto", rows, "s", told.append))
    assert documents[Document("row")] == 1 and documents[Document("", "wrong_type")] == 1
    assert 2 <= documents[Document("good")] < 5002
    assert Counter(Path(error.file).name for error in told) == {
        "lines.jsonl": 3, "cut.parquet": 1, "cut.jsonl.zst": 1, "latin.txt": 1
    }  # fmt: skip
    for file in files:
        if file.name != "whole.parquet":
            with pytest.raises(UserError):
                list(read_documents([file], "auto", rows, "s", None))


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_bytes_that_are_no_text_cost_their_row_alone(tmp_path: Path, ending: str) -> None:
    column = pa.array([b"good", b"b\xffd", b"also good", b"\xed\xa0\x80"]).view(pa.string())
    file = tmp_path / f"a.{ending}"
    table = pa.table({"text": column})
    if ending == "parquet":
        pq.write_table(table, file)
    else:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    told: list[UserError] = []
    kept = [document.text for document in read_documents([file], "auto", Rows(on_error="skip"), "s", told.append)]
    assert kept == ["good", "also good"] and [error.file for error in told] == [file, file]
    with pytest.raises(UserError, match="not UTF-8"):
        list(read_documents([file], "auto", Rows(), "s", None))


def test_a_lacking_column_is_never_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [{"body": "x"}])
    with pytest.raises(UserError, match="`text` is not in this file"):
        list(read_documents([tmp_path / "a.parquet"], "auto", Rows(on_error="skip"), "s", [].append))


def test_damage_names_the_source_and_what_helps(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no footer")
    with pytest.raises(UserError) as caught:
        list(read_documents([tmp_path / "a.parquet"], "auto", Rows(), "s", None))
    assert caught.value.key == "sources.s" and "on_error: skip" in caught.value.remedy


def test_a_tree_of_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "t/a.py",
        "t/deep/b.rs",
        "t/Makefile",
        "t/README.md",
        "t/.git/HEAD",
        "t/node_modules/x/c.js",
        "t/.env",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    files = data_files(PathDataset(path="t", format="code", content=""), None)
    assert [file.name for file in files] == ["Makefile", "README.md", "a.py", "b.rs"]
    rows = Rows(where={"language": ["Python", "Rust"]})
    kept = [document.text for document in read_documents(files, "code", rows, "s", None) if document.reason is None]
    assert kept == ["text of t/a.py", "text of t/deep/b.rs"]
    named = list(read_documents(files, "code", Rows(template="{path}"), "s", None, tmp_path / "t"))
    assert [document.text for document in named] == ["Makefile", "README.md", "a.py", "deep/b.rs"]


@pytest.mark.parametrize("template", ["{text!r}", "{text:>9}", "{text.upper}", "{0}", "{a b}", "{}"])
def test_a_template_holds_names_alone(template: str) -> None:
    with pytest.raises(ValueError, match="column's name"):
        Source(path="x", template=template)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder laid out as a dataset of the hub: a configuration with a split of three files."""
    for number in range(3):
        file = tmp_path / "data" / "en" / f"train-0000{number}-of-00003.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, [{"text": f"text {number}.{row}", "score": row} for row in range(4)])
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: train\n    path: data/en/train-*.parquet\n---\n"
    )
    return tmp_path


def on_hub(repository: Path, config: str = "en", split: str = "train") -> HubDataset:
    return HubDataset(hub=str(repository), config=config, split=split, files=[], revision=None)


def test_a_dataset_of_the_hub_is_read_in_parts(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    dataset, rows = on_hub(repository), Rows(at_least={"score": 1})
    count = hub.hub_parts(dataset, "s")
    assert count == 3
    parts = [list(hub.read_hub(dataset, rows, "s", number, count)) for number in range(count)]
    assert [[d.text for d in part if d.reason is None] for part in parts] == [
        [f"text {number}.{row}" for row in range(1, 4)] for number in range(3)
    ]
    assert list(hub.read_hub(dataset, rows, "s", 1, count)) == parts[1]


def test_a_column_that_the_dataset_lacks(repository: Path) -> None:
    with pytest.raises(UserError, match="`body` is not in this dataset") as caught:
        list(hub.read_hub(on_hub(repository), Rows(text="body"), "s", 0, 3))
    assert "use one of: text, score. Name" in caught.value.remedy and caught.value.key == "sources.s.text"


@pytest.mark.parametrize("keys", [{"config": "fr"}, {"split": "test"}])
def test_what_the_dataset_does_not_have(repository: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="cannot read the dataset") as caught:
        hub.hub_parts(on_hub(repository, **keys), "s")
    assert caught.value.key == "sources.s.hub"


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    place = HubDataset(hub="nobody/nothing-of-the-kind", config=None, split="train", files=[], revision="abc")
    with pytest.raises(UserError, match="cannot read the dataset") as caught:
        hub.hub_parts(place, "s")
    assert "HF_TOKEN" in caught.value.remedy and len(str(caught.value).splitlines()) <= 12


def test_a_dataset_of_the_hub_that_breaks_off(repository: Path) -> None:
    """What cannot be read to its end stops the step, also where damaged rows may be skipped: the network may be it."""
    file = repository / "data/en/train-00001-of-00003.parquet"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UserError, match="cannot read the dataset") as caught:
        list(hub.read_hub(on_hub(repository), Rows(on_error="skip"), "s", 1, 3))
    assert "Parts that were read are kept" in caught.value.remedy and len(str(caught.value).splitlines()) <= 12
