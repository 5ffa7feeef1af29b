@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generator") / "pipeline"
    DDPMPipeline(tiny_unet(), DDPMScheduler()).save_pretrained(folder)
    return folder


def test_the_command_adds_columns_to_a_copy(tmp_path: Path, generator: Path) -> None:
    folder = _folder(tmp_path)
    before = (folder / "metadata.csv").read_bytes()
    out = folder / "scored.csv"
    arguments = [str(generator), str(folder), "--distance", "l2", "--out", str(out)]
    main([*arguments, "--classes", "2", "--score.batch_size", "4", "--accelerator", "cpu"])
    assert (folder / "metadata.csv").read_bytes() == before
    table = pd.read_csv(out)
    assert list(table) == ["file_name", "split", "Smiling", "minority_score", "minority_class"]
    assert table["Smiling"].isna().tolist() == [False, True, False] * 2
    train = table["minority_score"][:4]
    assert table["minority_class"].tolist() == [
        int(s > train.median()) for s in table.minority_score
    ]
    paths = [folder / name for name in table["file_name"]]
    expected = score_files(load_denoiser(generator), paths, L2())
    np.testing.assert_allclose(table["minority_score"], expected, rtol=1e-5)
    with pytest.raises(SystemExit, match=r"^error: .*scored.csv exists, and nothing is overwritt"):
        main(arguments)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--classes=5"], "5 classes are wanted of 4 scores"),
        (["--out=nowhere/new.csv"], "nowhere, for the new table, is no folder; make it, or give"),
    ],
)
def test_what_the_end_would_refuse_is_said_before_anything_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], message: str
) -> None:
    monkeypatch.delattr("augment.minority_score.__main__.score_files")
    arguments = ["avatars-32", str(_folder(tmp_path)), f"--out={tmp_path / 'new.csv'}"]
    with pytest.raises(SystemExit, match=f"^error: {message}"):
        main([*arguments, "--distance=l2", *flags])


def test_the_command_wants_classes_that_it_can_use(tmp_path: Path, generator: Path) -> None:
    folder = _folder(tmp_path, kind=["0", "1", "2.0", "x", "1", "1"])
    arguments = [str(generator), str(folder), "--distance", "l2", "--out", str(tmp_path / "new")]
    for column, message in (
        ("nonesuch", "the table has no column nonesuch; it has file_name, split"),
        ("kind", "column kind holds 'x'; allowed are class numbers"),
    ):
        with pytest.raises(SystemExit, match=f"^error: {message}"):
            main([*arguments, "--label_column", column])
    assert not (tmp_path / "new").exists()
