"""The embedded key service: AWS's semantics over a private file."""

import json
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    KeyServiceUnavailableError,
    KeyStateError,
    WrongCellError,
)
from sqlalchemy_kmsenv.kms import GeneratedDataKey, Kms, LocalKms

CONTEXT = {"kmsenv:table": "pings", "kmsenv:column": "position"}
CONTEXTS = st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the key file is, or will be."""
    return tmp_path / "keys.json"


@pytest.fixture
def kms(path: Path) -> LocalKms:
    """A key of its own for the test."""
    return LocalKms.create(path)


@pytest.fixture(scope="module")
def shared_kms(tmp_path_factory) -> LocalKms:
    """One for all examples of a property."""
    return LocalKms.create(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def shared_data_key(shared_kms) -> GeneratedDataKey:
    """Likewise."""
    return shared_kms.generate_data_key(CONTEXT)


def rotate(path: Path, times: int) -> None:
    """What each process of the race does."""
    kms = LocalKms(path)
    for _ in range(times):
        kms.rotate()


# Wrapping and unwrapping


def test_data_key_comes_back_from_its_wrapped_form(kms):
    """The one thing that a key service is for."""
    made = kms.generate_data_key(CONTEXT)

    assert len(made.plaintext) == 32
    assert kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn) == made.plaintext
    assert made.key_arn == kms.resolve()
    assert made.material_id == kms.material_ids[-1]
    assert isinstance(kms, Kms)


def test_every_data_key_is_new(kms):
    """Two columns that shared a data key could be told from one another by nothing but names."""
    keys = {bytes(kms.generate_data_key(CONTEXT).plaintext) for _ in range(50)}

    assert len(keys) == 50


def test_order_of_the_context_does_not_matter(kms):
    """KMS takes it as a set of pairs, and dictionaries keep no promise about order."""
    made = kms.generate_data_key(CONTEXT)
    reverse = dict(reversed(CONTEXT.items()))

    assert kms.unwrap(made.wrapped, reverse, key_arn=made.key_arn) == made.plaintext


def test_case_of_the_context_matters(kms):
    """As with KMS: tenants 'A' and 'a' are two tenants."""
    made = kms.generate_data_key({"tenant": "A"})

    for other in ({"tenant": "a"}, {"Tenant": "A"}):
        with pytest.raises(WrongCellError):
            kms.unwrap(made.wrapped, other, key_arn=made.key_arn)


@given(context=CONTEXTS, other=CONTEXTS)
def test_contexts_that_differ_never_unwrap_each_other(shared_kms, context, other):
    """Otherwise one tenant's data key could be passed off as another's."""
    made = shared_kms.generate_data_key(context)

    if context == other:
        assert shared_kms.unwrap(made.wrapped, other, key_arn=made.key_arn) == made.plaintext
    else:
        with pytest.raises(WrongCellError):
            shared_kms.unwrap(made.wrapped, other, key_arn=made.key_arn)


@pytest.mark.parametrize(
    "other",
    [
        {"a": "bc=d"},
        {"a=b": "c", "d": ""},
        {"ab": "c", "d": ""},
        {"a": "b", "c": "d", "": ""},
        {"a": "b", "cd": ""},
    ],
)
def test_contexts_whose_texts_run_together_differ(kms, other):
    """Whoever chooses a value must not be able to write a separator into it."""
    made = kms.generate_data_key({"a": "b", "c": "d"})

    with pytest.raises(WrongCellError):
        kms.unwrap(made.wrapped, other, key_arn=made.key_arn)


@given(data=st.data())
def test_any_flipped_bit_is_refused(shared_kms, shared_data_key, data):
    """The database is not trusted with wrapped keys."""
    wrapped = bytearray(shared_data_key.wrapped)
    bit = data.draw(st.integers(0, 8 * len(wrapped) - 1))
    wrapped[bit // 8] ^= 1 << bit % 8

    with pytest.raises(WrongCellError):
        shared_kms.unwrap(bytes(wrapped), CONTEXT, key_arn=shared_data_key.key_arn)


def test_any_truncation_or_extension_is_refused(shared_kms, shared_data_key):
    """A column that is too short cuts, and must not give another key."""
    wrapped = shared_data_key.wrapped
    damaged = [wrapped[:length] for length in range(len(wrapped))] + [wrapped + b"\0"]

    for blob in damaged:
        with pytest.raises(WrongCellError):
            shared_kms.unwrap(blob, CONTEXT, key_arn=shared_data_key.key_arn)


def test_pinning_another_key_is_refused(kms, tmp_path):
    """As IncorrectKeyException of KMS: the caller says which key it trusts."""
    other = LocalKms.create(tmp_path / "other.json")
    made = kms.generate_data_key(CONTEXT)

    with pytest.raises(WrongCellError, match="was asked for a data key of"):
        kms.unwrap(made.wrapped, CONTEXT, key_arn=other.resolve())
    with pytest.raises(WrongCellError):
        other.unwrap(made.wrapped, CONTEXT, key_arn=other.resolve())


@pytest.mark.parametrize("context", [{"user": 5}, {5: "user"}, {"user": None}, {"user": "\ud800"}])
def test_context_that_is_no_text_is_refused_without_its_value(kms, context):
    """KMS takes text only; a value is never shown, since it might be personal."""
    with pytest.raises(ConfigurationError) as caught:
        kms.generate_data_key(context)

    assert "ud800" not in repr(caught.value)


# Rotation and re-wrapping


def test_rotation_keeps_every_older_data_key(kms):
    """Rotation must never be a reason to lose data, or to hurry."""
    made = [kms.generate_data_key(CONTEXT)]
    for _ in range(3):
        kms.rotate()
        made.append(kms.generate_data_key(CONTEXT))

    assert [one.material_id for one in made] == list(kms.material_ids)
    for one in made:
        assert kms.unwrap(one.wrapped, CONTEXT, key_arn=one.key_arn) == one.plaintext


def test_rotation_changes_the_material_and_not_the_key(kms):
    """The ARN is in envelopes and in IAM policies."""
    arn, (first,) = kms.resolve(), kms.material_ids

    second = kms.rotate()

    assert kms.resolve() == arn
    assert kms.material_ids == (first, second)
    assert len(bytes.fromhex(second)) == 32


def test_rewrap_moves_the_same_data_key_to_the_newest_material(kms):
    """The payload stays as it is, so the data key must."""
    made = kms.generate_data_key(CONTEXT)
    newest = kms.rotate()

    moved = kms.rewrap(made.wrapped, CONTEXT, key_arn=made.key_arn)

    assert (moved.key_arn, moved.material_id) == (made.key_arn, newest)
    assert moved.wrapped != made.wrapped
    assert kms.unwrap(moved.wrapped, CONTEXT, key_arn=moved.key_arn) == made.plaintext


def test_rewrap_can_replace_the_context(kms):
    """A renamed table is one reason; afterwards the old context is of no use."""
    made = kms.generate_data_key(CONTEXT)

    moved = kms.rewrap(made.wrapped, CONTEXT, key_arn=made.key_arn, new_context={})

    assert kms.unwrap(moved.wrapped, {}, key_arn=moved.key_arn) == made.plaintext
    with pytest.raises(WrongCellError):
        kms.unwrap(moved.wrapped, CONTEXT, key_arn=moved.key_arn)


def test_rewrap_refuses_what_unwrap_refuses(kms, tmp_path):
    """Otherwise re-wrapping would launder a data key that was moved."""
    made = kms.generate_data_key(CONTEXT)
    other = LocalKms.create(tmp_path / "other.json")

    with pytest.raises(WrongCellError):
        kms.rewrap(made.wrapped, {}, key_arn=made.key_arn, new_context=CONTEXT)
    with pytest.raises(WrongCellError):
        kms.rewrap(made.wrapped, CONTEXT, key_arn=other.resolve())


# The disabled state


def test_disabled_key_refuses_every_use_until_enabled(kms):
    """Disabling is how an operator stops a leak at once."""
    made = kms.generate_data_key(CONTEXT)
    kms.disable()

    for operation, use in {
        "GenerateDataKey": lambda: kms.generate_data_key(CONTEXT),
        "Decrypt": lambda: kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn),
        "ReEncrypt": lambda: kms.rewrap(made.wrapped, CONTEXT, key_arn=made.key_arn),
        "RotateKeyOnDemand": kms.rotate,
    }.items():
        with pytest.raises(KeyStateError) as caught:
            use()
        assert (caught.value.operation, caught.value.code) == (operation, "DisabledException")
    assert kms.resolve() == made.key_arn

    kms.enable()
    assert kms.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn) == made.plaintext


# Several processes, several threads


def test_another_opener_sees_rotation_and_switches_at_once(kms, path):
    """A web server does not restart because a command line rotated the key."""
    other = LocalKms(path)

    newest = kms.rotate()
    assert other.generate_data_key(CONTEXT).material_id == newest

    kms.disable()
    with pytest.raises(KeyStateError):
        other.generate_data_key(CONTEXT)


def test_processes_that_rotate_at_once_lose_no_version(kms, path):
    """A lost version is lost data: whatever it had wrapped meanwhile."""
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=rotate, args=(path, 5)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 4
    assert len(set(kms.material_ids)) == 1 + 4 * 5


def test_threads_that_rotate_and_wrap_at_once_agree(kms):
    """One LocalKms serves all threads of an application."""

    def work(number: int) -> GeneratedDataKey:
        if number % 5 == 0:
            kms.rotate()
        return kms.generate_data_key(CONTEXT)

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(work, range(50)))

    assert len(set(kms.material_ids)) == 11
    for one in made:
        assert kms.unwrap(one.wrapped, CONTEXT, key_arn=one.key_arn) == one.plaintext


# The file


def test_create_writes_a_file_for_its_owner_alone(path):
    """It holds the keys in the clear, whatever the umask says."""
    before = os.umask(0)
    try:
        kms = LocalKms.create(path)
        kms.rotate()
    finally:
        os.umask(before)

    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
        "keys.json": 0o600,
        "keys.json.lock": 0o600,
    }


@pytest.mark.usefixtures("kms")
def test_create_never_replaces_a_file(path):
    """The keys in it may be the only ones for some data."""
    content = path.read_bytes()

    with pytest.raises(ConfigurationError, match="exists already"):
        LocalKms.create(path)

    assert path.read_bytes() == content


def test_create_follows_no_dangling_link(path, tmp_path):
    """Whoever may write the directory must not choose where keys go."""
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError, match="exists already"):
        LocalKms.create(path)

    assert not (tmp_path / "elsewhere").exists()


def test_only_one_of_many_creators_wins(path):
    """Two workers that start at once must end with one key."""
    barrier = threading.Barrier(6)

    def work(_: int) -> str | None:
        barrier.wait()
        try:
            return LocalKms.create(path).resolve()
        except ConfigurationError:
            return None

    with ThreadPoolExecutor(6) as threads:
        created = [arn for arn in threads.map(work, range(6)) if arn is not None]

    assert created == [LocalKms(path).resolve()]


def test_create_wants_an_existing_directory(tmp_path):
    """A misspelt path must not grow directories with default permissions."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        LocalKms.create(tmp_path / "no" / "keys.json")


