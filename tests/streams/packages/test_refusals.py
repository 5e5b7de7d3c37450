"""What a package is refused for: one line that names what is wrong and what would be right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from farshore.streams.packages.loader import PackageError, load_package

Build = Callable[..., bytes]
Pack = Callable[..., Path]
Rewrite = Callable[..., None]

FLOAT = TensorProto.FLOAT


def refusal(folder: Path) -> str:
    """The one line that `load_package` refuses a folder with."""
    with pytest.raises(PackageError) as caught:
        load_package(folder)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def test_a_changed_model_file_is_refused_with_both_digests(pack: Pack, summing_model: bytes) -> None:
    folder = pack(summing_model, 3)
    digest = json.loads((folder / "manifest.json").read_bytes())["model_sha256"]
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    message = refusal(folder)
    assert digest in message
    assert "changed or damaged" in message


def test_a_wrong_digest_in_the_manifest_is_refused(
    pack: Pack, summing_model: bytes, rewrite: Rewrite
) -> None:
    folder = pack(summing_model, 3)
    rewrite(folder, model_sha256="0" * 64)
    assert "but manifest.json says 0000" in refusal(folder)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_missing_file_is_named(pack: Pack, summing_model: bytes, name: str) -> None:
    folder = pack(summing_model, 3)
    (folder / name).unlink()
    assert refusal(folder) == f"{folder / name} is missing"


def test_a_missing_folder_is_named_with_what_a_package_is(tmp_path: Path) -> None:
    message = refusal(tmp_path / "absent")
    assert (
        message
        == f"{tmp_path / 'absent'} is no folder; a model package is one with model.onnx and manifest.json"
    )


def test_a_folder_in_the_place_of_a_file_is_refused(pack: Pack, summing_model: bytes) -> None:
    folder = pack(summing_model, 3)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    assert "cannot be read: Is a directory" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b'{"threshold": NaN}', "is no JSON: NaN is no JSON number"),
        (b"[" * 100_000, "recursion"),
        (b"[]", "manifest.json at $: [] is not of type 'object'"),
        (b"{}", "'format' is a required property"),
    ],
)
def test_a_manifest_that_is_none_is_refused(pack: Pack, summing_model: bytes, text: bytes, says: str) -> None:
    folder = pack(summing_model, 3)
    (folder / "manifest.json").write_bytes(text)
    assert says in refusal(folder)


def test_a_manifest_against_the_schema_is_refused_with_the_place(
    pack: Pack, summing_model: bytes, rewrite: Rewrite
) -> None:
    folder = pack(summing_model, 3)
    rewrite(folder, score={"output": "y", "rule": "mean"})
    message = refusal(folder)
    assert message.startswith("manifest.json at $.score.rule: 'mean' is not one of ['column', 'max'")


def test_a_file_that_is_no_model_is_refused_with_the_runtimes_words(pack: Pack) -> None:
    assert "model.onnx does not load: " in refusal(pack(b"PK\x03\x04 not an ONNX file", 3))


def test_an_operator_that_the_runtime_lacks_is_refused(build: Build, pack: Pack) -> None:
    model = build([helper.make_node("Teleport", ["x"], ["y"])], inputs={"x": (FLOAT, ["batch", 3])})
    message = refusal(pack(model, 3))
    assert "does not load: " in message
    assert "Teleport" in message


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"input": {"name": "readings", "dtype": "float32", "shape": ["batch", 3]}},
            "$.input.name says 'readings', but the model's inputs are 'x'",
        ),
        (
            {"score": {"output": "score", "rule": "max"}},
            "$.score.output says 'score', but the model's outputs are 'y'",
        ),
        (
            {"contributions": {"output": "parts"}},
            "$.contributions.output says 'parts', but the model's outputs are 'y'",
        ),
        (
            {"input": {"name": "x", "dtype": "float64", "shape": ["batch", 3]}},
            "input 'x' takes float32, $.input.dtype says float64",
        ),
        (
            {"input": {"name": "x", "dtype": "float32", "shape": ["batch", 1, 3]}},
            "input 'x' has shape [batch, 3], $.input.shape says [batch, 1, 3]",
        ),
        (
            {"score": {"output": "y", "rule": "column", "column": 1}},
            "output 'y' has 1 columns, score.column is 1 (the first is 0)",
        ),
        (
            {"score": {"output": "y", "rule": "reconstruction-error"}},
            "output 'y' gives 1 values a row, a reconstruction of 3 features gives as many",
        ),
        (
            {"contributions": {"output": "y"}},
            "output 'y' gives 1 contributions a row for 3 features",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_the_graph_is_refused_with_both_sides(
    pack: Pack, summing_model: bytes, changes: dict[str, object], says: str
) -> None:
    assert says in refusal(pack(summing_model, 3, **changes))


def test_another_number_of_features_than_the_graph_takes_is_refused(pack: Pack, summing_model: bytes) -> None:
    message = refusal(pack(summing_model, 4))
    assert message == "input 'x' has shape [batch, 3], $.input.shape says [batch, 4]"


def test_a_batch_axis_fixed_to_one_row_is_refused(build: Build, pack: Pack) -> None:
    model = build([helper.make_node("Identity", ["x"], ["y"])], inputs={"x": (FLOAT, [1, 3])})
    assert "its first axis is fixed to 1 and must be the batch, of any size" in refusal(pack(model, 3))


def test_further_inputs_are_refused_by_name(build: Build, pack: Pack) -> None:
    model = build(
        [helper.make_node("Add", ["x", "state"], ["y"])],
        inputs={"x": (FLOAT, ["batch", 3]), "state": (FLOAT, ["batch", 3])},
    )
    assert "further inputs ['state']; only models with one input can be fed" in refusal(pack(model, 3))


ROWS_LOST = {
    "the first row of all": [helper.make_node("Gather", ["x", "zero"], ["y"], axis=0)],
    "one mean for all rows": [helper.make_node("ReduceMean", ["x"], ["y"], axes=[0, 1], keepdims=0)],
    "features before rows": [helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])],
    "all in one row": [helper.make_node("Flatten", ["x"], ["y"], axis=0)],
}


@pytest.mark.parametrize("nodes", ROWS_LOST.values(), ids=ROWS_LOST.keys())
def test_rows_in_that_are_not_rows_out_are_refused(build: Build, pack: Pack, nodes: list[NodeProto]) -> None:
    model = build(nodes, inputs={"x": (FLOAT, ["batch", 3])}, constants={"zero": np.array([0, 0], np.int64)})
    message = refusal(pack(model, 3))
    assert "fails its trial run: output 'y' has shape" in message
    assert "its first axis must be the batch" in message


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> NodeProto:
    return helper.make_node(operator, inputs, outputs, **attributes)


ROWS_MIXED = {
    "softmax over the batch": [node("Softmax", ["x"], ["y"], axis=0)],
    "distance from the batch's mean": [
        node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        node("Sub", ["x", "mean"], ["y"]),
    ],
    "share of the batch's maximum": [
        node("ReduceMax", ["x"], ["top"], axes=[0], keepdims=1),
        node("Div", ["x", "top"], ["y"]),
    ],
    "sorted over the batch": [
        node("Shape", ["x"], ["rows"], start=0, end=1),
        node("TopK", ["x", "rows"], ["y", "order"], axis=0),
    ],
    "rank in the batch": [
        node("Shape", ["x"], ["rows"], start=0, end=1),
        node("TopK", ["x", "rows"], ["sorted", "order"], axis=0),
        node("Cast", ["order"], ["y"], to=FLOAT),
    ],
    "sum of the rows before": [node("CumSum", ["x", "zero"], ["y"])],
    "the row's number in the batch": [
        node("MatMul", ["x", "ones"], ["sums"]),
        node("Mul", ["sums", "nought"], ["blank"]),
        node("Add", ["blank", "unit"], ["units"]),
        node("CumSum", ["units", "zero"], ["y"]),
    ],
    "dynamic quantisation": [
        node("DynamicQuantizeLinear", ["x"], ["quantised", "scale", "zero_point"]),
        node("DequantizeLinear", ["quantised", "scale", "zero_point"], ["y"]),
    ],
    "a millionth of the batch's mean, less than rounding may do": [
        node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        node("Mul", ["mean", "millionth"], ["trace"]),
        node("Add", ["x", "trace"], ["y"]),
    ],
}


@pytest.mark.parametrize("nodes", ROWS_MIXED.values(), ids=ROWS_MIXED.keys())
@pytest.mark.parametrize("rule", ["column", "max"])
def test_rows_that_influence_one_another_are_refused(
    build: Build, pack: Pack, nodes: list[NodeProto], rule: str
) -> None:
    model = build(
        nodes,
        inputs={"x": (FLOAT, ["batch", 3])},
        constants={
            "zero": np.array(0, np.int64),
            "ones": np.ones((3, 1), np.float32),
            "nought": np.zeros(1, np.float32),
            "unit": np.ones(1, np.float32),
            "millionth": np.array([1e-6], np.float32),
        },
    )
    message = refusal(pack(model, 3, score={"output": "y", "rule": rule}))
    assert "each row's score must depend on that row alone" in message


def test_windows_that_influence_one_another_are_refused_and_windows_that_do_not_are_taken(
    build: Build, pack: Pack
) -> None:
    tensor = {"name": "x", "dtype": "float32", "shape": ["batch", 5, 3]}
    asks = {"input": tensor, "window": 5, "window_horizon": 1_000, "score": {"output": "y", "rule": "max"}}
    inputs = {"x": (FLOAT, ["batch", 5, 3])}
    alone = build([helper.make_node("Abs", ["x"], ["y"])], inputs=inputs)
    load_package(pack(alone, 3, **asks))
    mixed = build([helper.make_node("Softmax", ["x"], ["y"], axis=0)], inputs=inputs)
    assert "each row's score must depend on that row alone" in refusal(pack(mixed, 3, **asks))


def test_a_reconstruction_is_one_of_the_whole_window(build: Build, pack: Pack) -> None:
    tensor = {"name": "x", "dtype": "float32", "shape": ["batch", 5, 3]}
    model = build(
        [helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)],
        inputs={"x": (FLOAT, ["batch", 5, 3])},
        constants={"axis": np.array([1], np.int64)},
    )
    rule = {"output": "y", "rule": "reconstruction-error"}
    message = refusal(pack(model, 3, input=tensor, window=5, window_horizon=1_000, score=rule))
    assert "gives 3 values a row, a reconstruction of 5 readings of 3 features gives as many" in message


def test_rows_that_mix_only_where_every_value_is_positive_are_refused_as_well(
    build: Build, pack: Pack
) -> None:
    # Of 24 values around 0 one is always negative, so that the first trial sees nothing but NaN.
    model = build(
        [
            node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            node("Sqrt", ["x"], ["roots"]),
            node("Mul", ["roots", "mean"], ["mixed"]),
            node("MatMul", ["mixed", "ones"], ["y"]),
        ],
        inputs={"x": (FLOAT, ["batch", 24])},
        constants={"ones": np.ones((24, 1), np.float32)},
    )
    assert "must depend on that row alone" in refusal(pack(model, 24))


def test_rows_that_mix_only_in_the_contributions_are_refused_as_well(build: Build, pack: Pack) -> None:
    model = build(
        [node("Softmax", ["x"], ["parts"], axis=0), node("Identity", ["x"], ["y"])],
        inputs={"x": (FLOAT, ["batch", 3])},
        outputs=["y", "parts"],
    )
    assert "must depend on that row alone" in refusal(pack(model, 3, contributions={"output": "parts"}))


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([node("Cast", ["x"], ["y"], to=TensorProto.STRING)], "output 'y' holds object, expected numbers"),
        ([node("SequenceConstruct", ["x"], ["y"])], "output 'y' has shape list for 1 rows"),
        (
            [node("Slice", ["x", "none", "none", "one"], ["y"])],
            "output 'y' has shape [1, 0], which holds nothing",
        ),
        ([node("Gather", ["x", "far"], ["y"], axis=1)], "indices element out of data bounds"),
    ],
)
def test_an_answer_that_is_no_number_a_row_is_refused(
    build: Build, pack: Pack, nodes: list[NodeProto], says: str
) -> None:
    model = build(
        nodes,
        inputs={"x": (FLOAT, ["batch", 3])},
        constants={
            "none": np.array([0], np.int64),
            "one": np.array([1], np.int64),
            "far": np.array([7], np.int64),
        },
    )
    assert says in refusal(pack(model, 3))


def test_rounding_that_depends_on_the_batch_size_is_accepted_and_reported(build: Build, pack: Pack) -> None:
    # A stand-in for kernels that differ by size: each row times 1 + rows / 10,000,000.
    model = build(
        [
            node("Shape", ["x"], ["rows"], start=0, end=1),
            node("Cast", ["rows"], ["count"], to=FLOAT),
            node("Mul", ["count", "tiny"], ["share"]),
            node("Add", ["share", "unit"], ["factor"]),
            node("Mul", ["x", "factor"], ["y"]),
        ],
        inputs={"x": (FLOAT, ["batch", 3])},
        constants={"tiny": np.array([1e-7], np.float32), "unit": np.ones(1, np.float32)},
    )
    assert not load_package(pack(model, 3)).trial.bit_equal


def test_rounding_at_one_odd_batch_size_is_reported_too(build: Build, pack: Pack) -> None:
    model = build(
        [
            node("Shape", ["x"], ["rows"], start=0, end=1),
            node("Equal", ["rows", "seven"], ["odd"]),
            node("Cast", ["odd"], ["count"], to=FLOAT),
            node("Mul", ["count", "tiny"], ["share"]),
            node("Add", ["share", "unit"], ["factor"]),
            node("Mul", ["x", "factor"], ["y"]),
        ],
        inputs={"x": (FLOAT, ["batch", 3])},
        constants={
            "seven": np.array([7], np.int64),
            "tiny": np.array([1e-6], np.float32),
            "unit": np.ones(1, np.float32),
        },
    )
    assert not load_package(pack(model, 3)).trial.bit_equal


def test_a_product_is_bit_equal_over_batch_sizes(pack: Pack, summing_model: bytes) -> None:
    assert load_package(pack(summing_model, 3)).trial.bit_equal


def test_a_model_that_never_answers_a_finite_number_is_left_to_the_events(build: Build, pack: Pack) -> None:
    model = build(
        [node("Mul", ["x", "nan"], ["y"])],
        inputs={"x": (FLOAT, ["batch", 3])},
        constants={"nan": np.array([np.nan], np.float32)},
    )
    scores = load_package(pack(model, 3)).scorer.score(np.ones((2, 3), np.float32)).scores
    assert np.isnan(scores).all()
