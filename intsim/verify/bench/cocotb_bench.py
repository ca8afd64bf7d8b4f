# SPDX-License-Identifier: Apache-2.0
"""The bench in Python: ``python cocotb_bench.py`` runs the unit of this folder on some cases of vectors.txt in Icarus.

In the environment: CASES (200, spread over the file), STALL (percent, 30), RESETS (5), SEED (1), SIM (icarus).
"""

import os
import sys
from pathlib import Path
from random import Random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotb_tools.runner import get_results, get_runner

HERE = Path(__file__).parent
CASES, STALL, RESETS, SEED = (
    int(os.environ.get(name, default)) for name, default in (("CASES", 200), ("STALL", 30), ("RESETS", 5), ("SEED", 1))
)
PATIENCE = 20_000  # cycles without a handshake


class Vectors:
    """The header and the cases of vectors.txt: of each the operands by name, the result and the line."""

    def __init__(self, path):
        lines = path.read_text().splitlines()
        self.header = [line.removeprefix("# ") for line in lines if line.startswith("#")]
        keys = [line.partition(": ")[::2] for line in self.header]
        self.operator, self.is_narrow = dict(keys)["operator"], dict(keys).get("to") == "narrow"
        self.constants = {
            name.upper(): value for key, pair in keys if key == "constant" for name, value in [pair.split()]
        }
        self.fields = [self._field(value) for key, value in keys if key in ("operand", "result")]
        cases = lines[len(self.header) :]
        count = min(CASES, len(cases))
        self.lines = [cases[k * len(cases) // count] for k in range(count)]

    @staticmethod
    def _field(text):
        name, kind = text.split()
        width, _, count = kind.partition("[")
        return name, int(width.strip("uint")), int(count.rstrip("]") or 1), not kind.startswith("u")

    def cases(self):
        """Yield the operands, name -> unsigned words, and the expected words of every case."""
        for line in self.lines:
            words, case = [int(word, 16) for word in line.split()], {}
            for name, _, count, _ in self.fields:
                case[name], words = words[:count], words[count:]
            yield case, case.pop(self.fields[-1][0])

    def field(self, name):
        """Return the bits of a word of a field, its words, and whether they are signed."""
        return next(rest for field, *rest in self.fields if field == name)

    def parameters(self):
        """Return the parameters of the unit."""
        result = {"Y_BITS": self.fields[-1][1], "NARROW": int(self.is_narrow)}
        match self.operator:
            case "softmax":
                names = ("ONE", "Q_LN2", "Q_B", "Q_C", "GUARD_BITS", "OUTPUT_SHIFT")
                return {"LENGTH": self.field("acc")[1], **self._constants(*names)}
            case "gelu":
                return self._constants("Q_B", "Q_1", "OUTPUT_SHIFT")
            case "layer_norm":
                return {"CHANNELS": self.field("x")[1], "FRACTION": int(self.constants["OUTPUT_FRACTION"]), **result}
            case "matmul":
                (_, words, signed), columns = self.field("x"), self.field("bias")[1]
                depth = self.field("w")[1] // columns
                return {"ROWS": words // depth, "COLUMNS": columns, "DEPTH": depth, "X_SIGNED": int(signed)}
            case _:
                return {"ZERO_POINT_BITS": self.field("zero_point")[0], **result}

    def _constants(self, *names):
        return {name: int(self.constants[name]) for name in names}

    def answer(self, path, observed):
        """Write the lines with the unit's results in the place of the expected ones; not all cases, so no seed."""
        left_out = ("seed", "level", "cases", "command")
        header = [f"# {line}" for line in self.header if line.partition(":")[0] not in left_out]
        _, bits, count, _ = self.fields[-1]
        kept = [line.split()[:-count] for line in self.lines]
        rows = [
            " ".join([*operands, *(f"{word:0{bits // 4}x}" for word in words)])
            for operands, words in zip(kept, observed, strict=False)
        ]
        path.write_text("\n".join([*header, *rows, ""]))


def packed(words, bits):
    """Return lanes as one number, lane 0 lowest."""
    return sum(word << bits * lane for lane, word in enumerate(words))


def beats(operator, case):
    """Return what the ports get in each beat of a case: rows go a word a beat, tiles a column a beat."""
    if operator == "matmul":
        depth = len(case["w"]) // len(case["bias"])
        bias = packed(case["bias"], 32)
        return [
            {"x": packed(case["x"][k::depth], 8), "w": packed(case["w"][k::depth], 8), "bias": bias}
            for k in range(depth)
        ]
    length = max(map(len, case.values()))
    last = [{"in_last": int(k == length - 1)} if operator == "softmax" else {} for k in range(length)]
    return [
        {**{name: words[k] if len(words) == length else words[0] for name, words in case.items()}, **last[k]}
        for k in range(length)
    ]


@cocotb.test()
async def the_unit_answers_every_case(dut):
    """Source and sink stall, resets throw rows away, results stay until they are taken."""
    vectors, random = Vectors(HERE / "vectors.txt"), Random(SEED)
    cases = [(beats(vectors.operator, operands), expected) for operands, expected in vectors.cases()]
    result = {"softmax": "prob", "matmul": "acc"}.get(vectors.operator, "y")
    port, has_last = getattr(dut, result), hasattr(dut, "out_last")
    lanes = len(cases[0][1]) if result == "acc" else 1
    bits = len(port) // lanes

    Clock(dut.clk, 10, unit="ns").start()
    resets = sorted(random.sample(range(1, len(cases)), RESETS))
    observed, row, sent, beat, idle, reset, held = [], [], 0, 0, 0, 3, None
    dut.rst.value, dut.in_valid.value, dut.out_ready.value = 1, 0, 0
    while len(observed) < len(cases):
        await RisingEdge(dut.clk)
        idle += 1
        assert idle < PATIENCE, f"nothing moves any more after {len(observed)} cases"
        if dut.rst.value == 1:
            held = None
        else:
            if dut.out_valid.value == 1:
                assert sent > len(observed), "a result before its operands"
                value = port.value
                assert held is None or held == str(value), "results must not change before out_ready"
                held = str(value)
                if dut.out_ready.value == 1:
                    held, idle = None, 0
                    row += [value.to_unsigned() >> bits * lane & (1 << bits) - 1 for lane in range(lanes)]
                    is_last = len(row) == len(cases[0][1])
                    assert not has_last or dut.out_last.value == is_last, "out_last must come with the last result"
                    if is_last:
                        observed.append(row)
                        row = []
            else:
                assert held is None, "out_valid must stay until out_ready"
            if dut.in_valid.value == 1 and dut.in_ready.value == 1:
                idle, beat = 0, beat + 1
                if beat == len(cases[0][0]):
                    sent, beat = sent + 1, 0
                dut.in_valid.value = 0
        taken = dut.in_valid.value == 0 or dut.in_ready.value == 1
        if reset:
            reset -= 1
            dut.rst.value = int(reset > 0)
        elif resets and len(observed) >= resets[0] and random.random() < 0.05:
            resets.pop(0)
            reset, sent, beat, row, held = random.randint(1, 4), len(observed), 0, [], None
            dut.rst.value, dut.in_valid.value = 1, 0
            continue
        dut.out_ready.value = int(random.randrange(100) >= STALL)
        if taken and not reset:
            valid = sent < len(cases) and random.randrange(100) >= STALL
            dut.in_valid.value = int(valid)
            for name, word in (cases[sent][0][beat] if valid else {}).items():
                getattr(dut, name).value = word

    vectors.answer(HERE / "answers_cocotb.txt", observed)
    wrong = [k for k, (_, expected) in enumerate(cases) if observed[k] != expected]
    assert not wrong, f"{len(wrong)} of {len(cases)} cases differ, first {vectors.lines[wrong[0]]}"


def main():
    """Build the unit and run the test."""
    vectors = Vectors(HERE / "vectors.txt")
    sources = [
        path
        for path in sorted(HERE.glob("*.sv"))
        if path.name != "bench.sv" and not path.name.startswith("tb_") and not path.name.endswith("_pkg.sv")
    ]
    runner = get_runner(os.environ.get("SIM", "icarus"))
    options = {"hdl_toplevel": vectors.operator, "build_dir": HERE / "sim_build"}
    runner.build(sources=sources, parameters=vectors.parameters(), timescale=("1ns", "1ns"), always=True, **options)
    results = runner.test(test_module=Path(__file__).stem, test_dir=HERE, **options)
    run, failed = get_results(results)
    sys.exit(1 if failed or not run else 0)


if __name__ == "__main__":
    main()
