"""Files written by libraries that hide a full disk: torch answers with an error of its archive,
numpy with a count of bytes, OpenCV with False.

    with writing(path) as file:
        torch.save(weights, file)

What the system said is what is raised.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np

from mimic.infra.storage import replacing


@contextlib.contextmanager
def writing(path: Path, *, new: bool = False) -> Iterator[IO[bytes]]:
    """A file to write to, which gets its name when the block ends well; see `storage.replacing`.

    Raises:
        OSError: it cannot be written, whatever the library in the block makes of that.
    """
    with replacing(path, new=new) as scratch, scratch.open("wb", buffering=0) as raw:
        file = _Truthful(raw)
        try:
            yield cast(IO[bytes], file)
            file.flush()
        except Exception as error:
            if file.error is not None and error is not file.error:
                raise file.error from None
            raise


class _Truthful(io.BufferedWriter):
    """Remembers why it could not write. It is no file to numpy, which would write behind its
    back."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(_Remembering(raw))

    @property
    def error(self) -> OSError | None:
        assert isinstance(self.raw, _Remembering)
        return self.raw.error


class _Remembering(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int | None:
        try:
            return self._raw.write(data)  # type: ignore[arg-type]
        except OSError as error:
            self.error = self.error or error
            raise


def write_picture(path: Path, image: np.ndarray) -> None:
    """An image file, of the kind that its name says.

    Args:
        image: uint8 or uint16[h, w] or [h, w, 3], blue first, as OpenCV counts.

    Raises:
        OSError: it cannot be written.
    """
    import cv2

    encoded, data = cv2.imencode(path.suffix, image)
    if not encoded:
        raise ValueError(f"{path.name}: OpenCV cannot encode {image.dtype}{list(image.shape)}")
    path.write_bytes(data.tobytes())
