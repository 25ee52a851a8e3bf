"""Coded or safe photos as WebDataset shards, a sample each, that count for no reader before all of a run are whole."""

from mien.transforms.elements import CodedPhoto, SafePhoto
from mien.transforms.formats import SHARD, ShardWriter, sample_of
from mien.transforms.sinks.write_parts import Format, Packed, WriteParts


def pack_sample(photo: CodedPhoto | SafePhoto) -> Packed:
    """The photo's sample. Raises ContainerError."""
    sample = sample_of(photo)
    return Packed(sample, len(sample.data), sample.sha256)


class WriteWebDataset(WriteParts):
    """CodedPhoto or SafePhoto -> tar files `photos-RUN-*.tar` in the output folder or URI, which count when all are
    written: shards as the webdataset library reads them (mien.transforms.formats.webdataset).

    withdraw: a photo that is among the failures because it was withheld loses the sample that an earlier run made of
    it. The others, and the result, as in WriteParts.
    """

    def __init__(self, output: str, run_id: str = "", commits: bool = True, withdraw: bool = False) -> None:
        super().__init__(output, Format(SHARD, pack_sample, ShardWriter), run_id, commits, withdraw)
