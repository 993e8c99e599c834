"""Copies of a segment's checkpoints in remote storage, made by a thread. They never end a training.

Recovery checkpoints and milestones are copied when they are whole; of recovery checkpoints that wait, only the newest.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from smolmake.errors import UserError
from smolmake.execution.remote_storage import FileRecords, RemoteStore, write_remote
from smolmake.files import new_folder
from smolmake.recipe.runtime import Upload
from smolmake.train.recovery.checkpoint import Report, kept, ordered, step_of

FIRST_PAUSE = 1.0  # seconds before the second try; each further pause is twice as long
LAST_MINUTE = 60.0  # seconds that a stop waits for what is under way


class Uploads:
    """The uploads of one segment. Without settings, and in all processes but the first, it does nothing."""

    def __init__(self, settings: Upload | None, folder: Path, report: Report, active: bool = True) -> None:
        self.settings, self.folder, self.report = settings if active else None, folder, report
        self.waiting: queue.Queue[Callable[[], None]] = queue.Queue()
        self.newest: tuple[Path, int | None] | None = None
        self.uploaded: dict[str, FileRecords] = {}
        if self.settings is not None:
            self.url = f"{self.settings.url.rstrip('/')}/{folder.parent.name}/{folder.name}"
            self.store = RemoteStore(self.url)
            threading.Thread(target=self._work, daemon=True, name="uploads").start()

    def recovery(self, place: Path, safe: int | None) -> None:
        """Copy a recovery checkpoint that is whole; `safe` as in Recovery.save."""
        if self.settings is not None:
            self.newest = place, safe
            self.waiting.put(self._recovery)

    def milestone(self, step: int) -> None:
        if self.settings is not None:
            self.waiting.put(lambda: self._milestone(f"milestones/step-{step}"))

    def fetch(self, before: int | None) -> str | None:
        """Fetch the newest whole recovery checkpoint (from which step `before` is still to do); gives its name."""
        if self.settings is None:
            return None
        try:
            names = ordered(self.store.uploads("recovery"), before)
        except Exception as error:  # then the segment begins without it
            self._trouble(f"recovery checkpoints cannot be fetched from {self.url}", error)
            return None
        for name in names:
            try:
                if self._get(name):
                    return name
            except Exception as error:
                self._trouble(f"{name} cannot be fetched from {self.url}", error)
        return None

    def stop(self) -> None:
        """Wait for what is under way, but not for long: the job is about to end."""
        limit = time.monotonic() + LAST_MINUTE
        while self.waiting.unfinished_tasks and time.monotonic() < limit:
            time.sleep(0.05)
        if self.waiting.unfinished_tasks:
            self.report("upload", 0, "the last checkpoint is not uploaded: there is no time left")

    def removed(self, milestones: Sequence[int]) -> FileRecords:
        """Payload entries of milestones that are only in remote storage, once all uploads are done."""
        self.waiting.join()
        found: FileRecords = {}
        for step in milestones:
            upload = f"milestones/step-{step}"
            if self.settings is not None and not (self.folder / upload).exists():
                found |= {f"{upload}/{name}": about for name, about in self._files(upload).items()}
        return found

    def finish(self, milestones: Sequence[int]) -> None:
        """After the manifest: copy the checkpoint, and note beside the manifest what is in remote storage."""
        if self.settings is None:
            return
        uploads = ["checkpoint", *(f"milestones/step-{step}" for step in milestones)]
        for upload in uploads:
            if upload not in self.uploaded and (self.folder / upload).is_dir():
                self._try(upload, self._put, upload)
        names = [f"{upload}/{name}" for upload in uploads for name in self.uploaded.get(upload, {})]
        if names:
            write_remote(self.folder, self.url, names)
        self._try("old recovery checkpoints", self.store.remove, "recovery")

    def _get(self, name: str) -> bool:
        """Fetch a recovery checkpoint, if it is whole there."""
        files = self.store.files(f"recovery/{name}")
        if files is None:
            return False
        place = self.folder / "recovery" / name
        with new_folder(place) as beside:
            for file, about in files.items():
                self.store.get(f"recovery/{name}/{file}", beside / file, about)
        self.report("fetched", step_of(name), f"recovery checkpoint {name} came from {self.url}")
        return True

    def _work(self) -> None:
        while True:
            self.waiting.get()()
            self.waiting.task_done()

    def _recovery(self) -> None:
        newest, self.newest = self.newest, None
        if newest is not None:
            place, safe = newest
            self._try(f"recovery/{place.name}", self._put_recovery, place, safe)

    def _put_recovery(self, place: Path, safe: int | None) -> None:
        assert self.settings is not None
        try:
            self.store.put(place, f"recovery/{place.name}")
        except OSError:
            if place.exists():
                raise
            return  # a newer one has taken its place meanwhile
        there = self.store.uploads("recovery")
        for name in set(there) - kept(there, safe):
            self.store.remove(f"recovery/{name}")
        if self.settings.remove_local:
            here = ordered([path.name for path in (self.folder / "recovery").glob("step-*")], None)
            for name in set(here[1:]) & set(there):
                if self.store.files(f"recovery/{name}") is not None:
                    shutil.rmtree(self.folder / "recovery" / name, ignore_errors=True)

    def _milestone(self, upload: str) -> None:
        self._try(upload, self._put, upload)
        if self.settings is not None and self.settings.remove_local:
            for older in self.uploaded.keys() - {upload}:
                shutil.rmtree(self.folder / older, ignore_errors=True)

    def _put(self, upload: str) -> None:
        self.uploaded[upload] = self.store.put(self.folder / upload, upload)

    def _files(self, upload: str) -> FileRecords:
        """A upload's listing, which a removed milestone must have.

        Raises:
            UserError: if it cannot be read.
        """
        if upload not in self.uploaded:
            self._try(upload, lambda: self.uploaded.update({upload: self.store.files(upload) or {}}))
        if not self.uploaded.get(upload):
            raise UserError(
                "this milestone was removed after its upload, and cannot be found there", file=self.folder / upload,
                key="runtime.upload.url", value=self.url,
                remedy="check the address and the credentials in the environment",
            )  # fmt: skip
        return self.uploaded[upload]

    def _try(self, what: str, call: Callable[..., None], *arguments: Any) -> None:
        """Do it, again after a pause if it fails; tell when it failed too often."""
        assert self.settings is not None
        for attempt in range(self.settings.retries + 1):
            try:
                return call(*arguments)
            except Exception as error:  # whatever the other side's library raises
                if attempt == self.settings.retries:
                    self._trouble(f"{what} is not uploaded to {self.url}", error)
                else:
                    time.sleep(FIRST_PAUSE * 2**attempt)
        return None

    def _trouble(self, what: str, error: Exception) -> None:
        self.report("upload", 0, f"{what}: {type(error).__name__}: {' '.join(str(error).split())}")
