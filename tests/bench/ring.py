"""Hop overhead of a ring over real daemons, and the speed of split against whole in the same run."""

from mycoswarm.cli.timing import ring

if __name__ == "__main__":
    for stages, width in (("2", "2048"), ("3", "2048"), ("2", "512")):
        ring(["--stages", stages, "--width", width, "--tokens", "96"], standalone_mode=False)
