"""mien face encode | decode: single faces, without Beam."""

import argparse
import contextlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mien.models import FaceCodec
from mien.models.errors import ImageError, one_line
from mien.models.faces import SIZE, FaceDetector, FaceLandmarker, align_face, check_reading, face_transform, is_clear
from mien.models.images import decode_image, encode_image
from mien.models.runtime import cores, tune_process
from mien.pipelines import JobError
from mien.pipelines.failures import write_failures
from mien.transforms.stores import common_root, name_under, output_name, printable, whole_local_file

_MAX_BYTES = 200_000_000


class FaceFinder:
    """A picture's aligned face. The detectors are loaded when the first picture needs them, and freed by close()."""

    def __init__(self) -> None:
        self._models: tuple[FaceDetector, FaceLandmarker] | None = None

    def close(self) -> None:
        """Frees the detectors."""
        for model in self._models or ():
            model.close()

    def face_of(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The picture itself if it is 512 x 512, else its largest face, aligned. ImageError if there is none."""
        if pixels.shape[:2] == (SIZE, SIZE):
            return pixels
        if self._models is None:
            self._models = FaceDetector(), FaceLandmarker()
        detector, landmarker = self._models
        for face in detector.detect(pixels):
            found = landmarker.locate(pixels, face)
            if found.landmarks:
                with contextlib.suppress(ValueError):
                    return align_face(pixels, face_transform(found.landmarks))
        raise ImageError("no face that can be aligned was found")


def run(args: argparse.Namespace) -> int:
    """Encodes or decodes each file; 0, or 3 where one failed. Raises MienError for what keeps it from starting."""
    tune_process(cores())
    codec = FaceCodec.load()
    if args.run == "encode":
        check_reading(codec.recogniser)
        with contextlib.closing(FaceFinder()) as finder:

            def work(data: bytes) -> bytes:
                face = finder.face_of(decode_image(data))
                if not is_clear(face, codec.recogniser):
                    raise ImageError("no face that can be coded: covered, turned, or none at all")
                return codec.encode(face, max_bytes=args.face_bytes, objective=args.objective, effort=args.effort)

            return _each(args, ".mien", work)
    return _each(args, ".png", lambda data: encode_image(codec.decode(data), "png"))


def _each(args: argparse.Namespace, suffix: str, work: Callable[[bytes], bytes]) -> int:
    """One file after the other; outputs are named after the whole input, below the inputs' common folder."""
    inputs = [Path(os.path.abspath(path)) for path in args.inputs]
    output = Path(args.output)
    root = common_root(str(path.parent) for path in inputs)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobError(f"{output}: cannot be written: {error.strerror}") from error
    failures: list[dict[str, str]] = []
    for path in dict.fromkeys(inputs):
        name = name_under(root, str(path)).removesuffix(".mien" if suffix == ".png" else "")
        name = output_name(name) + suffix
        try:
            result = work(_read(path))
            _write(output / name, result, args.overwrite)
            if not args.quiet:
                print(printable(f"{name}: {len(result)} bytes"))
        except Exception as error:
            message = one_line(error)
            failures.append({"uri": str(path), "stage": "face", "error": type(error).__name__, "message": message})
            print(printable(f"mien: {path}: {message}"), file=sys.stderr)
    write_failures(output, "face", failures)
    return 3 if failures else 0


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ImageError("not a regular file")
    with path.open("rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ImageError(f"over the limit of {_MAX_BYTES} bytes")
    return data


def _write(path: Path, data: bytes, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it")
    with whole_local_file(str(path)) as stream:
        stream.write(data)
