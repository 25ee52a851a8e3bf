"""mien policy: what a policy says, in sentences, and what it would do to photos, in counts. Nothing is written."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator

from apache_beam.pvalue import TaggedOutput

from mien.models.weights import PERSON_FILE, POOL_FILE
from mien.pipelines import JobError
from mien.pipelines.jobs.boxes import box_file, check_photos, listed_photos
from mien.pipelines.settings import MAX_BYTES, settings_of
from mien.transforms import steps
from mien.transforms.elements import Failure, Photo, SafePhoto
from mien.transforms.formats import is_shard
from mien.transforms.policy import WITHHOLD, Policy, explained, load_policy
from mien.transforms.settings import FaceSettings
from mien.transforms.sources import read_file
from mien.transforms.stores import normal_uri, printable
from mien.transforms.workers import failure_of, run_stages


def run(args: argparse.Namespace) -> int:
    """Prints the policy's sentences, and what would be done with the photos, if any are named; the exit status.
    MienError for a policy or an option that cannot be."""
    if not all(args.inputs):  # a shell variable that is not set; as a path it would be the current folder
        raise JobError("a PHOTO is empty")
    policy = load_policy(args.policy)
    settings = settings_of(FaceSettings, args, policy=policy, boxes=box_file(args.boxes)) if args.inputs else None
    print("\n".join(map(printable, explained(policy))))
    if settings is None:
        return 0
    steps.with_galleries(settings.policy)
    inputs = [normal_uri(uri) for uri in args.inputs]
    check_photos(settings.boxes, inputs)
    counts, failed, photos, withheld = Counter[tuple[str, str]](), list[Failure](), 0, 0
    for result in _decided(inputs, settings):
        photos += 1
        if isinstance(result, Failure):
            failed.append(result)
            continue
        counts.update((face.rule, face.action) for face in result.faces)
        withheld += any(face.action == WITHHOLD for face in result.faces)
    print("\n".join(_counted(counts, photos, withheld, len(failed))))
    for failure in failed:
        print(printable(f"mien: {failure.uri}: {failure.stage}: {failure.message}"), file=sys.stderr)
    return 3 if failed else 0


def warn_withheld(policy: Policy) -> None:
    """Says once that no photo in which anything is found will get through."""
    if policy.withholds_all:
        print("mien: warning: the policy withholds every photo in which a face is found", file=sys.stderr)


def weights_for(policy: Policy, *, draws: bool) -> list[str]:
    """The files that a job needs beside the codec's. draws: whether it draws new faces."""
    return [PERSON_FILE, POOL_FILE] if draws else [PERSON_FILE] if policy.asks_for_age else []


def _decided(inputs: list[str], settings: FaceSettings) -> Iterator[SafePhoto | Failure]:
    """What a dry run gives for each photo, one at a time, in a child process as there."""
    from mien.transforms.preview import PreviewPhotos  # brings torch, which jobs that import this file do without

    stages = PreviewPhotos(settings).stages
    for listed in listed_photos(inputs):
        if isinstance(listed, Failure):
            yield listed
            continue
        try:
            if is_shard(listed.uri):
                raise JobError("shards are not looked into: name photos, or use mien redact --dry-run")
            data = read_file(listed, MAX_BYTES)
        except Exception as error:  # every store has errors of its own
            yield failure_of(listed.uri, "read", error)
            continue
        for result in run_stages(stages, Photo(listed.uri, data, listed.name, listed), settings.photo_limits):
            yield result.value if isinstance(result, TaggedOutput) else result


def _counted(counts: Counter[tuple[str, str]], photos: int, withheld: int, failed: int) -> Iterator[str]:
    """The table of rules and actions, and the sums."""
    yield ""
    lost = f", {failed} not understood" if failed else ""
    kept = f", {withheld} withheld by the policy" if withheld else ""
    yield f"{photos} photos{kept}{lost}; {counts.total()} faces and other regions:"
    width = max((len(rule) for rule, _ in counts), default=0)
    for (rule, action), count in counts.most_common():
        yield f"  {count:>6}  {printable(rule):<{width}}  {action}"
    actions = Counter[str]()
    for (_, action), count in counts.items():
        actions[action] += count
    if actions:
        yield f"By action: {', '.join(f'{action} {count}' for action, count in actions.most_common())}."
