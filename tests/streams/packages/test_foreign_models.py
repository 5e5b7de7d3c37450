"""Models that nobody made for farshore are described by the manifest alone: their graphs stay as they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import IsolationForest
from sklearn.neural_network import MLPRegressor

from farshore.streams.packages.loader import PackageError, load_package
from farshore.streams.scoring.decoding import EventDecoder

Build = Callable[..., bytes]
Pack = Callable[..., Path]

REPOSITORY = Path(__file__).parents[3]
SHARED = Path(os.environ.get("TEST_DATA_FOLDER", REPOSITORY.parent / "shared"))
CRAYFISH = SHARED / "crayfish" / "model-ffnn.onnx"


def ten_classes(build: Build) -> bytes:
    """input [batch, 1, 784] -> output [batch, 10], the shape of the Crayfish benchmark's network."""
    rng = np.random.default_rng(7)
    return build(
        [
            helper.make_node("Flatten", ["input"], ["flat"], axis=1),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["output"], axis=1),
        ],
        inputs={"input": (TensorProto.FLOAT, ["batch", 1, 784])},
        outputs=["output"],
        constants={
            "weights": rng.normal(size=(784, 10)).astype(np.float32) / 28,
            "bias": rng.normal(size=10).astype(np.float32),
        },
    )


IMAGE = {
    "input": {"name": "input", "dtype": "float32", "shape": ["batch", 1, 784]},
    "score": {"output": "output", "rule": "one-minus-max"},
    "threshold": 0.5,
}


def test_an_image_classifier_of_rank_three_scores_one_minus_its_surest_class(
    build: Build, pack: Pack
) -> None:
    package = load_package(pack(ten_classes(build), 784, **IMAGE))
    rows = np.random.default_rng(1).random((20, 784)).astype(np.float32)
    classes = package.model.run(["output"], "input", rows.reshape(20, 1, 784))[0].astype(np.float64)
    assert classes.shape == (20, 10)
    np.testing.assert_array_equal(package.scorer.score(rows).scores, 1.0 - classes.max(axis=1))


@pytest.mark.skipif(not CRAYFISH.is_file(), reason=f"{CRAYFISH} is absent; TEST_DATA_FOLDER names its folder")
def test_the_crayfish_network_is_accepted_as_published(pack: Pack) -> None:
    package = load_package(pack(CRAYFISH.read_bytes(), 784, **IMAGE))
    rows = np.random.default_rng(1).random((64, 784)).astype(np.float32)
    classes = package.model.run(["output"], "input", rows.reshape(64, 1, 784))[0].astype(np.float64)
    assert classes.shape == (64, 10)
    np.testing.assert_array_equal(package.scorer.score(rows).scores, 1.0 - classes.max(axis=1))


def test_an_autoencoder_scores_its_mean_squared_reconstruction_error(build: Build, pack: Pack) -> None:
    model = build(
        [helper.make_node("Mul", ["readings", "half"], ["restored"])],
        inputs={"readings": (TensorProto.FLOAT, ["N", 4])},
        outputs=["restored"],
        constants={"half": np.array([0.5], np.float32)},
    )
    folder = pack(
        model,
        4,
        input={"name": "readings", "dtype": "float32", "shape": ["batch", 4]},
        score={"output": "restored", "rule": "reconstruction-error"},
    )
    scores = load_package(folder).scorer.score(np.array([[2, 4, 6, 8], [0, 0, 0, 2]], np.float32)).scores
    assert scores.tolist() == [(1 + 4 + 9 + 16) / 4, 1 / 4]


