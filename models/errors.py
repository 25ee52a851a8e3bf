"""What can be wrong with what mien is given. The message is one line that a user can act on."""


def one_line(error: BaseException | str, limit: int | None = None) -> str:
    """The message of an exception in one line, of at most `limit` characters; its class where it has none."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def why_unread(error: BaseException) -> str:
    """Why a file could not be read, in one line without the file's name, which the message around it has."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, FileNotFoundError):  # s3fs and gcsfs give it the path alone
        return "no such file"
    return one_line(error)


class MienError(Exception):
    """Every error that mien raises on purpose."""


class ImageError(MienError):
    """A photo that cannot be read: empty, truncated, mislabelled, damaged, of no known format."""


class ImageTooLargeError(ImageError):
    """A photo over the limit of bytes or pixels."""


class BudgetError(MienError):
    """A photo that does not fit its bytes. least: bytes that it needs."""

    def __init__(self, least: int, message: str = "") -> None:
        super().__init__(message or f"this photo needs at least {least} bytes")
        self.least = least

    def __reduce__(self) -> tuple[type, tuple[int, str]]:
        return BudgetError, (self.least, str(self))


class StoreAwayError(MienError):
    """A store that did not answer for long is not asked again at once."""


class SearchError(MienError):
    """A file that would take more to search than one may."""


class ContainerError(MienError):
    """An image file without mien's chunk, or with a damaged or newer one."""


class PayloadError(MienError):
    """A coded face that cannot be decoded."""


class PayloadTruncatedError(PayloadError):
    """The payload is empty or ends before its last symbol."""


class PayloadDamagedError(PayloadError):
    """The payload's checksum or structure is wrong."""


class PayloadVersionError(PayloadError):
    """The payload is of a version of the format that this mien does not know."""


class WrongModelError(PayloadError):
    """The payload was coded with another model than the one that is loaded."""


class PrivacyError(MienError):
    """No new face was found that the recogniser would not link to the original."""


class NotUnderstoodError(PrivacyError):
    """What is to get a new face looks like none to the codec."""


class WeightsError(MienError):
    """Model weights that are missing, or whose sha256 is not the recorded one."""


class PolicyError(MienError):
    """A policy that cannot be used: which file, line and key."""


class WithheldByRuleError(MienError):
    """A photo that a rule of the policy withholds."""


class DetectorError(MienError):
    """A detector of one's own that cannot be used, or that gave no boxes for a photo."""


class BoxesError(MienError):
    """A file of boxes that cannot be used, or what it says of a photo."""


class CorrectionsError(MienError):
    """Corrections of a reviewer's that cannot be used: which file and line, or what is wrong with a photo's."""


class ReviewedError(MienError):
    """A photo that a reviewer withholds."""


class GalleryError(MienError):
    """A gallery of reference photos that cannot be used: which file, and why."""


class KeyFileError(MienError):
    """A key for pseudonyms that is missing, cannot be read, or is too weak."""


class PhotoCrashedError(MienError):
    """A photo on which the process that worked on it died, twice."""


class PhotoTimeoutError(MienError):
    """A photo that took longer than one may."""


class PhotoMemoryError(MienError):
    """A photo that took more memory than one may."""


class MagnifyError(MienError):
    """A picture that cannot be magnified."""


class FaceTooSmallError(MagnifyError):
    """A face of too few pixels to say anything of it."""


class FaceTooLargeError(MagnifyError):
    """A face of more pixels than magnifying is for, or than were asked for."""


class FaceShapeError(MagnifyError):
    """A picture that is no square of colours in bytes."""


class NoFaceError(MagnifyError):
    """No face was found that can be aligned and magnified."""


class WithheldError(MienError):
    """A single photo of which nothing may be shown, for a reason that has no class of its own: the stage, the error."""
