import pytest

from fseed.compose.loader import hydra_session
from fseed.compose.overrides import expand_sweep, parse_overrides
from fseed.errors import UserError
from tests.configs import composer


def check(*words: str, multirun: bool = False) -> list:
    return parse_overrides(words, multirun=multirun, config_loader=composer().loader)


def expand(*words: str) -> list[list[str]]:
    return expand_sweep(check(*words, multirun=True))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        # unknown group, option, key
        (["fss=no_fs"], "fss=no_fs: no such group or key; did you mean fs?"),
        (["fs=scaler_l10"], "fs=scaler_l10: no such option; did you mean scalar_l10"),
        (["experiment=round22"], "experiment=round22: no such option; did you mean round"),
        (["budget.stpes=3"], "budget.stpes=3: no such key; did you mean budget.steps"),
        (["steps=3"], "steps=3: no such group or key; did you mean budget.steps?"),
        (["lr=1"], "lr=1: no such group or key; did you mean alpha.lr, optim.lr?"),
        (["weight=/a"], "weight=/a: no such group or key; did you mean weights"),
        (["qqqqq=1"], "qqqqq=1: no such group or key; all of them: python -m fseed.run --cfg"),
        (["nope/fs=a"], "nope/fs: no such group; groups: task, data"),
        # wrong type
        (["seed=abc"], "seed=abc: expected an integer"),
        (["seed=1.5"], "seed=1.5: expected an integer"),
        (["seed=true"], "seed=true: expected an integer"),
        (["seed=null"], "seed=null: expected an integer"),
        (["lstart=ten"], "lstart=ten: expected an integer"),
        (["alpha.init=low"], "alpha.init=low: expected a number"),
        (["alpha.init=true"], "alpha.init=true: expected a number"),
        (["budget.steps=many"], "budget.steps=many: expected an integer or null"),
        (["budget.generate=maybe"], "budget.generate=maybe: expected true or false"),
        (["trainer.wkv_backend=tritn"], "expected one of auto, cuda, triton, chunked, reference"),
        (["output=3"], "output=3: output holds several keys: output.root"),
        (["task.name={a:1}"], "expected text"),
        # missing value
        (["seed="], "seed= has no value; expected an integer"),
        (["seed"], "seed has no value; write seed=VALUE"),
        (["scalar_l10"], "scalar_l10 has no value; write fs=scalar_l10"),
        (["fs="], "fs= has no value; options: head_l6"),
        (["data.root="], "data.root= has no value; expected text or null"),
        (["task.order=???"], "task.order= has no value"),
        # lists where one choice is meant
        (["fs=[a,b]"], "fs=[a,b]: fs takes the name of one option\nto run several of them: fs=A,B"),
        (["fs={a:b}"], "fs takes the name of one option"),
        (["seed=[0,1]"], "seed=[0,1]: expected an integer\nto run several values: seed=A,B -m"),
        (["fs=null"], "fs=null: no such option; did you mean no_fs?"),
        # several values of one run
        (["seed=0,1,2"], "seed=0,1,2 lists several values: add -m to run them all"),
        (["seed=range(3)"], "seed=range(3) lists several values: add -m"),
        (["fs=glob(scalar_*)"], "fs=glob(scalar_*) lists several values: add -m"),
        (["seed=1", "seed=2"], "seed is given twice: seed=1 and seed=2"),
        (["fs=no_fs", "fs=static"], "fs is given twice"),
        # words that are off in YAML or in a habit
        (["alpha=no"], "alpha=no: no such option\noptions: m2, m2_trainable"),
        (["schedule=off"], "schedule=off: no such option; did you mean none?"),
        (["schedule=false"], "schedule=false: no such option; did you mean none?"),
        (["fs=off"], "fs=off: no such option; did you mean no_fs?"),
        (["fs=none"], "fs=none: no such option; did you mean no_fs?"),
        (["control=true"], "control=true: no such option"),
        # Hydra's signs
        (["+seed=1"], "+seed=1: every key exists already; write seed=VALUE without a sign"),
        (["++seed=1"], "++seed=1: every key exists already"),
        (["~logger"], "~logger: every key exists already"),
        (["+experiment=round20"], "write experiment=VALUE without a sign"),
        # what the grammar cannot read
        (["weights=/a b(c).pth"], "quote a value with special characters: \"weights='/a b(c).pth'"),
        (["weights=a=b,{"], "cannot read weights=a=b,{"),
        (["see me"], "'see me' is not of the form key=value"),
        (["=3"], "'=3' is not of the form key=value"),
    ],
)
def test_bad_words_are_refused_in_a_few_lines(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(*words)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fs=scalar_l10,scaler_l8"], "fs=scaler_l8: no such option; did you mean scalar_l8"),
        (["seed=0,x"], "seed=x: expected an integer"),
        (["seed=0,"], "cannot read seed=0,"),
        (["fs=[no_fs,static]"], "fs takes the name of one option"),
        (["seed=interval(0,1)"], "an interval cannot be enumerated"),
        (["seed=range(3,0)"], "seed=range(3,0) matches nothing, so the sweep has no runs"),
        (["seed=range(0,3,0)"], "seed=range(0,3,0)"),
        (["fs=glob(nothing*)"], "matches nothing"),
        (["seed=glob(*)"], "seed=glob(*)"),
        (["seed=choice(0,half)"], "seed=half: expected an integer"),
    ],
)
def test_bad_sweeps_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        expand(*words)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    "word",
    [
        *("seed=0", "seed=7", "lstart=9", "alpha.init=-2.5", "alpha.init=-3", "alpha.lr=1e-4"),
        *("schedule=none", "control=none", "logger=none", "experiment=null", "data.root=null"),
        *("budget.steps=null", "fs_variant.detach=no", "fs_variant.detach=false"),
        *("data.root='/a b(c)'", "weights=/a/b-c_1.pth", "weights=../w.safetensors"),
        *("output.root=${oc.env:HOME}/x", "hydra/launcher=basic", "hydra.verbose=true"),
        "weights=C:/models/x.pth",
    ],
)
def test_good_words_pass(word: str) -> None:
    (parsed,) = check(word)
    assert parsed.input_line == word