def test_the_reconstruction_is_compared_with_the_scaled_input_that_the_model_saw(
    build: Build, pack: Pack
) -> None:
    model = build(
        [helper.make_node("Identity", ["x"], ["y"])], inputs={"x": (TensorProto.FLOAT, ["batch", 2])}
    )
    folder = pack(
        model,
        2,
        input={
            "name": "x",
            "dtype": "float32",
            "shape": ["batch", 2],
            "scaling": {"mean": [10, 20], "std": 5},
        },
        score={"output": "y", "rule": "reconstruction-error"},
    )
    package = load_package(folder)
    event = b'{"device":"d","time":0,"readings":[35.0,-5.0]}'
    decoded = EventDecoder(package.manifest, event_bytes_max=1_000).decode([event], [None])
    assert decoded.matrix.tolist() == [[5.0, -5.0]]
    assert package.scorer.score(decoded.matrix).scores.tolist() == [0.0]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"rule": "column", "column": 2}, [3.0, 0.0]),
        ({"rule": "column"}, [1.0, 2.0]),
        ({"rule": "max"}, [5.0, 2.0]),
        ({"rule": "one-minus-max"}, [-4.0, -1.0]),
    ],
)
def test_the_score_rule_makes_one_number_of_an_output(
    build: Build, pack: Pack, rule: dict[str, object], expected: list[float]
) -> None:
    model = build(
        [helper.make_node("Identity", ["x"], ["y"])], inputs={"x": (TensorProto.FLOAT, ["batch", 3])}
    )
    scorer = load_package(pack(model, 3, score={"output": "y", **rule})).scorer
    assert scorer.score(np.array([[1, 5, 3], [2, -1, 0]], np.float32)).scores.tolist() == expected


def test_columns_are_counted_over_all_axes_behind_the_batch(build: Build, pack: Pack) -> None:
    model = build(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        inputs={"x": (TensorProto.FLOAT, ["batch", 6])},
        constants={"shape": np.array([0, 2, 3], np.int64)},
    )
    scorer = load_package(pack(model, 6, score={"output": "y", "rule": "column", "column": 4})).scorer
    assert scorer.score(np.arange(6, dtype=np.float32)[None]).scores.tolist() == [4.0]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("float16", TensorProto.FLOAT16),
        ("float64", TensorProto.DOUBLE),
        ("int64", TensorProto.INT64),
        ("int32", TensorProto.INT32),
        ("int8", TensorProto.INT8),
        ("uint8", TensorProto.UINT8),
    ],
)
def test_inputs_of_any_numeric_type_are_fed_as_declared(
    build: Build, pack: Pack, dtype: str, kind: int
) -> None:
    model = build(
        [
            helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["real", "weights"], ["y"]),
        ],
        inputs={"x": (kind, ["batch", 3])},
        constants={"weights": np.array([[1], [10], [100]], np.float32)},
    )
    folder = pack(model, 3, input={"name": "x", "dtype": dtype, "shape": ["batch", 3]})
    package = load_package(folder)
    event = b'{"device":"d","time":0,"readings":[1,2.0,3]}'
    decoded = EventDecoder(package.manifest, event_bytes_max=1_000).decode([event], [None])
    assert decoded.matrix.dtype == dtype
    assert package.scorer.score(decoded.matrix).scores.tolist() == [321.0]


def test_a_quantised_input_takes_the_nearest_whole_number_of_the_scaled_value(
    build: Build, pack: Pack
) -> None:
    model = build(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        inputs={"x": (TensorProto.INT8, ["batch", 1])},
    )
    scaling = {"mean": 100.0, "std": 0.5}
    folder = pack(model, 1, input={"name": "x", "dtype": "int8", "shape": ["batch", 1], "scaling": scaling})
    package = load_package(folder)
    values = [
        b'{"device":"d","time":0,"readings":[%b]}' % number for number in (b"163.4", b"100.3", b"164.0")
    ]
    decoded = EventDecoder(package.manifest, event_bytes_max=1_000).decode(values, [None] * 3)
    assert decoded.matrix.tolist() == [[127], [1]]
    assert [(rejection.index, rejection.reason.value) for rejection in decoded.rejections] == [
        (2, "out-of-range")
    ]


def test_scaling_comes_before_the_cast_so_a_narrow_type_may_be_fed_from_large_readings(
    build: Build, pack: Pack
) -> None:
    # 101,325 Pa is no float16, whose largest value is 65,504; its distance from the mean is.
    model = build(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
        inputs={"x": (TensorProto.FLOAT16, ["batch", 1])},
    )
    scaling = {"mean": 101_000, "std": 130}
    folder = pack(
        model, 1, input={"name": "x", "dtype": "float16", "shape": ["batch", 1], "scaling": scaling}
    )
    package = load_package(folder)
    event = b'{"device":"d","time":0,"readings":[101325]}'
    decoded = EventDecoder(package.manifest, event_bytes_max=1_000).decode([event], [None])
    assert package.scorer.score(decoded.matrix).scores.tolist() == [2.5]


