"""Coded or safe photos as WebDataset shards, a sample each, that count for no reader before all of a run are whole."""

import functools

from mien.transforms.elements import CodedPhoto, SafePhoto
from mien.transforms.formats import SHARD, ShardWriter, sample_of
from mien.transforms.sinks.write_parts import Format, Packed, WriteParts


def pack_sample(photo: CodedPhoto | SafePhoto, record_uris: bool = False) -> Packed:
    """The photo's sample. Raises ContainerError."""
    sample = sample_of(photo, record_uris)
    return Packed(sample, len(sample.data), sample.sha256)


class WriteWebDataset(WriteParts):
    """CodedPhoto or SafePhoto -> tar files `photos-RUN-*.tar` in the output folder or URI, which count when all are
    written: shards as the webdataset library reads them (mien.transforms.formats.webdataset).

    withdraw: a photo that is among the failures because it was withheld loses the sample that an earlier run made of
    it. record_uris: whether each sample's JSON has the photo's whole URI, and not its name alone. The others, and the
    result, as in WriteParts.
    """

    def __init__(
        self,
        output: str,
        run_id: str = "",
        commits: bool = True,
        withdraw: bool = False,
        record_uris: bool = False,
    ) -> None:
        pack = functools.partial(pack_sample, record_uris=record_uris)
        super().__init__(output, Format(SHARD, pack, ShardWriter), run_id, commits, withdraw)