def test_the_grid_is_the_product_in_the_order_of_the_words() -> None:
    assert expand("fs=scalar_l8,no_fs", "seed=range(0,2)", "alpha.init=-2.5") == [
        ["fs=scalar_l8", "seed=0", "alpha.init=-2.5"],
        ["fs=scalar_l8", "seed=1", "alpha.init=-2.5"],
        ["fs=no_fs", "seed=0", "alpha.init=-2.5"],
        ["fs=no_fs", "seed=1", "alpha.init=-2.5"],
    ]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("seed=choice(3,5)", ["3", "5"]),
        ("seed=range(6,11,2)", ["6", "8", "10"]),
        ("alpha.init=-3,-2.5", ["-3", "-2.5"]),
        ("fs=glob(head_l*)", ["head_l10", "head_l6", "head_l8"]),
        ("fs=glob(*_l8,exclude=scalar*)", ["head_l8", "inputgate_l8", "raw_l8"]),
        ("data.root='/a b','/c'", ["'/a b'", "'/c'"]),
        ("seed=0", ["0"]),
    ],
)
def test_sweep_functions(word: str, values: list[str]) -> None:
    key = word.split("=")[0]
    assert expand(word) == [[f"{key}={value}"] for value in values]


def test_the_words_of_a_point_compose_again() -> None:
    """What a sweep hands to the launcher must mean the same thing once more."""
    (point,) = expand("data.root='/a b(c)'", "alpha.init=-2.5", "weights=/x.pth", "seed=0")
    config = composer().compose(point).config
    assert (config.data.root, config.alpha.init, config.seed) == ("/a b(c)", -2.5, 0)


def test_of_two_words_for_one_key_the_later_counts() -> None:
    first, second = check("seed=0,1", multirun=True), check("seed=5")
    assert expand_sweep([*first, *second]) == [["seed=5"]]


def test_options_of_a_folder_of_ones_own_are_known(tmp_path) -> None:
    (tmp_path / "alpha").mkdir()
    (tmp_path / "alpha" / "mine.yaml").write_text("init: -7.5\n")
    with hydra_session([str(tmp_path)]) as hydra:
        loader = hydra.config_loader
        (word,) = parse_overrides(["alpha=mine"], multirun=False, config_loader=loader)
        assert word.value() == "mine"
        with pytest.raises(UserError, match="did you mean mine"):
            parse_overrides(["alpha=mime"], multirun=False, config_loader=loader)
