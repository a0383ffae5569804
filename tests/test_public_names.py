"""What `import act2see` offers, and that it costs nothing until it is used."""

import subprocess
import sys

import act2see


def test_every_public_name_is_there_and_documented() -> None:
    assert len(set(act2see.__all__)) == len(act2see.__all__)
    for name in act2see.__all__:
        assert getattr(act2see, name) is not None
        assert name.startswith("__") or getattr(act2see, name).__doc__


def test_an_import_loads_nothing_heavy() -> None:
    program = "import act2see, sys; sys.exit(str({'torch', 'av', 'numpy', 'PIL', 'transformers'} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_no_name_hides_a_module() -> None:
    """`act2see.tools.index` stays the module, whatever was imported first."""
    used = "act2see.Index; act2see.retrieve; act2see.encoder"
    program = f"import act2see; {used}; import act2see.tools.index; print(act2see.tools.index.Index is act2see.Index)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "True\n"
