"""How well new faces hide who was there: re-identification of the faces of some folders after deidentify.

    python -m mien.models.training.privacy FACES/dev FACES/wild_dev \
        --others FACES/train --dlib face_recognition_models/models --parrot FACES/wild_train

Each face is replaced, its payload decoded and compared, by the codec's recogniser and by dlib's, with all originals:
rank-1 and rank-5 with Wilson's 95 % interval beside chance. Then what is stored is taken apart and
mixed (prefixes of the latents, payloads of several faces, extrapolations), and last a `parrot` is trained: a ridge
regression from the recogniser's embedding of new faces to that of their originals, on the faces of other folders.
"""

import argparse
import pathlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mien.models.audit import wilson
from mien.models.codec import BASE, COLOURS, SPREAD, FaceCodec, Symbols, decode_section, read_header, write_base
from mien.models.errors import PrivacyError
from mien.models.evaluation import DlibDescriptor
from mien.models.faces import Looks
from mien.models.privacy import Deidentifier, embed
from mien.models.training.data import read_faces

Floats = NDArray[np.floating]
PARROT_RIDGE = 3.0


def report(name: str, similarity: Floats, own: NDArray[np.intp]) -> None:
    """similarity (N, gallery) of new faces; own (N,): the place of each one's original in the gallery."""
    truth = similarity[np.arange(len(own)), own]
    rank = (similarity > truth[:, None]).sum(1)
    hits, chance = int((rank == 0).sum()), 1 / similarity.shape[1]
    share = wilson(hits, len(own))
    print(
        f"{name}: rank-1 {hits} of {len(own)} = {share.value:.3f} [{share.low:.3f}, {share.high:.3f}], "
        f"chance {chance:.4f}; "
        f"rank-5 {(rank < 5).mean():.3f}, chance {5 * chance:.4f}; "
        f"own {truth.mean():.3f}, others {similarity.mean():.3f}"
    )


def read_base(codec: FaceCodec, payload: bytes) -> tuple[Symbols, int]:
    """Symbols and step of a payload's base layer."""
    section = read_header(payload).sections[BASE]
    return decode_section(section, codec.decoder.tables[BASE]), section.step


def base_payload(codec: FaceCodec, symbols: NDArray[np.integer], step: int) -> bytes:
    """The payload of any symbols of a base layer, as near to them as its tables reach."""
    tables, row = codec.decoder.tables[BASE], step + SPREAD
    return write_base(tables.code(tables.clip(symbols.astype(np.int32), row), row), step, 0, codec.decoder.number)


def mixtures(codec: FaceCodec, payloads: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Names and payloads of what can be made of stored ones, each in the place of the first."""
    read = [read_base(codec, payload) for payload in payloads]
    places = np.arange(len(read[0][0]))

    def written(symbols: list[Floats]) -> list[bytes]:
        parts = []
        for (own, step), mixed in zip(read, symbols, strict=True):
            whole = np.where(places < len(places) - COLOURS, np.rint(mixed), own).astype(np.int32)
            parts.append(base_payload(codec, whole, step))
        return parts

    plain: list[Floats] = [symbols.astype(np.float64) for symbols, _ in read]
    for kept in (8, 16, 32):
        yield f"the first {kept} latents", written([np.where(places < kept, s, 0) for s in plain])
        yield f"all but the first {kept} latents", written([np.where(places < kept, 0, s) for s in plain])
    for factor in (-1.0, 0.5, 1.5, 2.5):
        yield f"latents times {factor}", written([s * factor for s in plain])
    following = [*plain[1:], plain[0]]
    yield "mean with the next face", written([(s + t) / 2 for s, t in zip(plain, following, strict=True)])
    yield "less the next face", written([s - t for s, t in zip(plain, following, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--others", nargs="*", type=pathlib.Path, default=[], help="more people for the gallery")
    parser.add_argument("--dlib", type=pathlib.Path)
    parser.add_argument("--parrot", nargs="*", type=pathlib.Path, default=[], help="folders to train the parrot on")
    parser.add_argument("--change-traits", action="store_true", help="age and sex are not kept")
    options = parser.parse_args()
    codec = FaceCodec.load()
    deidentifier, looks = Deidentifier(codec), Looks()
    faces = read_faces(options.folders, 512)
    gallery = np.concatenate([faces, *([read_faces(options.others, 512)] if options.others else [])])
    known = embed(gallery, codec.recogniser)

    def replace(faces: NDArray[np.uint8]) -> tuple[NDArray[np.intp], list[bytes]]:
        own, payloads = [], []
        for i, face in enumerate(tqdm(faces, mininterval=30)):
            try:
                payloads.append(deidentifier.new_face(face, keep_traits=not options.change_traits))
                own.append(i)
            except PrivacyError as error:
                print(f"face {i}: {error}")
        return np.array(own), payloads

    own, payloads = replace(faces)
    new = np.concatenate([codec.decode(payload)[None] for payload in payloads])
    seen = embed(new, codec.recogniser)
    report("recogniser", seen @ known.T, own)
    turned = np.array(
        [np.abs(looks.measure(n)[:2] - looks.measure(faces[i])[:2]) for i, n in zip(own, new, strict=True)]
    )
    print(f"yaw and pitch within 8 degrees: {(turned < 8).all(1).mean():.3f}; bytes at most {max(map(len, payloads))}")
    if options.dlib:
        dlib = DlibDescriptor(options.dlib)
        ours, theirs = (np.array([dlib(face) for face in part]) for part in (new, gallery))
        report("dlib", -np.linalg.norm(ours[:, None] - theirs[None], axis=-1), own)
    for name, mixed in mixtures(codec, payloads):
        report(
            name, embed(np.concatenate([codec.decode(m, 256)[None] for m in mixed]), codec.recogniser) @ known.T, own
        )
    if options.parrot:
        people = read_faces(options.parrot, 512)
        there, made = replace(people)
        inputs = embed(np.concatenate([codec.decode(payload)[None] for payload in made]), codec.recogniser)
        outputs = embed(people[there], codec.recogniser)
        slope = np.linalg.solve(
            inputs.T @ inputs + PARROT_RIDGE * np.eye(inputs.shape[1]), inputs.T @ (outputs - outputs.mean(0))
        )
        guessed = seen @ slope
        report(f"parrot trained on {len(there)} people", guessed @ (known - outputs.mean(0)).T, own)


if __name__ == "__main__":
    main()
