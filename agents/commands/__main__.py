"""`python -m farshore.agents.commands`: the same as `farshore`."""

from .main import run

if __name__ == "__main__":
    run()