def test_missing_file_is_refused_with_the_way_to_make_one(path):
    """A key made silently would leave all older data unreadable."""
    with pytest.raises(ConfigurationError, match=r"LocalKms\.create"):
        LocalKms(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o602, 0o666])
def test_file_that_others_may_touch_is_refused(kms, path, mode):
    """Also when it becomes so while it is open."""
    path.chmod(mode)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        LocalKms(path)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        kms.generate_data_key(CONTEXT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.usefixtures("kms")
def test_file_of_another_user_is_refused(path):
    """Its owner could read and change the keys."""
    os.chown(path, 12345, -1)

    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        LocalKms(path)


@pytest.mark.usefixtures("kms")
def test_what_is_no_regular_file_is_refused(path, tmp_path):
    """A link may lead to a file that others can swap; a pipe would be waited for."""
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(path)
    os.mkfifo(pipe, 0o600)

    for odd, reason in ((tmp_path, "regular"), (pipe, "regular"), (link, "symbolic link")):
        with pytest.raises(ConfigurationError, match=reason):
            LocalKms(odd)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[:-2],
        lambda text: text + "x",
        lambda _: "[1]",
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"enabled": true', '"enabled": "no"'),
        lambda text: text.replace('"enabled": true', '"enabled": true,\n  "extra": 1'),
        lambda text: text.replace("arn:aws:kms:local", "arn:aws:kms:eu-west-1"),
        lambda text: text.replace('"key": "', '"key": "AAAA'),
        lambda text: text.replace('"id": "', '"id": "0'),
        lambda text: json.dumps({**json.loads(text), "materials": []}, indent=2) + "\n",
        lambda text: json.dumps({**json.loads(text), "materials": [3]}, indent=2) + "\n",
        lambda text: json.dumps(json.loads(text)),
    ],
)
@pytest.mark.usefixtures("kms")
def test_malformed_file_is_refused_without_showing_keys(path, damage):
    """A half-restored backup must not be guessed at, nor land in an error report."""
    text = path.read_text()
    key = json.loads(text)["materials"][0]["key"]
    path.write_text(damage(text))

    with pytest.raises(ConfigurationError, match="restore it from a backup") as caught:
        LocalKms(path)

    assert key not in repr(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.usefixtures("kms")
def test_material_that_occurs_twice_is_refused(path):
    """One id must mean one key."""
    document = json.loads(path.read_text())
    document["materials"] *= 2
    path.write_text(json.dumps(document, indent=2) + "\n")

    with pytest.raises(ConfigurationError):
        LocalKms(path)


def test_another_key_under_the_same_path_is_noticed(kms, path):
    """A file that was deleted and made anew must not pass for the old one."""
    path.unlink()
    LocalKms.create(path)

    with pytest.raises(ConfigurationError, match="which was opened"):
        kms.generate_data_key(CONTEXT)


def test_rotation_that_cannot_be_written_leaves_the_key_as_it_was(kms, path):
    """A full disk must not cost the keys that there are."""
    made = kms.generate_data_key(CONTEXT)
    # A directory in the way of the draft stands for every reason that it cannot be written.
    (path.parent / "keys.json.new").mkdir()

    with pytest.raises(KeyServiceUnavailableError):
        kms.rotate()

    assert LocalKms(path).unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn) == made.plaintext


