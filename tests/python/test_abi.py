"""The declarations against the header and against what a C compiler says."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from podkeep import _abi, _words

HEADER = (ROOT / "include/podkeep.h").read_text("utf-8")
LAYOUT = ROOT / "tests/faults/layout.txt"

# A C parameter or result, without its const and its name, as ctypes writes it.
SCALARS = {
    "void": None,
    "bool": ctypes.c_bool,
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint32_t": ctypes.c_uint32,
    "size_t": ctypes.c_size_t,
    "podkeep_status": ctypes.c_int32,
    "podkeep_state": ctypes.c_int32,
    "podkeep_host": ctypes.c_int32,
    "podkeep_ready_mode": ctypes.c_int32,
    "podkeep_restart": ctypes.c_int32,
    "podkeep_phase": ctypes.c_int32,
    "podkeep_strategy": ctypes.c_int32,
    "podkeep_kind": ctypes.c_int32,
}
HANDLES = {
    "podkeep_runtime",
    "podkeep_pod",
    "podkeep_context",
    "podkeep_failure",
    "podkeep_group",
    "podkeep_monitor",
    "podkeep_control",
}


def as_ctypes(declared):
    """One C type, with or without a parameter name behind it, as the type that _abi must name."""
    stars = declared.count("*")
    words = [word for word in re.findall(r"\w+", declared) if word not in ("const", "struct")]
    base = words[0]
    if base == "char":
        return ctypes.c_char_p if stars == 1 else ctypes.POINTER(ctypes.c_char_p)
    if base in HANDLES or base == "void" and stars:
        return ctypes.c_void_p if stars == 1 else ctypes.POINTER(ctypes.c_void_p)
    if base in _abi.STRUCTS:
        assert stars == 1
        return ctypes.POINTER(_abi.STRUCTS[base])
    kind = SCALARS[base]
    assert stars <= 1
    return ctypes.POINTER(kind) if stars else kind


def declared_functions():
    """Every function of the header: name, result, parameters; callbacks among these as the text CALLBACK."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", HEADER, flags=re.DOTALL)
    text = re.sub(r"^\s*#(?:[^\n]*\\\n)*[^\n]*", " ", text, flags=re.MULTILINE)
    # Bodies (structs, enums, the inline helper of C++) have no prototypes, but function pointers that look like some.
    while True:
        less = re.sub(r'(?<!extern "C" )\{[^{}]*\}', " ", text)
        if less == text:
            break
        text = less
    found = {}
    inner = r"(?:[^()]|\([^()]*\))*"
    attributes = r"(?:[A-Z_]+(?:\([^()]*\))?\s*)*"
    for match in re.finditer(rf"(\w[\w\s\*]*?)\b(podkeep_\w+)\s*\(({inner})\)\s*{attributes};", text):
        result, name, rest = match.groups()
        if "typedef" in result:
            continue
        rest = re.sub(r"\w+\s*\(\s*\*\s*\w+\s*\)\s*\([^()]*\)", "CALLBACK", rest)
        parameters = [part.strip() for part in rest.split(",")]
        found[name] = result.strip(), [] if parameters in (["void"], [""]) else parameters
    return found


def test_every_function_of_the_header_is_declared_with_its_types():
    functions = declared_functions()
    assert len(functions) > 40
    assert sorted(functions) == sorted(_abi.PROTOTYPES)
    for name, (result, parameters) in functions.items():
        restype, argtypes = _abi.PROTOTYPES[name]
        assert as_ctypes(result) is restype, name
        assert len(parameters) == len(argtypes), name
        for declared, argtype in zip(parameters, argtypes):
            if declared == "CALLBACK" or declared.split("*")[0].split()[0].startswith("podkeep_log"):
                assert issubclass(argtype, ctypes._CFuncPtr), (name, declared)
            else:
                assert as_ctypes(declared) is argtype, (name, declared)


def test_the_library_has_these_types():
    for name, (restype, argtypes) in _abi.PROTOTYPES.items():
        function = getattr(_abi.lib, name)
        assert function.restype is restype and list(function.argtypes) == list(argtypes)


