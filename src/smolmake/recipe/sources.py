"""The recipe's sections on data: where it lies, how it is cleaned and tokenized."""

from __future__ import annotations

import re
import string
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from smolmake.recipe.formats import list_data
from smolmake.recipe.types import (
    Count,
    Digest,
    FilePath,
    Filled,
    Fraction,
    GeneratedFiles,
    HubId,
    Name,
    Problem,
    Section,
    SourceName,
    exactly_one,
)
from smolmake.yaml_files import Ambiguous


def _certain(value: object) -> object:
    if isinstance(value, Ambiguous):
        raise Problem(
            "not the same in all versions of YAML",
            remedy=f"put it in quotes if it is a text: '{value}'; or write true, false, or a number in plain digits",
        )
    return value


Argument = Annotated[bool | int | float | str, BeforeValidator(_certain), Field(json_schema_extra={"format": "value"})]


class Files(Section):
    """Where data lies: your own `path`, a dataset of the Hugging Face `hub`, or what a program of yours `generated`."""

    path: FilePath | None = Field(None, description="A file, a folder or a glob, relative to the project's root.")
    hub: HubId | None = Field(None, description="A dataset of the Hugging Face hub instead: owner/name.")
    config: Filled | None = Field(None, description="The hub dataset's configuration.")
    split: Filled = Field("train", description="The hub dataset's split.")
    files: list[Filled] = Field(
        [], description="Patterns of file names inside the hub dataset; only these files are read, and no `config`."
    )
    revision: Filled | None = Field(
        None, description="The hub dataset's commit; without one, what the hub has that day."
    )
    generated: GeneratedFiles | None = Field(
        None,
        description="What a program of yours writes: NAME of the section `generated`, or NAME/FILE for a file, a "
        "folder or a glob of it.",
    )
    rows: Count | None = Field(None, ge=1, description="Known number of rows. For the plan alone: no result has it.")
    tokens: Count | None = Field(None, ge=1, description="Known number of tokens. For the plan alone.")
    tokens_from: str = Field("", description="Where the number of tokens comes from.")
    format: Literal["auto", "parquet", "arrow", "jsonl", "json", "csv", "tsv", "text", "code"] = Field(
        "auto",
        description="By default told from the file name: .parquet, .arrow, .jsonl, .json (an array, or a row a line), "
        ".csv, .tsv, else text; all but the first two also with .gz or .zst. `code` reads a tree of text files with "
        "the columns text, path and language.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.path, self.hub, self.generated)) != 1:
            raise ValueError(
                "give exactly one of `path` (your files), `hub` (a dataset of the hub) and `generated` (what a program "
                "of yours writes)"
            )
        if self.hub is None and (self.config is not None or self.revision is not None or self.files):
            raise ValueError("`config`, `files` and `revision` belong to a `hub` dataset")
        if self.config is not None and self.files:
            raise ValueError("give `config` or `files`, not both: each of them says which files are read")
        if ".." in Path(self.generated or "").parts or "//" in (self.generated or ""):
            raise Problem(
                "the file lies outside of what is generated", key="generated",
                remedy="name a file, a folder or a glob that the script writes under its output folder",
            )  # fmt: skip
        return self

    @property
    def is_read(self) -> bool:
        return True

    @model_validator(mode="after")
    def _there(self, info: ValidationInfo) -> Self:
        if info.context is not None and self.path is not None and self.is_read:
            check_files(self.path, self.format, "path", info.context["root"])
        return self


def check_files(pattern: str, asked: str, key: str, root: Path) -> None:
    """Raise an error for a file, a folder or a glob that has no content, read in the format that is asked."""
    listing = list_data(pattern, asked, root)
    if not listing.names and (root / pattern).is_dir():
        passed_over = "; ".join(f"{names[0]} is passed over: {why}" for why, names in listing.passed_over.items())
        what = "there is no file in this folder" + (f" that can be read: {passed_over}" if passed_over else "")
        raise Problem(what, key=key, remedy="put text, JSONL, CSV or Parquet files in it")
    if not listing.names:
        remedy = "the path is taken from the project's root; check its spelling"
        raise Problem("there is no such file", key=key, remedy=remedy)
    if not any(file.stat().st_size for file in listing.files):
        raise Problem("the file is empty", key=key, remedy="put data in it")


class Generated(Section):
    """Data that a program of yours writes, before anything reads it: a crawler, a converter, a generator.

    It runs as `python SCRIPT --output FOLDER --KEY VALUE ...` and again whenever one of these keys or its code changes.
    """

    script: FilePath = Field(
        ...,
        description="The program, relative to the project's root. It counts with every module that it imports from its "
        "own folder, byte by byte: comments too. Name other files by `Path(__file__)`: it starts in an empty folder.",
    )
    arguments: dict[str, Argument | list[Argument]] = Field(
        {},
        description="Its options: each becomes `--KEY VALUE`; a list is several values, true is `--KEY` alone.",
    )
    reads: list[FilePath] = Field(
        [], description="Other files that it reads (paths or globs from the project's root): their content counts too."
    )
    packages: list[Filled] = Field([], description="Installed packages whose versions change what it writes.")
    python: bool = Field(False, description="Whether Python's version changes what it writes.")

    @field_validator("arguments")
    @classmethod
    def _options(cls, arguments: dict[str, object]) -> dict[str, object]:
        for key in arguments:
            if not re.fullmatch(r"[A-Za-z][\w-]*", key) or key == "output":
                raise ValueError(
                    f"`{key}` cannot be an option: use letters, digits, `_`, `-`; `output` is given anyway"
                )
        return arguments

    @model_validator(mode="after")
    def _there(self, info: ValidationInfo) -> Self:
        if info.context is None:
            return self
        if not (info.context["root"] / self.script).is_file():
            remedy = "the path is taken from the project's root; check its spelling"
            raise Problem("there is no such script", key="script", remedy=remedy)
        for pattern in self.reads:
            check_files(pattern, "text", "reads", info.context["root"])
        for package in self.packages:
            if not any(metadata.distributions(name=package)):
                remedy = f"install `{package}`, or take it out if the script does not read it"
                raise Problem("this package is not installed", key="packages", remedy=remedy)
        return self


class Adopted(Section):
    """Something that exists already: it is used where it lies, under its digest, and never copied or changed."""

    path: FilePath = Field(..., description="Its folder, relative to the project's root.")
    digest: Digest = Field(..., description="The digest of its files; `smolmake adopt FOLDER` prints it.")


class Rows(Section):
    """Which rows of a dataset become documents, and how."""

    text: Filled = Field("text", description="The column that holds a document's text, in files of rows.")
    template: str | None = Field(
        None, description="Text made of several columns instead, such as `{question}\\n\\n{answer}`."
    )
    turn: str = Field(
        "{role}: {content}\n\n", description="How a turn is written where a column holds a dialogue (a list of turns)."
    )
    where: dict[str, Annotated[list[Argument], Field(min_length=1)]] = Field(
        {}, description="Rows to keep: those whose column has one of these values, such as `lang: [Python]`."
    )
    at_least: dict[str, float] = Field(
        {}, description="Rows to keep: those whose column is no lower, such as a quality score `{int_score: 3}`."
    )
    at_most: dict[str, float] = Field({}, description="Rows to keep: those whose column is no higher.")
    on_error: Literal["stop", "skip"] = Field(
        "stop", description="What a damaged line or file does: stop the run, or be passed over and counted."
    )

    @field_validator("template", "turn")
    @classmethod
    def _only_names(cls, template: str | None) -> str | None:
        for _, name, spec, conversion in string.Formatter().parse(template or ""):
            if name is not None and (not name.isidentifier() or spec or conversion):
                raise ValueError(f"`{{{name}}}` is not a column's name; write {{{{ and }}}} for braces in the text")
        return template


class Source(Rows, Files):
    """A dataset of documents for pretraining."""

    special_tokens: bool = Field(
        False, description="Whether text such as <|im_start|> in the documents stands for that special token."
    )
    duplicates_of: list[SourceName] = Field(
        [], description="Sources whose documents are dropped here, exact and near duplicates as `cleaning` says."
    )
    domain: Name = Field("web", description="What it is for the mixture and the report: web, code, math, ...")
    language: str = Field("en", description="Language code of the text, or the programming language.")
    licence: str = Field("unknown", description="The licence, kept as provenance and shown in the report.")
    max_epochs: float = Field(
        4.0, gt=0, description="Repeat cap: more epochs than this over stages 1 to 3 is an error."
    )
    replaces: str = Field("", description="The data set that is not public and that this one replaces.")
    shards: Adopted | None = Field(
        None, description="Token shards made before (a folder results/shards/...): nothing is read or tokenized."
    )

    @model_validator(mode="after")
    def _keeps_rows(self) -> Self:
        for column in self.at_least.keys() & self.at_most.keys():
            if self.at_least[column] > self.at_most[column]:
                raise ValueError(f"no row has a `{column}` that is within at_least and at_most")
        return self

    @property
    def is_read(self) -> bool:
        """Whether its text is read: not where its token shards are there."""
        return self.shards is None


class RepeatedNgrams(Section):
    """Removal of documents that repeat themselves, as in OLMo 2."""

    longest: Count = Field(13, ge=1, le=64, description="Longest span that is looked at, in words and signs.")
    times: Count = Field(32, ge=2, description="A document with a span repeated so often in a row is dropped.")


class NearDuplicates(Section):
    """MinHash near-duplicate removal."""

    similarity: Fraction = Field(0.8, description="Jaccard similarity from which two documents count as duplicates.")
    ngram: Count = Field(5, ge=1, description="Words per shingle.")
    permutations: Count = Field(64, ge=16, description="MinHash permutations.")


class CleaningRules(Section):
    """What is done to the documents of a source."""

    min_characters: Count = Field(200, ge=0, description="Shorter documents are dropped.")
    max_characters: Count = Field(100_000, ge=1, description="Longer documents are dropped.")
    repeated_ngrams: RepeatedNgrams | None = Field(
        RepeatedNgrams(), description="Documents that repeat a short span are dropped; null switches it off."
    )
    exact_duplicates: bool = Field(True, description="Drop documents whose text was seen before in the source.")
    near_duplicates: NearDuplicates | None = Field(None, description="MinHash settings; null switches it off.")
    decontaminate_ngram: Count = Field(
        13, ge=3, description="A document that shares a run of this many words with an evaluation item is dropped."
    )
    heldout_fraction: float = Field(0.02, ge=0, lt=0.5, description="Share of documents kept out for held-out loss.")


class Cleaning(CleaningRules):
    """Filtering, duplicate removal, decontamination and the held-out split, the same for all sources."""

    decontamination: Literal["filter", "measure"] = Field(
        "filter",
        description="filter: drop documents that overlap with an evaluation item. measure: keep them and count the "
        "overlap in steps of their own, so that a task can be added without touching what was trained.",
    )

    @model_validator(mode="after")
    def _keeps_documents(self) -> Self:
        if self.min_characters > self.max_characters:
            raise ValueError("no document is within min_characters and max_characters")
        return self


class TokenizerFiles(Section):
    """A tokenizer that exists, for the comparison."""

    hub: HubId | None = Field(None, description="The tokenizer of this model of the hub.")
    revision: Filled | None = Field(None, description="The hub model's commit.")
    path: FilePath | None = Field(None, description="The folder of its tokenizer.json, relative to the project's root.")

    @model_validator(mode="after")
    def _one_place(self, info: ValidationInfo) -> Self:
        check_tokenizer(self.path, info)
        return exactly_one(self, "hub", "path")


def check_tokenizer(folder: str | None, info: ValidationInfo) -> None:
    """Raise an error for a folder without a tokenizer, where the project's root is known."""
    if folder is not None and info.context and not (info.context["root"] / folder / "tokenizer.json").is_file():
        remedy = "give the folder that holds it, from the project's root"
        raise Problem("there is no tokenizer.json in this folder", key="path", remedy=remedy)


VocabularySize = Annotated[Count, Field(ge=300)]


class Tokenizer(Section):
    """A byte-level BPE tokenizer trained on the cleaned sources, digits split one by one; or one that exists."""

    vocab_size: VocabularySize = Field(..., description="Entries of the vocabulary, special tokens included.")
    hub: HubId | None = Field(None, description="Take the tokenizer of this model of the hub instead of training one.")
    revision: Filled | None = Field(None, description="The hub model's commit.")
    path: FilePath | None = Field(None, description="Take the tokenizer.json of this folder instead of training one.")
    characters_per_source: Count = Field(300_000, ge=1_000, description="How much of each source it is trained on.")
    compare_sizes: list[VocabularySize] = Field(
        [], description="Other vocabulary sizes to train and compare in the analysis."
    )
    compare_with: dict[Name, TokenizerFiles] = Field({}, description="Existing tokenizers for the analysis, by name.")

    @model_validator(mode="after")
    def _one_origin(self, info: ValidationInfo) -> Self:
        check_tokenizer(self.path, info)
        if self.hub is not None and self.path is not None:
            raise ValueError("give `hub` or `path`, not both")
        return self
