"""Writes files of an access directory: whole or not at all, and never over another's edit."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import lock_descriptor
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_random

from extauthz.core import accessdir
from extauthz.core.errors import Retryable

LOCK_SECONDS: Final = 15.0  # whoever holds it writes one file; longer than that it hangs
_LOCK: Final = ".sentinel.lock"
_PREFIX: Final = ".sentinel-"  # readers leave hidden names out
_NO_LOCKS: Final = "use a file system that can lock folders"
_MENDS: Final = {
    errno.EBADF: _NO_LOCKS,
    errno.ENOLCK: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
    errno.EROFS: "mount it writable, or change what it is made of",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or raise the quota",
    errno.EFBIG: "raise the limit of a file's size",
    errno.ENOENT: "bring it back",
    errno.ENOTDIR: "bring it back",
}


class Moved(Exception):
    """Somebody else wrote the file since it was read."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The only editor of the directory, among all that ask.

    By a file that only who may write in the folder can open: no reader can hold up a change.

    Raises:
        Retryable: somebody holds it for too long, or the folder is away.
    """
    try:
        handle = _lock_file(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        _lock(folder, handle)
        yield
    finally:
        os.close(handle)  # which lets go of it


def _lock_file(folder: Path) -> int:
    """Open it, with the folder's owner and as writable as the folder."""
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    whose = os.stat(folder)
    writers = whose.st_mode & 0o022
    with suppress(OSError):  # another made it, and gave it to whom it should belong
        os.fchown(handle, whose.st_uid, whose.st_gid)
        os.fchmod(handle, 0o600 | writers | writers << 1)
    return handle


def _lock(folder: Path, handle: int) -> None:
    waiting = Retrying(
        retry=retry_if_result(lambda is_ours: not is_ours),
        wait=wait_random(0.002, 0.02),
        stop=stop_after_delay(LOCK_SECONDS),
    )
    try:
        waiting(lock_descriptor, handle, blocking=False)
    except RetryError as error:
        mend = "try again; see to what holds its lock"
        raise Retryable(f"`{folder}` is being edited by another process; {mend}") from error
    except OSError as error:
        raise unwritable(folder, error) from error


def replace(path: Path, raw: bytes, seen: bytes, before_write: Callable[[], None]) -> None:
    """Put a file in the place of another, with its mode and owner.

    Args:
        path: a file, or a link to one, which stays a link.
        seen: what stood there when `raw` was made.
        before_write: called when all that can fail was tried; what it raises comes out.

    Raises:
        Moved: something else stands there now.
        Retryable: it cannot be written.
    """
    real = _real(path)
    try:
        with _written(real.parent, raw, 0o600) as temporary:
            stat = os.stat(real)
            _own(temporary, path, stat)
            os.chmod(temporary, stat.st_mode & 0o7777)
            _same(real, seen)
            before_write()
            _same(real, seen)
            os.replace(temporary, real)
            _sync(real.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def create(folder: Path, names: Iterator[str], raw: bytes, before_write: Callable[[], None]) -> str:
    """Write a file of a name that no other has. Returns: the name.

    Args:
        names: to be tried in turn.

    Raises:
        Retryable: it cannot be written.
    """
    _refuse_mount(folder, folder / "..data")
    try:
        with _written(folder, raw, 0o666) as temporary:
            before_write()
            for name in names:
                with suppress(FileExistsError):
                    os.link(temporary, folder / name)  # which never overwrites
                    break
            _sync(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    return name


def delete(path: Path, seen: bytes, before_write: Callable[[], None]) -> None:
    """Remove a file.

    Raises:
        Moved: something else stands there now.
        Retryable: it cannot be removed.
    """
    real = _real(path)
    try:
        for folder in {real.parent, path.parent}:
            if not os.access(folder, os.W_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, "its folder is read-only")
        _same(real, seen)
        before_write()
        _same(real, seen)
        os.unlink(real)
        if real != path:
            path.unlink(missing_ok=True)
        _sync(real.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> Retryable:
    """What to say of a place that cannot be written."""
    mend = _MENDS.get(error.errno or 0, "make it writable")
    return Retryable(f"`{path}` cannot be written ({error.strerror}); {mend}")


def _real(path: Path) -> Path:
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError as error:
        raise Moved from error
    except OSError as error:
        raise unwritable(path, error) from error
    _refuse_mount(path, *(real.parents))
    return real


def _refuse_mount(path: Path, *parts: Path) -> None:
    if any(part.name.startswith("..") and part.exists() for part in parts):
        mend = "change the ConfigMap, or what writes it"
        raise Retryable(f"`{path}` is a mounted ConfigMap and read-only; {mend}")


def _same(path: Path, seen: bytes) -> None:
    try:
        now = accessdir.read(path)
    except FileNotFoundError as error:
        raise Moved from error
    if now != seen:
        raise Moved


def _own(temporary: Path, path: Path, stat: os.stat_result) -> None:
    """Give a file the owner of the one that it replaces."""
    mine = os.stat(temporary)
    if (mine.st_uid, mine.st_gid) != (stat.st_uid, stat.st_gid):
        try:
            os.chown(temporary, stat.st_uid, stat.st_gid)
        except PermissionError as error:
            mend = "edit it as them, or make it yours"
            raise Retryable(f"`{path}` belongs to another user; {mend}") from error


@contextmanager
def _written(folder: Path, raw: bytes, mode: int) -> Iterator[Path]:
    """A file of a hidden name, safe on the disk; gone afterwards, unless it was renamed."""
    for left in folder.glob(f"{_PREFIX}*"):  # by one that was killed: we hold the lock
        left.unlink(missing_ok=True)
    path = folder / f"{_PREFIX}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, mode), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
