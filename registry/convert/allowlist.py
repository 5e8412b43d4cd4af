"""The exact names that a model file may use. No prefixes: ``numpy.savetxt`` writes files, ``numpy.ndarray`` does not."""

from __future__ import annotations

from functools import lru_cache, partial
from importlib import import_module
from typing import Any

from registry.convert.verdict import Refused

_NUMPY = """
numpy: number integer signedinteger floating
numpy: ndarray dtype bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 str_ bytes_ object_ datetime64 timedelta64 \
longlong ulonglong
numpy._core.multiarray: _reconstruct scalar
numpy.core.multiarray: _reconstruct scalar
numpy._core.numeric: _frombuffer
numpy.core.numeric: _frombuffer
numpy.ma: MaskedArray
numpy.ma.core: MaskedArray _mareconstruct
numpy.random._mt19937: MT19937
numpy.random._pcg64: PCG64
numpy.random._pickle: __bit_generator_ctor __generator_ctor __randomstate_ctor
numpy.random.bit_generator: SeedSequence __pyx_unpickle_SeedSequence
"""
_SCIPY = """
scipy.sparse._csr: csr_matrix csr_array
scipy.sparse._csc: csc_matrix csc_array
scipy.interpolate._bsplines: BSpline
"""
_SKLEARN = """
sklearn._loss._loss: CyHalfBinomialLoss CyHalfMultinomialLoss CyHalfPoissonLoss CyHalfSquaredError CyHalfGammaLoss CyHalfTweedieLoss CyHalfTweedieLossIdentity \
CyAbsoluteError CyPinballLoss CyHuberLoss CyExponentialLoss __pyx_unpickle_CyHalfBinomialLoss \
__pyx_unpickle_CyHalfMultinomialLoss __pyx_unpickle_CyHalfPoissonLoss \
__pyx_unpickle_CyHalfSquaredError __pyx_unpickle_CyHalfGammaLoss __pyx_unpickle_CyAbsoluteError __pyx_unpickle_CyPinballLoss __pyx_unpickle_CyHuberLoss \
__pyx_unpickle_CyExponentialLoss
sklearn._loss.link: IdentityLink Interval LogLink LogitLink HalfLogitLink MultinomialLogit
sklearn._loss.loss: HalfBinomialLoss HalfMultinomialLoss HalfPoissonLoss HalfSquaredError HalfGammaLoss HalfTweedieLoss HalfTweedieLossIdentity AbsoluteError \
PinballLoss HuberLoss ExponentialLoss
sklearn.calibration: _CalibratedClassifier _SigmoidCalibration
sklearn.compose._column_transformer: _RemainderColsList make_column_selector
sklearn.ensemble._hist_gradient_boosting.binning: _BinMapper
sklearn.ensemble._hist_gradient_boosting.predictor: TreePredictor
sklearn.gaussian_process._gpc: _BinaryGaussianProcessClassifierLaplace
sklearn.gaussian_process.kernels: ConstantKernel Product Sum Exponentiation RBF Matern WhiteKernel DotProduct RationalQuadratic ExpSineSquared
sklearn.linear_model._sgd_fast: Hinge SquaredHinge Log ModifiedHuber SquaredLoss Huber EpsilonInsensitive SquaredEpsilonInsensitive
sklearn.metrics._dist_metrics: EuclideanDistance64 ManhattanDistance64 MinkowskiDistance64 ChebyshevDistance64 newObj
sklearn.model_selection._search_successive_halving: HalvingGridSearchCV HalvingRandomSearchCV
sklearn.model_selection._split: KFold StratifiedKFold GroupKFold StratifiedGroupKFold RepeatedKFold RepeatedStratifiedKFold TimeSeriesSplit ShuffleSplit \
StratifiedShuffleSplit GroupShuffleSplit LeaveOneOut LeavePOut LeaveOneGroupOut LeavePGroupsOut PredefinedSplit
sklearn.multiclass: _ConstantPredictor
sklearn.neighbors._ball_tree: BallTree BallTree64 newObj
sklearn.neighbors._kd_tree: KDTree KDTree64 newObj
sklearn.neural_network._stochastic_optimizers: AdamOptimizer SGDOptimizer
sklearn.tree._tree: Tree
sklearn.utils._bunch: Bunch
sklearn.utils._metadata_requests: MetadataRequest MethodMetadataRequest
sklearn.utils.validation: check_array
sklearn.feature_selection._univariate_selection: f_classif f_regression chi2
"""
_PANDAS = """
pandas: CategoricalDtype StringDtype
pandas.core.dtypes.dtypes: CategoricalDtype
"""
_BUILTIN_TYPES = "object int float complex bool str bytes bytearray list tuple dict set frozenset slice range"
_PLAIN = """
collections: OrderedDict defaultdict Counter
functools: partial
copyreg: _reconstructor
copy_reg: _reconstructor
"""


@lru_cache(maxsize=1)
def allowed_names() -> frozenset[tuple[str, str]]:
    """Give every (module, name) that may be looked up: scikit-learn's estimators, and what they are made of."""
    from sklearn.utils import all_estimators

    estimators = {(kind.__module__, kind.__name__) for _, kind in all_estimators()}
    builtins = {(module, name) for module in ("builtins", "__builtin__") for name in _BUILTIN_TYPES.split()}
    return frozenset(estimators | builtins | _scorers() | _functions_of_one_number() | _names(_NUMPY + _SCIPY + _SKLEARN + _PANDAS + _PLAIN))


