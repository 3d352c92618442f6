"""Weights, vocabularies, data sets and caches that a stranger gave."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from fseed.training.checkpoint_file import find_start
from tests.security import payloads
from tests.security.attack import Attack, Command, Place, _call
from tests.tasks.task_helpers import make_rows, write_data, write_parquet

Make = Callable[[Place], bytes]


def _weights(name: str, make: Make, *, says: str = "weights|RWKV-7 checkpoint") -> Attack:
    def plant(place: Place) -> Command:
        path = place.write(name.replace(" ", "_"), make(place))
        return ["run", "model=custom", f"weights={path}", "sweep.dry_run=true"]

    return Attack(name, "weights", "runs code when it is loaded", plant, says)


def _pickles() -> list[Attack]:
    def one(make: Callable[[Path], bytes]) -> Make:
        return lambda place: payloads.torch_zip(("archive/data.pkl", make(place.canary)))

    def plain(place: Place) -> bytes:
        return payloads.torch_zip(
            ("archive/data.pkl", pickle.dumps({"a": 1})),
            ("evil/data.pkl", payloads.touching_pickle(place.canary)),
        )

    return [
        _weights("mkdir.pth", one(payloads.touching_pickle)),
        _weights("eval.pth", one(lambda path: pickle.dumps({"a": payloads.Run(path)}, 2))),
        _weights("protocol 5.pth", one(lambda p: payloads.touching_pickle(p, protocol=5))),
        _weights("stack global.pth", one(lambda path: pickle.dumps(payloads.Run(path), 4))),
        _weights("two pickles.pth", plain),
        _weights("bare pickle.pth", lambda place: payloads.touching_pickle(place.canary)),
        _weights("whole module.pth", one(lambda _: b"ctorch.nn.modules.linear\nLinear\n.")),
        _weights("persistent id.pth", one(lambda _: b"(Vevil\nVx\ntQ.")),
        _weights("pickle as.safetensors", lambda place: payloads.touching_pickle(place.canary)),
        _weights("huge pickle.pth", lambda _: payloads.torch_zip(("a/data.pkl", bytes(65 << 20)))),
    ]


def _headers() -> list[Attack]:
    def entry(start: int, end: int, size: int) -> dict[str, object]:
        return {"dtype": "F32", "shape": [size], "data_offsets": [start, end]}

    overlap = {"a": entry(0, 16, 4), "emb.weight": entry(8, 24, 4)}
    deep = b"[" * 200_000
    return [
        _weights("endless header.safetensors", lambda _: b"\xff" * 7 + b"\x7f{" + bytes(64)),
        _weights("overlap.safetensors", lambda _: payloads.safetensors(overlap, bytes(24))),
        _weights("deep header.safetensors", lambda _: payloads.safetensors(b"{" + deep)),
        _weights("negative offset.safetensors",
                 lambda _: payloads.safetensors({"a": entry(-8, 8, 4)}, bytes(8))),
        Attack("shard above the folder", "weights", "reads a file outside the model",
               _folder({"weight_map": {"a": "../../home/victim"}}), "shards"),
        Attack("model folder with code", "weights", "runs the code of a model repository",
               _folder(None), "weights"),
    ]  # fmt: skip


def _folder(index: dict[str, object] | None) -> Callable[[Place], Command]:
    def plant(place: Place) -> Command:
        config = {"model_type": "rwkv7", "auto_map": {"AutoModel": "modeling.Evil"}}
        place.write("model/config.json", json.dumps(config))
        place.write("model/modeling.py", f"import os; os.mkdir({str(place.canary)!r})")
        if index is not None:
            place.write("model/model.safetensors.index.json", json.dumps(index))
        folder = place.gift / "model"
        return ["run", "model=custom", f"weights={folder}", "sweep.dry_run=true"]

    return plant


def _vocabularies() -> list[Attack]:
    def vocabulary(line: str) -> Callable[[Place], Command]:
        def plant(place: Place) -> Command:
            text = line.replace("CANARY", str(place.canary))
            path = place.write("vocabulary.txt", text)
            words = [f"model.vocab_file={path}", "model.tokenizer=world", "model.vocab_size=65536"]
            return ["run", *words, "sweep.dry_run=true"]

        return plant

    would = "runs code where a literal is evaluated"
    return [
        Attack("vocabulary with a call", "weights", would,
               vocabulary("1 __import__('os').mkdir('CANARY') 1\n"), "vocabulary.txt, line 1"),
        Attack("vocabulary with a comprehension", "weights", would,
               vocabulary("1 [c for c in ().__class__.__base__.__subclasses__()] 1\n"), "line 1"),
        Attack("vocabulary nested deep", "weights", "overflows the stack of the parser",
               vocabulary(f"1 {'(' * 100_000} 1\n"), "line 1"),
    ]  # fmt: skip


def _checkpoints() -> list[Attack]:
    def checkpoint(make: Make) -> Callable[[Place], Command]:
        def plant(place: Place) -> Command:
            path = place.write("run/checkpoint.ckpt", make(place))
            return lambda: _no_start(path.parent)

        return plant

    def forged(place: Place) -> bytes:
        content = payloads.touching_pickle(place.canary)
        return payloads.sealed(payloads.torch_zip(("archive/data.pkl", content)))

    would = "runs code when a run continues"
    codes = (0,)
    return [
        Attack("checkpoint with a forged seal", "weights", would, checkpoint(forged), codes=codes),
        Attack("checkpoint as bare pickle", "weights", would,
               checkpoint(lambda place: payloads.sealed(payloads.touching_pickle(place.canary))),
               codes=codes),
    ]  # fmt: skip


def _no_start(run_dir: Path) -> None:
    found = find_start(run_dir)
    assert found.path is None, "a malicious checkpoint was taken"
    assert found.damaged, "nothing was said of it"


def _data() -> list[Attack]:
    words = ["task=hotpot", "data=local", "data.num_train=20", "data.num_validation=10"]

    def local(change: Callable[[Place], None], *more: str) -> Callable[[Place], Command]:
        def plant(place: Place) -> Command:
            write_data(place.gift)
            change(place)
            return ["data", *words, f"data.root={place.gift}", *more]

        return plant

    def extension(place: Place) -> None:
        path = place.gift / "hotpotqa" / "train.parquet"
        table = payloads.with_python_extension(parquet.read_table(path), place.canary)
        parquet.write_table(table, path)

    def script(place: Place) -> None:
        place.write("hotpotqa/hotpotqa.py", f"import os; os.mkdir({str(place.canary)!r})")

    def pickled(place: Place) -> None:
        place.write("hotpotqa/train.parquet", payloads.touching_pickle(place.canary))

    def markup(place: Place) -> None:
        rows = make_rows(0, 40)
        for row in rows:
            row["question"] = f"\x1b]0;owned\x07<script>alert(1)</script> {row['question']}"
        write_parquet(place.gift / "hotpotqa", "train", rows)

    def page_leaks(place: Place, output: str) -> bool:
        page = (place.outputs / "card.html").read_text()
        return "<script" in page or "\x1b" in page or "\x1b" in output

    return [
        Attack("Arrow type that unpickles", "data", "runs code when a table is read",
               local(extension), codes=(0,)),
        Attack("script beside the data", "data", "runs the code of a data set",
               local(script), codes=(0,)),
        Attack("pickle as parquet", "data", "runs code when a table is read",
               local(pickled), "cannot be read as parquet"),
        Attack("markup and terminal commands in rows", "data", "runs in the page and the terminal",
               _card(markup, words), codes=(0,), leaks=page_leaks),
        Attack("program in a data set", "data", "runs with the user's rights when data are checked",
               _programs, codes=(0,)),
        Attack("pickle in the data cache", "data", "runs code when the cache is read",
               _planted_cache(lambda path: payloads.touching_pickle(path)), "cannot be used",
               codes=(0,)),
        Attack("Arrow type in the data cache", "data", "runs code when the cache is read",
               _planted_cache(_arrow_stream), "cannot be used", codes=(0,)),
    ]  # fmt: skip


def _card(change: Callable[[Place], None], words: list[str]) -> Callable[[Place], Command]:
    def plant(place: Place) -> Command:
        write_data(place.gift)
        change(place)
        page = place.outputs / "card.html"
        return ["data", *words, f"data.root={place.gift}", "--html", str(page)]

    return plant


def _programs(place: Place) -> Command:
    for split, start in (("train", 0), ("validation", 1000)):
        rows = [_problem(number, place.canary) for number in range(start, start + 30)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        place.write(f"mbpp/{split}.jsonl", lines)
    words = ["data.num_train=8", "data.num_validation=4", "budget.batch_size=4"]
    sizes = ["task.max_length_tokens=3000", "task.max_answer_tokens=900"]
    return ["data", "task=mbpp", "data=local", f"data.root={place.gift}", *words, *sizes]


def _problem(number: int, canary: Path) -> dict[str, object]:
    # in words of its own: a row that shares a line with another is no note of it
    path = f"{canary}{number}".encode().hex()
    evil = f"import os as os{number}\nos{number}.mkdir(bytes.fromhex('{path}'))"
    name = f"add{number}"
    return {
        "task_id": number,
        "text": f"Write a function to compute moss{number} of fern{number} and reed{number}.",
        "code": f"{evil}\ndef {name}(n):\n    return n + {number}",
        "test_list": [f"assert {name}({value}) == {value + number}" for value in (1, 2, 3)],
        "test_setup_code": evil,
        "challenge_test_list": [],
    }


def _planted_cache(make: Callable[[Path], bytes]) -> Callable[[Place], Command]:
    words = ["data", "task=sudoku4", "data.num_train=20", "data.num_validation=10"]

    def plant(place: Place) -> Command:
        with redirect_stdout(StringIO()):
            assert _call(words) == 0
        entries = list(Path(os.environ["FSEED_CACHE"]).glob("*.arrows"))
        assert entries
        for path in entries:
            path.write_bytes(make(place.canary))
        return words

    return plant


def _arrow_stream(path: Path) -> bytes:
    table = payloads.with_python_extension(pa.table({"id": ["a"]}), path)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue().to_pybytes()
    return content + hashlib.sha256(content).digest()


ATTACKS: list[Attack] = [
    *_pickles(),
    *_headers(),
    *_vocabularies(),
    *_checkpoints(),
    *_data(),
]
