"""Options of the retrieval route."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from backends.base import BackendOptions
from backends.fields import (
    AbsolutePath,
    DynamicBatching,
    Instances,
    QueueDelay,
    Threads,
    VariableName,
    extra,
)


def _url(value: str) -> str:
    if not value:
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("postgresql", "postgres", "http", "https") or not parts.netloc:
        raise ValueError("postgresql://USER@HOST:PORT/DATABASE, or http://HOST:PORT of Qdrant")
    if parts.password or re.search(r"(^|[?&])password=", parts.query):
        raise ValueError("no password in the address: name a variable or a file that holds it")
    return value


Url = Annotated[str, AfterValidator(_url), Field(max_length=500)]
Collection = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class RetrievalOptions(BackendOptions):
    """How the towers are exported and run, and where their vectors are kept."""

    device: Literal["cpu", "cuda"] = Field(
        "cpu",
        title="Device",
        description="Where the towers run. cuda needs a GPU here and onnxruntime-gpu, or Triton's own "
        "onnxruntime backend.",
        json_schema_extra=extra("Export"),
    )
    opset: int = Field(
        17,
        ge=14,
        le=21,
        title="ONNX opset",
        description="Version of the operator set that the towers are exported with.",
        json_schema_extra=extra("Export", flag="--opset"),
    )
    tolerance: float = Field(
        1e-4,
        gt=0,
        le=1,
        title="Tolerance",
        description="Largest difference between ONNX Runtime and PyTorch in any number of a vector of "
        "length 1. Past it, nothing is served.",
        json_schema_extra=extra("Export"),
    )
    form: Literal["auto", "onnxruntime", "python"] = Field(
        "auto",
        title="Serving form",
        description="onnxruntime: the towers run in Triton's onnxruntime backend. python: our python "
        "model runs ONNX Runtime, with the same answers. auto: what the server has.",
        json_schema_extra=extra("Serving"),
    )
    max_batch_size: int = Field(
        16,
        ge=1,
        le=1024,
        title="Largest batch",
        description="How many images or texts the server may run at once.",
        json_schema_extra=extra("Serving", flag="max_batch_size"),
    )
    dynamic_batching: DynamicBatching = True
    max_queue_delay_us: QueueDelay = 0
    instance_count: Instances = Field(
        1,
        title="Instances of the towers",
        description="How many copies of each tower run side by side; each needs its own memory.",
    )
    front_instances: int = Field(
        1,
        ge=1,
        le=64,
        title="Instances in front",
        description="How many processes decode images, make tokens and search, of each kind.",
        json_schema_extra=extra("Serving"),
    )
    threads: Threads = Field(0, title="Threads of one tower")
    verbose: bool = Field(
        False,
        title="Verbose log",
        description="Log each batch of a tower with its time.",
        json_schema_extra=extra("Serving"),
    )
    store: Literal["postgresql", "qdrant"] = Field(
        "postgresql",
        title="Store",
        description="postgresql: PostgreSQL with pgvector, vectors and documents in one database. "
        "qdrant: Qdrant.",
        json_schema_extra=extra("Store"),
    )
    store_url: Url = Field(
        "",
        title="Address of the store",
        description="postgresql://USER@HOST:PORT/DATABASE, or http://HOST:PORT of Qdrant. Empty: a "
        "server of the deployment's own, in its work folder, for this user alone.",
        json_schema_extra=extra("Store"),
    )
    store_password_env: VariableName = Field(
        "",
        title="Password variable",
        description="Name of the environment variable that holds the password, or Qdrant's API key.",
        json_schema_extra=extra("Store"),
    )
    store_password_file: AbsolutePath = Field(
        "",
        max_length=1000,
        title="Password file",
        description="Absolute path of a file (0600) that holds the password, or Qdrant's API key.",
        json_schema_extra=extra("Store"),
    )
    collection: Collection = Field(
        "records",
        title="Collection",
        description="Name of the set of records in the store.",
        json_schema_extra=extra("Store"),
    )
    hnsw_m: int = Field(
        16,
        ge=2,
        le=100,
        title="HNSW neighbours",
        description="Links of each vector in the index (m): more find more and cost memory.",
        json_schema_extra=extra("Store", flag="m"),
    )
    hnsw_ef_construction: int = Field(
        64,
        ge=4,
        le=1000,
        title="HNSW build width",
        description="Candidates while the index is built (ef_construction); at least twice m.",
        json_schema_extra=extra("Store", flag="ef_construction"),
    )
    ef_search: int = Field(
        100,
        ge=1,
        le=1000,
        title="HNSW search width",
        description="Candidates while the index is searched (ef_search): more find more, slower.",
        json_schema_extra=extra("Store", flag="ef_search"),
    )
    build_memory_mb: int = Field(
        512,
        ge=64,
        le=1_000_000,
        title="Memory of an index build",
        description="What PostgreSQL may use while it builds an index (maintenance_work_mem). An index "
        "that fits is built several times faster.",
        json_schema_extra=extra("Store", unit="MB", flag="maintenance_work_mem"),
    )
    top: int = Field(
        5,
        ge=1,
        le=1000,
        title="Records of an answer",
        description="How many records a request gets that does not say.",
        json_schema_extra=extra("Search"),
    )
    image_searches: Literal["text", "image"] = Field(
        "text",
        title="An image searches",
        description="text: the records' captions (what is in this image?). image: the records' images "
        "(what looks like it?).",
        json_schema_extra=extra("Search"),
    )
    text_searches: Literal["auto", "image", "text", "sentence"] = Field(
        "auto",
        title="A text searches",
        description="image: the records' images. text: their captions, by the text tower. sentence: "
        "their captions, by the sentence encoder. auto: sentence where there is one, else image.",
        json_schema_extra=extra("Search"),
    )

    @model_validator(mode="after")
    def _whole(self) -> RetrievalOptions:
        http = self.store_url.startswith(("http://", "https://"))
        if self.store_url and http != (self.store == "qdrant"):
            raise ValueError(f"store_url is no address of {self.store}")
        if self.store_password_env and self.store_password_file:
            raise ValueError("give store_password_env or store_password_file, not both")
        if self.hnsw_ef_construction < 2 * self.hnsw_m:
            raise ValueError("hnsw_ef_construction is at least twice hnsw_m")
        return self
