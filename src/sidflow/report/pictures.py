"""Items as tiles: a thumbnail as a data URI, or the title where there is no picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

from PIL import Image, UnidentifiedImageError

from sidflow.report.markup import Markup, tag


class Gallery:
    """Makes tiles of items. The page holds each picture once, as a CSS background that all its tiles share."""

    def __init__(self, pictures: Mapping[int, bytes], titles: Mapping[int, str], side: int, quality: int) -> None:
        """Take JPEG pictures and titles by item_id; thumbnails have at most `side` pixels a side."""
        self._pictures, self._titles = pictures, titles
        self._side, self._quality = side, quality
        self._used: dict[int, str | None] = {}

    def title(self, item: int) -> str:
        """Return the item's title, or its key where the title is empty."""
        return self._titles[item]

    def tile(self, item: int, mark: str = "", note: str = "") -> Markup:
        """Return an item as a tile; `mark` is a CSS class (`hit`, `target`), `note` a caption in place of the title."""
        title = self.title(item)
        if self._thumbnail(item) is None:
            face = tag("span", title, class_="face words", title=title)
        else:
            face = tag("span", class_=f"face p{item}", role="img", aria_label=title, title=title)
        caption = tag("figcaption", note or title, title=title)
        return tag("figure", face, caption, class_=f"tile {mark}".strip())

    def style(self) -> str:
        """Return the CSS with the pictures of all tiles so far."""
        return "\n".join(
            f".p{item}{{background-image:url({data})}}" for item, data in sorted(self._used.items()) if data is not None
        )

    def _thumbnail(self, item: int) -> str | None:
        if item not in self._used:
            self._used[item] = self._encode(self._pictures.get(item))
        return self._used[item]

    def _encode(self, packed: bytes | None) -> str | None:
        if packed is None:
            return None
        try:
            with Image.open(io.BytesIO(packed)) as picture:
                small = picture.convert("RGB")
        except (UnidentifiedImageError, OSError):
            return None
        small.thumbnail((self._side, self._side))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=self._quality)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
