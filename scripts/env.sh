# Sourced by the other scripts. Installs what is missing on this machine and lays out a private copy
# of PostgreSQL.
#
# The copy is a folder with the server's programs and its extension folder in it. PostgreSQL finds
# its files relative to its own programs, so the extension is installed there and nowhere else, and
# no server of the machine is affected.
#
#   PG_MAJOR      which PostgreSQL (15)
#   PG_CONFIG     set to the copy's pg_config
#   PG_BIN        set to the copy's programs
#   GUARD_CACHE   where the copy lives
set -euo pipefail

PG_MAJOR=${PG_MAJOR:-15}
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "$(id -u)" = 0 ]; then
  # PostgreSQL refuses to run as root, and its user cannot look into root's home.
  GUARD_CACHE=${GUARD_CACHE:-/var/cache/dragonfly_guard}
else
  GUARD_CACHE=${GUARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dragonfly_guard}
fi
export PG_MAJOR GUARD_CACHE PGRX_HOME="$GUARD_CACHE/pgrx"
PGRX_VERSION=0.18.1

step() { printf '\n==> %s\n' "$*" >&2; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Runs a program as a user who may run PostgreSQL.
as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

# rust-toolchain.toml names one version. Where rustup does not have it by that name and may not
# download it, rustup's default toolchain is used, if it is of the same version.
choose_toolchain() {
  local version default
  (cd "$PROJECT" && ! cargo --version) >/dev/null 2>&1 || return 0
  version=$(sed -n 's/^channel = "\(.*\)"$/\1/p' "$PROJECT/rust-toolchain.toml")
  default=$(rustup default | cut -d ' ' -f 1)
  case $(RUSTUP_TOOLCHAIN=$default rustc --version) in
    "rustc $version "*) export RUSTUP_TOOLCHAIN=$default ;;
    *) echo "Rust $version is required: rustup toolchain install $version" >&2 && exit 1 ;;
  esac
}
choose_toolchain

install_packages() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  step "installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What building takes: a C compiler and linker, and libclang for the bindings to the server.
install_build_packages() { install_packages gcc libc6-dev make libclang-dev; }

# What the private copy of PostgreSQL is made of. Debian would create and start a cluster with the
# package; the demo and the tests do not use it, so it is not created.
install_server_packages() {
  if ! [ -d "/usr/lib/postgresql/$PG_MAJOR/bin" ] && ! [ -e /etc/postgresql-common/createcluster.conf ]; then
    as_root mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  # The tests run the guard beside pgaudit.
  install_packages "postgresql-$PG_MAJOR" "postgresql-server-dev-$PG_MAJOR" \
    "postgresql-$PG_MAJOR-pgaudit" sudo
}

# Only the tests inside a server need cargo-pgrx. It is built without optimisation: it copies files
# and calls cargo, and takes a fraction of the time to build that way.
install_cargo_pgrx() {
  [ "$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $PGRX_VERSION" ] || return 0
  install_packages pkg-config libssl-dev
  step "installing cargo-pgrx $PGRX_VERSION (once)"
  cargo install --quiet --locked --debug cargo-pgrx --version "=$PGRX_VERSION"
}

# Lays out the private copy, again when the machine's PostgreSQL has been updated.
stage_postgres() {
  local from=/usr/lib/postgresql/$PG_MAJOR stage=$GUARD_CACHE/pg$PG_MAJOR version pgaudit
  pgaudit=$stage/usr/lib/postgresql/$PG_MAJOR/lib/pgaudit.so
  version=$("$from/bin/postgres" --version)
  PG_BIN=$stage/usr/lib/postgresql/$PG_MAJOR/bin
  PG_CONFIG=$PG_BIN/pg_config
  export PG_BIN PG_CONFIG
  if [ "$(cat "$stage/version" 2>/dev/null)" != "$version" ] || ! [ -e "$pgaudit" ]; then
    step "laying out a private copy of $version in $stage"
    rm -rf "$stage"
    mkdir -p "$stage/usr/lib/postgresql" "$stage/usr/share/postgresql" "$stage/usr/include" \
      "$stage/clusters"
    cp -a "$from" "$stage/usr/lib/postgresql/"
    cp -aL "/usr/share/postgresql/$PG_MAJOR" "$stage/usr/share/postgresql/"
    ln -s /usr/include/postgresql "$stage/usr/include/postgresql"
    # An unused cluster to start others from: a copy takes a fraction of the time of initdb.
    [ "$(id -u)" != 0 ] || chown postgres: "$stage/clusters"
    as_postgres "$PG_BIN/initdb" -D "$stage/clusters/template" -U root_su -A trust -E UTF8 \
      --locale=C.UTF-8 --no-sync >/dev/null
    printf '%s' "$version" > "$stage/version"
  fi
  export GUARD_CLUSTERS=$stage/clusters
  mkdir -p "$PGRX_HOME"
  local config
  config=$(printf '[configs]\npg%s = "%s"' "$PG_MAJOR" "$PG_CONFIG")
  # Written only when it changes: pgrx builds its bindings again for a newer file.
  [ "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" = "$config" ] ||
    printf '%s\n' "$config" >"$PGRX_HOME/config.toml"
}

# Installs a build of the extension into the PostgreSQL whose pg_config is $1. The other arguments
# go to cargo: the profile. The same three files as by `cargo pgrx install`, which scripts/test
# proves; the installation script is one plain file, so nothing has to be generated.
# Everything it prints goes to standard error.
install_into() {
  local pg_config=$1 messages library version libdir extdir file staged run=()
  shift
  cd "$PROJECT"
  messages=$(cargo build --lib --package dragonfly_guard --no-default-features \
    --features "pg$PG_MAJOR" --message-format json-render-diagnostics "$@")
  library=$(grep -o '"[^"]*/libdragonfly_guard\.so"' <<<"$messages" | tail -n 1 | tr -d '"')
  version=$(cargo pkgid --package dragonfly_guard)
  version=${version##*[#@]}
  libdir=$("$pg_config" --pkglibdir)
  extdir=$("$pg_config" --sharedir)/extension
  { [ -w "$libdir" ] && [ -w "$extdir" ]; } || run=(as_root)

  staged=$(mktemp -d)
  sed "s/@CARGO_VERSION@/$version/g" dragonfly_guard.control >"$staged/dragonfly_guard.control"
  cp sql/install.sql "$staged/dragonfly_guard--$version.sql"
  for file in sql/dragonfly_guard--*--*.sql; do
    [ ! -e "$file" ] || cp "$file" "$staged/"
  done
  # install(1) puts a new file in the place of the old one: a server that has the library open keeps
  # the one it has.
  ${run[@]+"${run[@]}"} install -m 755 "$library" "$libdir/dragonfly_guard.so"
  ${run[@]+"${run[@]}"} install -m 644 "$staged"/* "$extdir/"
  rm -rf "$staged"
} >&2

# Builds the extension and installs it into the private copy.
install_extension() {
  step "building the extension for PostgreSQL $PG_MAJOR and installing it into the private copy"
  install_into "$PG_CONFIG" "$@"
}

prepare() {
  mkdir -p "$GUARD_CACHE" 2>/dev/null || as_root mkdir -p "$GUARD_CACHE"
  install_build_packages
  install_server_packages
  stage_postgres
}
