"""Frames to mp4 and gif, through the ffmpeg that imageio-ffmpeg brings.

Equal frames give equal bytes. imageio-ffmpeg's own writer is not used because it does
not say when ffmpeg fails.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import TemporaryFile
from typing import NamedTuple

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from warpzone.core.errors import InputError

_CRF = 18
"""x264's quality: visually lossless."""
_GIF_FINAL_DELAY = 100
"""How long the last frame stays before the loop starts again, in 1/100 s."""


class Gif(NamedTuple):
    """An animation with one palette of up to 256 colours, which loops."""

    path: Path
    fps: int
    """Pictures a second, chosen from the frames. All of them are held in memory, as
    the palette is chosen by all."""
    width: int
    """In pixels."""


def write_mp4(
    path: Path,
    frames: Iterable[np.ndarray],
    fps: int,
    scale: int,
    gif: Gif | None = None,
) -> int:
    """Write an H.264 video that browsers play, and return the number of frames.

    Args:
        path: Where to. The file is written beside it and renamed.
        frames: Each of the shape ``(height, width, 3)``, uint8, RGB. One is held in
            memory at a time.
        fps: Frames a second.
        scale: Every pixel becomes a square of this many. It has to make height and
            width even, as yuv420p needs; with 2 or more, no colour is blurred.
        gif: Written from the same frames, if given.

    Raises:
        InputError: If ffmpeg cannot be run or fails. Nothing is written then.
        ValueError: If there are no frames.
    """
    outputs: dict[Path, tuple[str, ...]] = {
        path: (
            "-vf",
            f"scale=iw*{scale}:ih*{scale}:flags=neighbor+accurate_rnd+bitexact"
            ":out_color_matrix=bt709:out_range=tv,format=yuv420p,"
            "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709",
            *("-c:v", "libx264", "-preset", "medium", "-crf", str(_CRF)),
            # Otherwise the bytes depend on the number and the kind of the CPU's cores.
            *("-threads", "1", "-x264-params", "cpu-independent=1"),
            # The index goes first, so that a browser starts before it has all.
            *("-movflags", "+faststart", "-f", "mp4"),
        )
    }
    if gif is not None:
        outputs[gif.path] = (
            "-vf",
            f"fps={gif.fps},scale={gif.width}:-1:flags=area+accurate_rnd+bitexact,"
            "split[frames][copy];[copy]palettegen[palette];"
            # Dithering would make still areas flicker, and the file much larger.
            "[frames][palette]paletteuse=dither=none:diff_mode=rectangle",
            *("-final_delay", str(_GIF_FINAL_DELAY), "-threads", "1", "-f", "gif"),
        )
    return _encode(outputs, frames, fps)


def _encode(
    outputs: Mapping[Path, Sequence[str]], frames: Iterable[np.ndarray], fps: int
) -> int:
    """Let ffmpeg encode the frames into files, and return how many it took."""
    path = next(iter(outputs))
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"no frames for {path.name}")
    height, width, _ = first.shape
    besides = {path: path.with_name(f".{path.name}.partial") for path in outputs}
    arguments = [
        *("-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", str(fps), "-i", "-"),
    ]
    for output, options in outputs.items():
        output.parent.mkdir(parents=True, exist_ok=True)
        # No date, no version of the encoder.
        arguments += ("-map_metadata", "-1", "-fflags", "+bitexact")
        arguments += ("-flags", "+bitexact", *options, str(besides[output]))
    count = 0
    try:
        with TemporaryFile() as log:
            try:
                process = Popen([get_ffmpeg_exe(), *arguments], stdin=PIPE, stderr=log)
            except (OSError, RuntimeError) as error:
                raise InputError(f"{path}: ffmpeg cannot be run: {error}") from error
            # Its end is a broken pipe here; the exit code and the log say more.
            with suppress(BrokenPipeError), process:
                try:
                    for frame in chain([first], frames):
                        process.stdin.write(np.ascontiguousarray(frame).data)  # pyright: ignore[reportOptionalMemberAccess]
                        count += 1
                except BaseException:
                    process.kill()
                    raise
            if process.returncode != 0:
                log.seek(0)
                lines = log.read().decode(errors="replace").splitlines()
                reason = next(filter(str.strip, lines), "it does not say why").strip()
                raise InputError(
                    f"{path}: ffmpeg failed with exit code {process.returncode}: "
                    f"{reason}"
                )
        for output, beside in besides.items():
            beside.replace(output)
    finally:
        for beside in besides.values():
            beside.unlink(missing_ok=True)
    return count