def test_draft_left_by_a_crash_is_no_obstacle(kms, path):
    """A process that died in the middle of a rotation must not block the next one."""
    (path.parent / "keys.json.new").write_bytes(b"half a fi")

    kms.rotate()

    assert [file.name for file in sorted(path.parent.iterdir())] == [
        "keys.json",
        "keys.json.lock",
    ]


def test_path_may_be_text_and_is_kept_across_chdir(kms, path, monkeypatch, tmp_path_factory):
    """A daemon changes directory after it has read its configuration."""
    monkeypatch.chdir(path.parent)
    opened = LocalKms("keys.json")

    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))

    assert opened.rotate() == kms.material_ids[-1]


def test_repr_shows_the_path_and_no_key(kms, path):
    """Representations end up in logs."""
    made = kms.generate_data_key(CONTEXT)

    assert repr(kms) == f"LocalKms({str(path)!r})"
    for secret in (made.plaintext, made.wrapped):
        assert repr(bytes(secret))[2:12] not in repr(made)


def test_rewrap_takes_data_keys_of_the_keys_that_are_named(kms, tmp_path):
    """Leaving a key for another one of the same account is one ReEncrypt in AWS."""
    made = kms.generate_data_key(CONTEXT)
    other = LocalKms.create(tmp_path / "other.json", rewraps_from=[kms])

    other.would_rewrap(CONTEXT, key_arn=made.key_arn, wrapped=made.wrapped)
    moved = other.rewrap(made.wrapped, CONTEXT, key_arn=made.key_arn)

    assert moved.key_arn == other.resolve()
    assert moved.material_id == other.material_ids[-1]
    assert other.unwrap(moved.wrapped, CONTEXT, key_arn=moved.key_arn) == made.plaintext


