"""Frames of our own models → an MP4 file that plays in browsers, frame by frame as they are made.

What comes in is trusted (a model of this process made it), so this runs where the model runs. Memory holds the encoded
frames, never the raw ones: the file begins with its index, which is known only with the last frame, as its rate is.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from handlers.types import Picture

if TYPE_CHECKING:
    import av

MEDIA_TYPE = "video/mp4"
THUMBNAIL_TYPE = "image/webp"
# The first that this build of FFmpeg has; all of them play in browsers. Frames in the order in which they are shown.
_CODECS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "fast", "bf": "0"},
    "libopenh264": {"b": "8000000"},
    "h264_videotoolbox": {"b": "8000000", "bf": "0"},
    "libvpx-vp9": {"crf": "24", "b": "0", "cpu-used": "4", "lag-in-frames": "0"},
}
_BT709 = 1  # as FFmpeg numbers it, for matrix, primaries and transfer alike
_FORMATS = {1: "gray", 3: "rgb24", 4: "rgba"}
_RATE = 24  # frames a second while the real rate is not known; the encoder plans with it
_FINEST = 1001  # denominators of rates, such as 30000/1001
_INDEX = 4096  # bytes that the index takes without any frame
_INDEX_ENTRY = 24  # bytes of it for each frame
_THUMBNAIL = 512  # pixels of its longer side


class VideoEncoder:
    """Encodes one video; every frame has the same size. An odd size is made even by doubling its last row or column.

    A call may take some tens of milliseconds: keep it off the event loop. One that is left unfinished must be closed.
    """

    def __init__(self) -> None:
        self._encoded = io.BytesIO()
        self._container: Any = None
        self._stream: Any = None
        self.frames = 0
        self.size = (0, 0)

    def add(self, picture: Picture) -> None:
        frame = _frame(picture)
        if self._container is None:
            self._open(frame)
        # Marked as what it is now, so that players need not guess how the colours were computed.
        converted = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        converted.pts, converted.time_base = self.frames, Fraction(1, _RATE)
        self._container.mux(self._stream.encode(converted))
        self.frames += 1

    def finish(self, rate: float) -> bytes:
        """The file, at ``rate`` frames a second. Raises ``ValueError`` where there was no frame."""
        if self._container is None:
            raise ValueError("a video has at least one frame")
        self._container.mux(self._stream.encode(None))
        self.close()
        return _with_index_first(self._encoded, Fraction(rate).limit_denominator(_FINEST), self.frames)

    def close(self) -> None:
        """Give up what is held; not while another thread is in a call."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self, frame: av.VideoFrame) -> None:
        import av

        name = next(name for name in _CODECS if name in av.codecs_available)
        self._container = av.open(self._encoded, "w", format="matroska")
        self._stream = self._container.add_stream(name, rate=_RATE, options=_CODECS[name])
        self._stream.width, self._stream.height = self.size = frame.width, frame.height
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.color_range, context.colorspace = 1, _BT709
        context.color_primaries, context.color_trc = _BT709, _BT709


def thumbnail(picture: Picture) -> bytes:
    """The picture as a small WebP."""
    from PIL import Image

    mode = {1: "L", 3: "RGB", 4: "RGBA"}[picture.channels]
    image = Image.frombytes(mode, (picture.width, picture.height), picture.pixels)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    target = io.BytesIO()
    image.save(target, "WEBP", quality=80)
    return target.getvalue()


def _frame(picture: Picture) -> av.VideoFrame:
    import av
    import numpy as np

    shape = (picture.height, picture.width) if picture.channels == 1 else (picture.height, picture.width, picture.channels)
    pixels = np.frombuffer(picture.pixels, np.uint8).reshape(shape)
    odd = ((0, picture.height % 2), (0, picture.width % 2), (0, 0))[: pixels.ndim]
    return av.VideoFrame.from_ndarray(np.pad(pixels, odd, mode="edge"), format=_FORMATS[picture.channels])


def _with_index_first(encoded: io.BytesIO, rate: Fraction, frames: int) -> bytes:
    """The same frames in an MP4 whose index comes first, so that it plays while it is fetched."""
    import av

    encoded.seek(0)
    target = io.BytesIO()
    room = {"moov_size": str(_INDEX + _INDEX_ENTRY * frames)}
    with av.open(encoded) as source, av.open(target, "w", format="mp4", options=room) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        number = 0
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            packet.stream, packet.time_base = stream, 1 / rate
            packet.pts = packet.dts = number
            packet.duration = 1
            container.mux(packet)
            number += 1
    return target.getvalue()
