"""`python -m backend.cli`: the command `sentinel`, where only modules run (container images)."""

from backend.cli.main import sentinel

if __name__ == "__main__":
    sentinel(prog_name="sentinel")