def test_rewrap_from_a_disabled_key_is_refused(kms, tmp_path):
    """ReEncrypt decrypts with the source key, which must be enabled for that."""
    made = kms.generate_data_key(CONTEXT)
    other = LocalKms.create(tmp_path / "other.json", rewraps_from=[kms])
    kms.disable()

    for ask in (other.rewrap, lambda *a, **k: other.would_rewrap(*a[1:], wrapped=a[0], **k)):
        with pytest.raises(KeyStateError):
            ask(made.wrapped, CONTEXT, key_arn=made.key_arn)


def test_a_key_that_may_be_rewrapped_from_still_does_not_unwrap_here(kms, tmp_path):
    """Decrypt goes to the key that wrapped, whatever ReEncrypt may take."""
    made = kms.generate_data_key(CONTEXT)
    other = LocalKms.create(tmp_path / "other.json", rewraps_from=[kms])

    with pytest.raises(WrongCellError):
        other.unwrap(made.wrapped, CONTEXT, key_arn=made.key_arn)


def test_nothing_that_holds_a_key_is_pickled(tmp_path):
    """A pickle travels: to a cache, a worker, a crash report."""
    kms = LocalKms.create(tmp_path / "keys.json")
    for secret in (kms, kms.generate_data_key({})):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(secret)


# What the operating system sees


def test_a_lock_file_that_cannot_be_made_is_an_outage_and_not_a_crash(kms, path):
    """A directory without the right to write, or a full disk."""
    lock = path.with_name(f"{path.name}.lock")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(KeyServiceUnavailableError, match="cannot be written") as caught:
        kms.rotate()
    assert caught.value.code == "EISDIR"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="Linux only")
def test_a_file_that_the_disk_does_not_give_is_refused():
    """The error of the system names no way out."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        LocalKms("/proc/self/mem")


def test_a_path_that_no_file_can_have_is_refused(tmp_path):
    """It comes from a configuration, and is no error of Python's."""
    for make in (LocalKms, LocalKms.create):
        with pytest.raises(ConfigurationError, match="names no file"):
            make(f"{tmp_path}/a\0b")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux only")
def test_a_refused_file_is_closed(kms, path):
    """A process that retries would run out of files."""
    path.chmod(0o644)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(ConfigurationError):
            kms.resolve()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_was_rotated_is_on_the_disk_before_it_is_used(kms, path, monkeypatch):
    """A power cut must not leave data keys whose KMS key is in no file."""
    synced = []
    fsync = os.fsync

    def recorded(handle):
        status = os.fstat(handle)
        synced.append((status.st_ino, status.st_size))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    kms.rotate()
    status = path.stat()
    assert (status.st_ino, status.st_size) in synced
    assert path.parent.stat().st_ino in [inode for inode, _ in synced]