@lru_cache(maxsize=1)
def _scorers() -> frozenset[tuple[str, str]]:
    """Give scikit-learn's scorers and the functions behind its own named ones, which a fitted search holds."""
    from sklearn.metrics import get_scorer, get_scorer_names

    functions = [get_scorer(name)._score_func for name in get_scorer_names()]  # noqa: SLF001  # it has no other name
    kinds = {("sklearn.metrics._scorer", name) for name in ("_Scorer", "_MultimetricScorer", "_PassthroughScorer")}
    return frozenset(kinds | {(function.__module__, function.__name__) for function in functions})


class _Unscored:
    """Stands for a search's scorer, and for what it computes. Nothing here calls them, and a real scorer gives a file any attribute of any object by name."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> _Unscored:
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


class _PartialCheck(partial[Any]):
    """The only partial function of a model: histogram boosting keeps ``check_array`` with its arguments."""

    def __new__(cls, function: Any, /, *args: Any, **kwargs: Any) -> _PartialCheck:
        _require_check(function)
        return super().__new__(cls, function, *args, **kwargs)

    def __setstate__(self, state: Any) -> None:
        _require_check(state[0])
        super().__setstate__(state)  # type: ignore[misc]  # the stubs do not know it


def _require_check(function: Any) -> None:
    from sklearn.utils import check_array

    if function is not check_array:
        raise refusal_of("functools", "partial")


def _functions_of_one_number() -> set[tuple[str, str]]:
    """Give numpy's functions of one number, which a FunctionTransformer may hold: they compute, and do nothing else."""
    import numpy as np

    return {("numpy", name) for name, function in vars(np).items() if isinstance(function, np.ufunc) and function.nin == 1}


def find(module: str, name: str) -> Any:
    """Look up an allowed name for a pickle, which may call what it gets; raises ``Refused`` for any other."""
    if (module, name) == ("_codecs", "encode"):
        return _encode_latin1
    if (module, name) in _scorers():
        return _Unscored
    if (module, name) == ("functools", "partial"):
        return _PartialCheck
    if (module, name) not in allowed_names():
        raise refusal_of(module, name)
    if module == "__builtin__":
        module = "builtins"
    found = getattr(import_module({"copy_reg": "copyreg"}.get(module, module)), name, None)
    if found is None:
        raise Refused(
            f"The file uses {module}.{name}, which the installed scikit-learn does not have.",
            "Save the model again with the scikit-learn version that Signalbox runs, or export it to ONNX.",
        )
    return found


def refusal_of(module: str, name: str) -> Refused:
    """Say why ``module.name`` is refused: a part of a known library, or a class of the author's own."""
    root = module.partition(".")[0]
    if root in _KNOWN_ROOTS:
        return Refused(
            f"The file uses {module}.{name}, which is not on the list of names that a model may use.",
            "Remove it from the model, or export the model to ONNX where it was trained and register that file.",
        )
    if root in _OTHER_LIBRARIES:
        return Refused(f"The file uses {module}.{name}: models of {root} are not converted here.", "Export the model to ONNX and register that file.")
    return Refused(
        f"The file uses {module}.{name}, whose code is not in the file.",
        f"Replace {name} by steps of scikit-learn, or export the whole model to ONNX {_where(root)} and register that file.",
    )


def _where(root: str) -> str:
    return "where it was trained" if root == "__main__" else f"where {root} is installed"


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """What pickles of protocols 0 to 2 call for bytes; codecs.encode itself would take any codec."""
    if encoding != "latin1" or not isinstance(text, str):
        raise Refused("The file encodes data in a way that no pickle of bytes does.", "Save the model again with joblib or skops.")
    return text.encode("latin1")


def _names(lines: str) -> set[tuple[str, str]]:
    pairs = (line.partition(":") for line in lines.strip().splitlines())
    return {(module.strip(), name) for module, _, names in pairs for name in names.split()}


_OTHER_LIBRARIES = frozenset({"xgboost", "lightgbm", "catboost", "torch", "tensorflow", "keras", "statsmodels", "imblearn", "category_encoders", "prophet"})
_KNOWN_ROOTS = frozenset(
    [
        "numpy",
        "scipy",
        "sklearn",
        "pandas",
        "joblib",
        "skops",
        "builtins",
        "__builtin__",
        "os",
        "posix",
        "nt",
        "sys",
        "subprocess",
        "shutil",
        "socket",
        "ctypes",
        "importlib",
        "operator",
        "functools",
        "pickle",
        "_pickle",
        "runpy",
        "code",
        "codecs",
        "_codecs",
        "types",
        "marshal",
        "io",
        "_io",
        "pathlib",
        "tempfile",
        "webbrowser",
        "pty",
        "commands",
        "timeit",
        "pdb",
        "bdb",
        "cProfile",
        "multiprocessing",
        "threading",
        "asyncio",
        "urllib",
        "http",
        "ftplib",
        "smtplib",
        "copyreg",
        "copy_reg",
        "collections",
        "itertools",
        "inspect",
        "ast",
        "dis",
        "gc",
        "signal",
        "platform",
        "resource",
        "mmap",
        "zipfile",
        "tarfile",
        "logging",
        "site",
        "venv",
        "pip",
        "setuptools",
        "distutils",
        "onnx",
        "onnxruntime",
        "skl2onnx",
        "registry",
        "core",
        "nis",
        "linecache",
        "imaplib",
    ]
)