def test_struct_layout_is_the_compilers():
    if not LAYOUT.exists():
        pytest.skip("tests/faults/layout.txt is not there")
    seen = set()
    for line in LAYOUT.read_text("utf-8").splitlines():
        words = line.split()
        if not words or words[0] != "struct":
            continue
        _, name, field, first, second = words
        if name not in _abi.STRUCTS:
            # An enum's type: a number.
            assert int(second) == ctypes.sizeof(SCALARS[name]), line
            continue
        struct = _abi.STRUCTS[name]
        seen.add(name)
        if field == ".":
            assert (ctypes.alignment(struct), ctypes.sizeof(struct)) == (int(first), int(second)), line
        else:
            at = getattr(struct, field)
            assert (at.offset, at.size) == (int(first), int(second)), line
    words = [line.split() for line in LAYOUT.read_text("utf-8").splitlines()]
    rows = sum(1 for row in words if row and row[0] == "struct" and row[1] in _abi.STRUCTS)
    assert rows == sum(1 + len(_abi.STRUCTS[name]._fields_) for name in seen)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_struct_layout_is_what_a_compiler_makes_of_the_header(tmp_path):
    lines, expected = [], []
    for name, struct in _abi.STRUCTS.items():
        lines.append(f'printf("%zu\\n", sizeof({name}));')
        expected.append(ctypes.sizeof(struct))
        for field, _ in struct._fields_:
            lines.append(f'printf("%zu %zu\\n", offsetof({name}, {field}), sizeof((({name} *)0)->{field}));')
            expected += [getattr(struct, field).offset, getattr(struct, field).size]
    body = "\n".join(lines)
    (tmp_path / "layout.c").write_text(f"#include <podkeep.h>\n#include <stdio.h>\nint main(void) {{\n{body}\n}}\n")
    subprocess.run(["cc", f"-I{ROOT / 'include'}", "-o", "layout", "layout.c"], cwd=tmp_path, check=True)
    said = subprocess.run([str(tmp_path / "layout")], stdout=subprocess.PIPE, check=True).stdout.split()
    assert [int(number) for number in said] == expected
    declared = set(re.findall(r"struct (podkeep_\w+) \{", HEADER))
    assert declared == set(_abi.STRUCTS)


def constants():
    """As the header writes them: macros, or enumerators."""
    return {name: int(value) for name, value in re.findall(r"\b(PODKEEP_[A-Z_]+)\s*=?\s*\(?(-?\d+)", HEADER)}


@pytest.mark.parametrize(
    "prefix, enum",
    [
        ("PODKEEP_STATE_", _words.State),
        ("PODKEEP_PHASE_", _words.Phase),
        ("PODKEEP_KIND_", _words.Kind),
        ("PODKEEP_ERR_", _words.Status),
    ],
)
def test_enums_are_the_headers(prefix, enum):
    said = {name[len(prefix) :]: value for name, value in constants().items() if name.startswith(prefix)}
    if enum is _words.Status:
        said["OK"] = 0
    assert said == {member.name: member.value for member in enum}


def test_constants_are_the_headers():
    if LAYOUT.exists():
        said = dict(line.split()[1:3] for line in LAYOUT.read_text("utf-8").splitlines() if line.startswith("constant "))
        assert int(said["PODKEEP_CANCELLED"]) == _abi.CANCELLED
        assert int(said["PODKEEP_FOREVER"]) == _abi.FOREVER
        assert int(said.get("PODKEEP_ABI_VERSION", _abi.ABI_VERSION)) == _abi.ABI_VERSION
    assert _abi.lib.podkeep_abi_version() == _abi.ABI_VERSION


def test_words_read_as_the_contract_writes_them():
    assert str(_words.State.STOPPED) == "stopped"
    assert f"{_words.Phase.RUN} {_words.Kind.SIGNAL:>8}" == "run   signal"
    assert str(_words.Status.INVALID_HANDLE) == "invalid_handle"
    assert _words.State.RUNNING == 2
    assert [state for state in _words.State if state.final] == [_words.State.STOPPED, _words.State.FAILED]


# --- finding the library ----------------------------------------------------------------------------------------------


def importing(library):
    env = dict(os.environ)
    env.pop("PODKEEP_LIBRARY", None)
    if library is not None:
        env["PODKEEP_LIBRARY"] = str(library)
    code = "import podkeep; print(podkeep.__version__)"
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)


def test_a_library_that_is_not_there_is_named_with_the_way_out(tmp_path):
    ran = importing(tmp_path / "none.so")
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("ImportError: podkeep: cannot load the library")
    assert "none.so" in last and "PODKEEP_LIBRARY" in last


def test_without_the_variable_the_package_must_carry_it():
    if os.path.exists(os.path.join(os.path.dirname(_abi.__file__), _abi.SONAME)):
        pytest.skip("this package carries its library")
    ran = importing(None)
    assert ran.returncode == 1
    assert "pip install ./bindings/python" in ran.stderr.splitlines()[-1]


def test_a_library_that_is_not_podkeep_is_refused():
    ran = importing("libc.so.6")
    assert ran.returncode == 1
    assert "has no function podkeep_" in ran.stderr.splitlines()[-1]