def test_a_graph_that_leaves_its_input_shape_open_is_decided_by_the_trial_run(
    build: Build, pack: Pack
) -> None:
    model = build(
        [helper.make_node("MatMul", ["x", "ones"], ["y"])],
        inputs={"x": (TensorProto.FLOAT, None)},
        constants={"ones": np.ones((3, 1), np.float32)},
    )
    assert load_package(pack(model, 3)).scorer.score(np.ones((2, 3), np.float32)).scores.tolist() == [3, 3]
    with pytest.raises(PackageError, match="fails its trial run"):
        load_package(pack(model, 4))


def test_a_model_that_looks_values_up_in_a_table_is_tried_with_values_it_knows(
    build: Build, pack: Pack
) -> None:
    model = build(
        [
            helper.make_node("Gather", ["table", "x"], ["each"]),
            helper.make_node("Squeeze", ["each", "last"], ["y"]),
        ],
        inputs={"x": (TensorProto.INT64, ["batch", 1])},
        constants={"table": np.array([[0.5], [2.5]], np.float32), "last": np.array([2], np.int64)},
    )
    folder = pack(model, 1, input={"name": "x", "dtype": "int64", "shape": ["batch", 1]})
    assert load_package(folder).scorer.score(np.array([[1], [0]])).scores.tolist() == [2.5, 0.5]


def test_an_output_of_contributions_is_read_beside_the_score(build: Build, pack: Pack) -> None:
    model = build(
        [
            helper.make_node("Mul", ["x", "x"], ["squares"]),
            helper.make_node("MatMul", ["squares", "ones"], ["y"]),
        ],
        inputs={"x": (TensorProto.FLOAT, ["batch", 2])},
        outputs=["y", "squares"],
        constants={"ones": np.ones((2, 1), np.float32)},
    )
    package = load_package(pack(model, 2, contributions={"output": "squares"}))
    answer = package.scorer.score(np.array([[3, 4]], np.float32))
    assert answer.scores.tolist() == [25.0]
    assert answer.contributions is not None
    assert answer.contributions.tolist() == [[9.0, 16.0]]


@pytest.fixture(scope="module")
def normal_rows() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(300, 5)).astype(np.float32)


def test_an_isolation_forest_from_scikit_learn_is_scored_by_a_column_of_its_output(
    pack: Pack, normal_rows: np.ndarray
) -> None:
    forest = IsolationForest(n_estimators=20, random_state=1).fit(normal_rows)
    model = to_onnx(forest, normal_rows[:1], target_opset={"": 15, "ai.onnx.ml": 3})
    names = [tensor.name for tensor in model.graph.output]
    package = load_package(
        pack(
            model.SerializeToString(),
            5,
            input={"name": model.graph.input[0].name, "dtype": "float32", "shape": ["batch", 5]},
            score={"output": names[1], "rule": "column", "column": 0},
        )
    )
    scores = package.scorer.score(normal_rows[:50]).scores
    np.testing.assert_allclose(scores, forest.decision_function(normal_rows[:50]), atol=1e-5)
    assert package.trial.bit_equal


def test_a_regressor_that_flattens_its_rows_away_is_refused(pack: Pack, normal_rows: np.ndarray) -> None:
    network = MLPRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=1)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        network.fit(normal_rows, normal_rows)
    model = to_onnx(network, initial_types=[("x", FloatTensorType([None, 5]))], target_opset=15)
    score = {"output": model.graph.output[0].name, "rule": "reconstruction-error"}
    with pytest.raises(
        PackageError, match=r"has shape \[5, 1\] for 1 rows; its first axis must be the batch"
    ):
        load_package(pack(model.SerializeToString(), 5, score=score))
