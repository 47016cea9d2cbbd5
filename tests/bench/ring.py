"""Hop overhead of a ring over real daemons, and the speed of split against whole in the same run."""

from mycoswarm.cli.timing import ring

if __name__ == "__main__":
    for stages, width, layers in (
        ("2", "2048", "light"),
        ("2", "2048", "real"),
        ("3", "2048", "light"),
        ("2", "512", "real"),
    ):
        print(f"-- {stages} stages, width {width}, {layers} layers")
        ring(["--stages", stages, "--width", width, "--layers", layers, "--tokens", "96"], standalone_mode=False)
