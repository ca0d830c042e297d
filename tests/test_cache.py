"""Where downloads and records are kept."""

from yolojax import cache


def test_cache_root(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("YOLOJAX_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache.cache_root() == tmp_path / ".cache" / "yolojax"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache.cache_root() == tmp_path / ".cache" / "yolojax"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_root() == tmp_path / "xdg" / "yolojax"
    monkeypatch.setenv("YOLOJAX_CACHE", "~/own")
    assert cache.cache_root() == tmp_path / "own"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOJAX_CACHE", "here")
    assert cache.cache_root() == tmp_path / "here"
    assert list(tmp_path.iterdir()) == []
