# Sourced by scripts/start and scripts/test: a virtual environment with what is needed, made once.

# The newest Python from 3.11 on, or a clear word on what to install.
find_python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3 python; do
        if command -v "$candidate" >/dev/null \
            && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "PiBot Mesh needs Python 3.11 or later. On Debian 12, Ubuntu 24.04 or Raspberry Pi OS 12:" >&2
    echo "    sudo apt-get install python3 python3-venv" >&2
    exit 1
}

# .venv, unless it is there.
make_venv() {
    [ -x .venv/bin/python ] && return
    local python
    python=$(find_python)
    echo "== making .venv with $("$python" --version)" >&2
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        echo "the virtual environment could not be made. On Debian: sudo apt-get install python3-venv" >&2
        exit 1
    fi
}

# The package with the extras $1, installed again only when setup.cfg has changed.
need_extras() {
    local stamp=.venv/.installed wanted
    wanted="$1 $(cksum <setup.cfg)"
    if [ -f "$stamp" ] && grep -qxF "$wanted" "$stamp"; then
        return
    fi
    echo "== installing (pip, once; a few minutes on a Pi)" >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$1]" >&2
    echo "$wanted" >>"$stamp"
}
