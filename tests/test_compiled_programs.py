from lga_jax.compiled_programs import keep_programs

FOLDER, SIZE = "JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"


def test_a_bounded_folder_in_the_users_cache(tmp_path):
    environ = {"HOME": str(tmp_path)}
    keep_programs(environ)
    (folder,) = (tmp_path / ".cache" / "lga_jax" / "compiled").iterdir()
    assert environ[FOLDER] == str(folder)
    assert environ[SIZE] == str(2**31)
    other = {"HOME": "/nowhere", "XDG_CACHE_HOME": str(tmp_path / "caches")}
    keep_programs(other)
    assert other[FOLDER] == str(tmp_path / "caches" / "lga_jax" / "compiled" / folder.name)


def test_a_folder_that_the_user_names_stays_and_an_empty_name_switches_it_off(tmp_path):
    for name in ("elsewhere", ""):
        environ = {"HOME": str(tmp_path), FOLDER: name}
        keep_programs(environ)
        assert environ == {"HOME": str(tmp_path), FOLDER: name}
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").touch()
    for environ in ({}, {"HOME": ""}, {"HOME": str(tmp_path / "file")}, {"XDG_CACHE_HOME": "/dev/null"}):
        before = dict(environ)
        keep_programs(environ)
        assert environ == before
