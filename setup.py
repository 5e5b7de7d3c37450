"""The one part that is compiled; everything else about the package stands in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "farshore.streams.scoring._rows",
            ["streams/scoring/_rows.c"],
            depends=["streams/scoring/_json.h", "streams/scoring/_numbers.h"],
            extra_compile_args=["-std=c11"],
            optional=True,  # without a compiler the readers in Python serve alone (ADR 21)
        )
    ]
)
