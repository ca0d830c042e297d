"""`python -m yolojax`: the same as the command `yolojax`."""

from yolojax.main import command

if __name__ == "__main__":
    command()
