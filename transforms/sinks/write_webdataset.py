"""Coded or safe photos as WebDataset shards, a sample each, that count for no reader before all of a run are whole."""

from mien.transforms.elements import CodedPhoto, SafePhoto
from mien.transforms.formats import SHARD, MemberReader, ShardWriter, sample_of
from mien.transforms.sinks.write_parts import Format, Packed, WriteParts


class PackSample:
    """Photos to samples, one after the other; the members that stay with one are read out of the shard it came from.

    record_uris: as in WriteWebDataset. Raises ContainerError, ImageError for a shard that changed meanwhile.
    """

    def __init__(self, record_uris: bool = False) -> None:
        self._record_uris = record_uris
        self._shards = MemberReader()

    def __call__(self, photo: CodedPhoto | SafePhoto) -> Packed:
        others = self._shards.others(photo.origin) if photo.origin and photo.origin.members else []
        sample = sample_of(photo, self._record_uris, tuple(others))
        return Packed(sample, len(sample.data) + sum(len(data) for _, data in others), sample.sha256)

    def close(self) -> None:
        """Closes the shard that was read last."""
        self._shards.close()


class WriteWebDataset(WriteParts):
    """CodedPhoto or SafePhoto -> tar files `photos-RUN-*.tar` in the output folder or URI, which count when all are
    written: shards as the webdataset library reads them (mien.transforms.formats.webdataset).

    withdraw: a photo that is among the failures because it was withheld loses the sample that an earlier run made of
    it. record_uris: whether each sample's record has the photo's whole URI, and not its name alone. A photo that came
    with its sample (ListFiles' whole) keeps its key and other members. The others, and the result, as in WriteParts.
    """

    def __init__(
        self,
        output: str,
        run_id: str = "",
        commits: bool = True,
        withdraw: bool = False,
        record_uris: bool = False,
    ) -> None:
        super().__init__(output, Format(SHARD, PackSample(record_uris), ShardWriter), run_id, commits, withdraw)
