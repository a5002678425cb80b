"""Params of `ingest`: which source, how it is filtered, and how large pictures may be."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sidflow.catalog.text_files import Encoding
from sidflow.core.params import Params

SOURCE_NAMES = ("synthetic", "movielens", "amazon", "sequences", "minionerec", "recbole", "files")
Repeats = Literal["keep", "drop_consecutive", "first"]
SortedSequences = Literal["refuse", "accept"]


def set_by_user(params: Params, name: str) -> bool:
    """Return whether the user has set the file name in the field `name`: it is neither empty nor the default."""
    value = getattr(params, name)
    return bool(value) and value != type(params).model_fields[name].default


class PictureParams(Params):
    """Limits on pictures, checked before a single pixel is decoded."""

    max_bytes: int = Field(default=20_000_000, gt=0, description="bytes of a file; larger ones are refused unread")
    max_pixels: int = Field(
        default=40_000_000, gt=0, description="pixels, width x height; larger ones are refused before decoding"
    )
    max_side: int = Field(default=160, ge=16, le=2048, description="pixels; longer sides are reduced to it")
    quality: int = Field(default=85, ge=30, le=95, description="JPEG quality of the packed picture")


class SyntheticParams(Params):
    """Size and nature of the synthetic catalogue."""

    users: int = Field(default=1500, ge=10, le=200_000, description="users")
    items: int = Field(default=500, ge=24, le=8000, description="products, those of hardly any demand included")
    mean_length: float = Field(default=13.0, ge=7, le=200, description="events per user on average, never fewer than 6")
    truth_positions: int = Field(
        default=2, ge=0, le=5, description="last events of each user for which the true probabilities are kept"
    )
    late_share: float = Field(
        default=0.10,
        ge=0,
        le=0.5,
        description="share of products released near the end of the period, with a raised demand",
    )
    unwanted_share: float = Field(
        default=0.06, ge=0, le=0.5, description="share of products with hardly any demand, so outside the core"
    )
    pictureless_share: float = Field(default=0.04, ge=0, le=1, description="share of products without a picture")
    textless_share: float = Field(default=0.03, ge=0, le=1, description="share of products without a text")
    basket_share: float = Field(
        default=0.10, ge=0, le=0.9, description="share of events in the same second as the event before"
    )
    picture_side: int = Field(default=128, ge=32, le=512, description="pixels of a side of a picture")
    popularity: float = Field(
        default=0.8, ge=0, le=5, description="effect of a product's demand on its score, in log units"
    )
    taste: float = Field(default=4.5, ge=0, le=20, description="effect of the user's styles, in log units")
    colour: float = Field(default=1.6, ge=0, le=20, description="effect of the user's colour, in log units")
    transition: float = Field(
        default=1.2, ge=0, le=20, description="effect of the category that usually follows the last one, in log units"
    )
    companion: float = Field(
        default=2.2, ge=0, le=20, description="effect of the two products that go with the last one, in log units"
    )


class MovielensParams(Params):
    """Reading of a GroupLens folder."""

    min_rating: float = Field(default=0.0, ge=0, le=5, description="stars; lower ratings are no interactions")
    require_poster: bool = Field(default=False, description="true: ratings of films without a picture are dropped")
    details: str = Field(default="details.jsonl", description="file of plots and people, where the folder has one")
    posters: str = Field(default="posters", description="folder of <movieId>.jpg")


class AmazonParams(Params):
    """Reading of Amazon Reviews files."""

    reviews: str = Field(default="", description="file pattern; empty: the JSON file that is not `meta*`")
    metadata: str = Field(default="", description="file pattern; empty: `meta*`")
    images: str = Field(default="images", description="folder of pictures by item key")
    min_rating: float = Field(default=0.0, ge=0, le=5, description="stars; lower ratings are no interactions")


class SequencesParams(Params):
    """Reading of published sequences."""

    sequences: str = Field(default="", description="file pattern of the histories; empty: the usual names")
    items: str = Field(default="", description="file pattern of the items' texts; empty: the usual names")
    user: str = Field(default="user", min_length=1, description="name of the user in lines of JSONL histories")
    history: str = Field(default="items", min_length=1, description="name of the items in lines of JSONL histories")
    item: str = Field(default="item", min_length=1, description="name of the item in lines of a JSONL file of texts")
    images: str = Field(default="images", description="folder of pictures by item key")


class FilesParams(Params):
    """Reading of CSV or Parquet files."""

    interactions: str = Field(default="interactions.*", description="file pattern of the interactions")
    items: str = Field(default="items.*", description="file pattern of the items")
    images: str = Field(default="images", description="folder of pictures by item key")
    user: str = Field(default="user_id", min_length=1, description="column of users")
    item: str = Field(default="item_id", min_length=1, description="column of items, in both files")
    timestamp: str = Field(default="timestamp", description="column of times; empty: the order of the rows")
    timestamp_unit: Literal["s", "ms", "us", "ns", "position"] = Field(
        default="s", description="s | ms | us | ns, of numeric times; position: numbers that only order the events"
    )
    title: str = Field(default="", description="column of the items file; empty: `title` where there is one")
    description: str = Field(
        default="", description="column of the items file; empty: `description` where there is one"
    )
    brand: str = Field(default="", description="column of the items file; empty: `brand` where there is one")
    categories: str = Field(default="", description="column of the items file; empty: `categories` where there is one")
    category_separator: str = Field(default="|", description="text between two categories")
    attributes: tuple[str, ...] = Field(default=(), description="further columns of the items file")


class RecboleParams(Params):
    """Reading of RecBole's atomic files."""

    interactions: str = Field(default="*.inter", description="file pattern of the interactions")
    items: str = Field(default="*.item", description="file pattern of the items")
    images: str = Field(default="images", description="folder of pictures by item key")
    user: str = Field(default="user_id", min_length=1, description="field of users, without its type")
    item: str = Field(default="item_id", min_length=1, description="field of items, in both files")
    timestamp: str = Field(default="timestamp", description="field of times; empty: the order of the rows")
    timestamp_unit: Literal["s", "ms", "us", "ns"] = Field(
        default="s", description="s | ms | us | ns, of numeric times"
    )
    rating: str = Field(default="rating", description="field of ratings, for `min_rating` alone")
    min_rating: float = Field(default=0.0, ge=0, description="lower ratings are no interactions; 0: all are")
    title: str = Field(default="", description="field of titles; empty: title, movie_title, item_name or name")
    categories: str = Field(default="", description="field of categories; empty: categories, class, genre or the like")


