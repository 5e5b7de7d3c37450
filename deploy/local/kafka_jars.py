"""Apache Kafka's jar files in a cache folder.

Guarantees
- Every file returned was compared with its pinned SHA-256 before it got its name in the cache; it gets that
  name in one rename, so an interrupted or concurrent download never leaves a torn file behind.
- With all files cached, nothing is asked of the network and `jgo` is not even imported.
- A failure is one KafkaMissingError that names the file that could not be had.

Not guaranteed: a cached file is not read again later, so one altered on disk afterwards goes unnoticed.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from .errors import KafkaMissingError
from .kafka_pins import KAFKA_VERSION, PINNED_JARS, PinnedJar
from .say import Say

__all__ = ["cache_folder", "kafka_jars"]

REQUEST_SECONDS_MAX = 30
DOWNLOAD_SECONDS_MAX = 900.0
DOWNLOADS_AT_ONCE = 4


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """`$FARSHORE_CACHE`, else `$XDG_CACHE_HOME/farshore`, else `~/.cache/farshore`; it may not exist yet."""
    if own := environment.get("FARSHORE_CACHE"):
        return Path(own).expanduser().absolute()
    if shared := environment.get("XDG_CACHE_HOME"):
        return Path(shared) / "farshore"
    return Path.home() / ".cache" / "farshore"


def kafka_jars(say: Say, cache: Path | None = None) -> tuple[Path, ...]:
    """Return the class path of the pinned Kafka, downloading what the cache lacks (45 MB the first time).

    `say` is told a line when a download starts and when it is done, and nothing when all is cached. Raises
    KafkaMissingError within DOWNLOAD_SECONDS_MAX.
    """
    folder = (cache or cache_folder()) / f"kafka-{KAFKA_VERSION}"
    missing = [jar for jar in PINNED_JARS if not (folder / jar.file_name).is_file()]
    if missing:
        say(f"downloading Apache Kafka {KAFKA_VERSION} ({len(missing)} files) to {folder}")
        _download(missing, folder)
        say(f"Apache Kafka {KAFKA_VERSION} is in place")
    return tuple(folder / jar.file_name for jar in PINNED_JARS)


def _download(missing: Sequence[PinnedJar], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".partial-", dir=folder, ignore_cleanup_errors=True
        ) as staging:
            _download_all(missing, folder, Path(staging))
    except OSError as reason:
        raise KafkaMissingError(f"cannot keep Apache Kafka {KAFKA_VERSION} in {folder}: {reason}") from reason


def _download_all(missing: Sequence[PinnedJar], folder: Path, staging: Path) -> None:
    fetch = _fetcher(staging)
    pool = ThreadPoolExecutor(DOWNLOADS_AT_ONCE, thread_name_prefix="kafka-download")
    try:
        jobs: dict[Future[None], PinnedJar] = {pool.submit(_keep, jar, fetch, folder): jar for jar in missing}
        done, waiting = wait(jobs, timeout=DOWNLOAD_SECONDS_MAX, return_when=FIRST_EXCEPTION)
        for job in done:
            job.result()
        if waiting:
            late = ", ".join(sorted(jobs[job].coordinate for job in waiting))
            raise KafkaMissingError(f"not downloaded within {DOWNLOAD_SECONDS_MAX:.0f} s: {late}")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _keep(jar: PinnedJar, fetch: Callable[[PinnedJar], Path], folder: Path) -> None:
    try:
        fetched = fetch(jar)
    except Exception as reason:
        # jgo lets RuntimeError, the errors of its HTTP client and more through; they all mean the same here.
        cause = " ".join(str(reason).split())[:300]
        raise KafkaMissingError(
            f"could not download {jar.coordinate}: {cause}. Check the network and HTTPS_PROXY"
        ) from reason
    if hashlib.sha256(fetched.read_bytes()).hexdigest() != jar.sha256:
        raise KafkaMissingError(f"downloaded {jar.coordinate}, but its SHA-256 is not {jar.sha256}: refused")
    fetched.replace(folder / jar.file_name)


def _fetcher(staging: Path) -> Callable[[PinnedJar], Path]:
    """A function that downloads one file into `staging`; repositories of the user's jgo settings first."""
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as reason:
        raise KafkaMissingError(
            "Apache Kafka is not cached, and jgo, which downloads it, is not installed: "
            "pip install 'farshore[local]'"
        ) from reason

    def fetch(jar: PinnedJar) -> Path:
        repositories = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
        maven = MavenContext(repo_cache=staging, remote_repos=repositories, timeout=REQUEST_SECONDS_MAX)
        group, artifact, version = jar.coordinate.split(":")
        return Path(maven.project(group, artifact).at_version(version).artifact().resolve())

    return fetch
