def test_the_command_goes_from_folder_to_folder(small: Path, tmp_path: Path) -> None:
    network = tiny_unet(2, 1, sample_size=16)
    save_pipeline(Denoiser(network, Schedule.linear(), IMAGE), tmp_path / "up", card={})
    arguments = ["--upsampler", str(tmp_path / "up"), "--sampler.steps", "2"]
    main([str(small), "--out", str(tmp_path / "large"), *arguments])
    assert {p.name for p in (tmp_path / "large").iterdir()} == {
        *(f"{seed}.png" for seed in (5, 2, 9, 4)),
        "metadata.csv",
        "settings.json",
    }
    assert _pixels(tmp_path / "large", 5).shape == (16, 16)
    with pytest.raises(SystemExit, match=r"^error: .*gone.settings.json is missing; give a folder"):
        main([str(tmp_path / "gone"), "--out", str(tmp_path / "new"), *arguments])