class MinionerecParams(Params):
    """Reading of MiniOneRec's published histories."""

    name: str = Field(
        default="*", min_length=1, description="pattern of one category's files in train, valid, test and info"
    )
    images: str = Field(default="images", description="folder of pictures by item key")


class IngestParams(Params):
    """Source of the raw data, and what of it enters the catalogue."""

    source: Literal["synthetic", "movielens", "amazon", "sequences", "minionerec", "recbole", "files"] = Field(
        default="synthetic", description="synthetic | movielens | amazon | sequences | minionerec | recbole | files"
    )
    path: str = Field(
        default="presets/grammar.yaml",
        description="file or folder of the raw data; of `synthetic`: its grammar of products",
    )
    seed: int = Field(
        default=7, ge=0, description="of the synthetic catalogue alone; model seeds do not change the data"
    )
    tie_seed: int = Field(default=11, ge=0, description="of the hash that orders events of the same second")
    min_user_events: int = Field(default=5, ge=1, description="events; users with fewer leave the k-core, 1 keeps all")
    min_item_events: int = Field(default=5, ge=1, description="events; items with fewer are outside the k-core")
    repeats: Repeats = Field(
        default="keep",
        description="keep | drop_consecutive (A A B A -> A B A) | first (A A B A -> A B), before the k-core",
    )
    sorted_sequences: SortedSequences = Field(
        default="refuse",
        description="refuse | accept: without a clock, sequences in the order of keys, file rows or popularity",
    )
    outside_core: Literal["all", "seen", "none"] = Field(
        default="all", description="items outside the core that stay in the catalogue: all | seen (have events) | none"
    )
    encoding: Encoding = Field(
        default="utf-8",
        description="of text: utf-8 | utf-16 | cp1252 (Windows) | latin-1 | cp1250 | cp1251 | gb18030 | big5 | "
        "shift_jis | euc_kr",
    )
    max_bad_lines: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of a file's JSON lines; with more broken than this and than 10, or than half, it is refused",
    )
    max_text: int = Field(default=4000, ge=100, description="characters of a title or description, cut at a word")
    pictures: PictureParams = Field(default=PictureParams(), description="limits on pictures")
    synthetic: SyntheticParams = Field(default=SyntheticParams(), description="of source synthetic")
    movielens: MovielensParams = Field(default=MovielensParams(), description="of source movielens")
    amazon: AmazonParams = Field(default=AmazonParams(), description="of source amazon")
    sequences: SequencesParams = Field(default=SequencesParams(), description="of source sequences")
    minionerec: MinionerecParams = Field(default=MinionerecParams(), description="of source minionerec")
    recbole: RecboleParams = Field(default=RecboleParams(), description="of source recbole")
    files: FilesParams = Field(default=FilesParams(), description="of source files")

    def unused(self) -> frozenset[str]:
        """Return the sections of the other sources."""
        return frozenset(set(SOURCE_NAMES) - {self.source})
