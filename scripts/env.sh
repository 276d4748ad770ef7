# Sourced by the other scripts. Installs what is missing on this machine and lays out a private copy
# of PostgreSQL.
#
# The copy is a folder with the server's programs and its extension folder in it. PostgreSQL finds
# its files relative to its own programs, so the extension is installed there and nowhere else, and
# no server of the machine is affected.
#
#   PG_MAJOR      which PostgreSQL (15): Debian's where it has that, or else one of majors.sh
#   PG_CONFIG     set to the copy's pg_config
#   PG_BIN        set to the copy's programs
#   GUARD_CACHE   where the copy lives
#   GUARD_LOCALES set to a folder with a locale in which the copy's servers speak German
set -euo pipefail

PG_MAJOR=${PG_MAJOR:-15}
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "$(id -u)" = 0 ]; then
  # PostgreSQL refuses to run as root, and its user cannot look into root's home.
  GUARD_CACHE=${GUARD_CACHE:-/var/cache/dragonfly_guard}
else
  GUARD_CACHE=${GUARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dragonfly_guard}
fi
export PG_MAJOR GUARD_CACHE PGRX_HOME="$GUARD_CACHE/pgrx$PG_MAJOR"
source "$PROJECT/scripts/majors.sh"

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
  local package missing=()
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

# Builds a program of version $2 of a crate, and prints its path: it has the name of the crate.
cargo_tool() {
  local folder=$GUARD_CACHE/tools/$1-$2
  [ -x "$folder/bin/$1" ] || cargo install --quiet --locked --root "$folder" "$1@$2" >&2
  echo "$folder/bin/$1"
}

# What building takes: a C compiler and linker, and libclang for the bindings to the server.
install_build_packages() { install_packages gcc libc6-dev make libclang-dev; }

# What the private copy of PostgreSQL is made of; the arguments are packages of other extensions.
# Debian would create and start a cluster with the package; the demo and the tests do not use it, so
# it is not created.
install_server_packages() {
  local settings=/etc/postgresql-common/createcluster.conf
  if ! [ -d "/usr/lib/postgresql/$PG_MAJOR/bin" ] && ! [ -e "$settings" ]; then
    as_root mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | as_root tee "$settings" >/dev/null
  fi
  install_packages "postgresql-$PG_MAJOR" "postgresql-server-dev-$PG_MAJOR" "$@"
}

# Whether Debian's packages have the server.
is_in_debian() {
  [ -d "/usr/lib/postgresql/$PG_MAJOR/bin" ] ||
    apt-cache policy "postgresql-$PG_MAJOR" 2>/dev/null | grep -q '^  Candidate: [0-9]'
}

# Lays out the private copy, again when the machine's packages of PostgreSQL have changed.
stage_postgres() {
  local from=/usr/lib/postgresql/$PG_MAJOR stage=$GUARD_CACHE/pg$PG_MAJOR version
  version=$(dpkg-query -W -f '${Package} ${Version}\n' "postgresql-$PG_MAJOR*")
  PG_BIN=$stage/usr/lib/postgresql/$PG_MAJOR/bin
  PG_CONFIG=$PG_BIN/pg_config
  export PG_BIN PG_CONFIG
  if [ "$(cat "$stage/version" 2>/dev/null)" != "$version" ]; then
    step "laying out a private copy of PostgreSQL $PG_MAJOR in $stage"
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
}

# Tells pgrx where the copy is.
configure_pgrx() {
  local config
  mkdir -p "$PGRX_HOME"
  config=$(printf '[configs]\npg%s = "%s"' "$PG_MAJOR" "$PG_CONFIG")
  # Written only when it changes, because pgrx builds its bindings again when the file is newer.
  [ "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" = "$config" ] ||
    printf '%s\n' "$config" >"$PGRX_HOME/config.toml"
}

# The German translation of the server's messages, where there is one, and a locale of the C library
# that selects it, in a folder of its own: the machine's locales do not change. Client programs are
# not translated.
stage_german() {
  local messages catalog
  messages=$("$PG_CONFIG" --localedir)/de/LC_MESSAGES
  export GUARD_LOCALES=$GUARD_CACHE/locales
  mkdir -p "$messages" "$GUARD_LOCALES"
  for catalog in /usr/share/locale/de/LC_MESSAGES/{postgres,plpgsql}-"$PG_MAJOR.mo"; do
    [ ! -e "$catalog" ] || cp -u "$catalog" "$messages/"
  done
  [ -d "$GUARD_LOCALES/de_DE.UTF-8" ] ||
    localedef --no-archive -i de_DE -f UTF-8 "$GUARD_LOCALES/de_DE.UTF-8"
}

# The library with ending $1 among the messages of a cargo build, read from standard input.
built() { grep -o "\"[^\"]*/libdragonfly_guard\.$1\"" | tail -n 1 | tr -d '"'; }

extension_version() {
  local id
  id=$(cargo pkgid --package dragonfly_guard)
  printf '%s' "${id##*[#@]}"
}

# The script that CREATE EXTENSION runs for the current version.
install_script() { printf 'sql/dragonfly_guard--%s.sql' "$(extension_version)"; }

# Sets SOURCE_DATE_EPOCH, by which tools date what they build, to the time of the last commit; to
# that of the changelog where there is no git.
date_by_commit() {
  export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$PROJECT" log -1 --format=%ct \
    2>/dev/null || stat -c %Y "$PROJECT/CHANGELOG.md")}
}

# Places the files that `cargo pgrx install` installs: library $3 in folder $1; installation script
# $4, the control file and the scripts that update from earlier versions in folder $2.
place_files() {
  local version staged file run=()
  version=$(extension_version)
  mkdir -p "$1" "$2"
  { [ -w "$1" ] && [ -w "$2" ]; } || run=(as_root)
  staged=$(mktemp -d)
  cp "$4" "$staged/dragonfly_guard--$version.sql"
  for file in dragonfly_guard.control sql/dragonfly_guard--*--*.sql; do
    [ ! -e "$file" ] || sed "s/@CARGO_VERSION@/$version/g" "$file" >"$staged/${file#sql/}"
  done
  # install(1) replaces a file by a new one, so that a server that has the library open keeps it.
  ${run[@]+"${run[@]}"} install -m 755 "$3" "$1/dragonfly_guard.so"
  ${run[@]+"${run[@]}"} install -m 644 "$staged"/* "$2/"
  rm -rf "$staged"
}

# Installs library $2 and installation script $3 into the PostgreSQL whose pg_config is $1.
install_files() {
  place_files "$("$1" --pkglibdir)" "$("$1" --sharedir)/extension" "$2" "$3"
}

# Builds the library, and prints its path; the arguments go to cargo.
build_library() {
  local messages
  cd "$PROJECT"
  messages=$(cargo build --lib --package dragonfly_guard --no-default-features \
    --features "pg$PG_MAJOR" --message-format json-render-diagnostics "$@")
  built so <<<"$messages"
}

# Builds the extension and installs it into the PostgreSQL whose pg_config is $1; the other
# arguments go to cargo. The installation script is one plain file, so that cargo-pgrx is not
# needed; tests/in_server proves it. Everything that this prints goes to standard error.
install_into() {
  local pg_config=$1 library
  shift
  cd "$PROJECT"
  library=$(build_library "$@")
  install_files "$pg_config" "$library" "$(install_script)"
} >&2

# Builds the extension and installs it into the private copy.
install_extension() {
  step "building the extension for PostgreSQL $PG_MAJOR and installing it into the private copy"
  install_into "$PG_CONFIG" "$@"
}

# Stops the servers that tests have left behind, and removes their data and that in the folder $1.
# The folders carry the number of their process: data of a process that still runs belongs to
# another run.
throw_clusters_away() {
  local data pid
  for data in "$GUARD_CLUSTERS"/t[0-9]* "$@"; do
    pid=$(basename "$data" | sed -E 's/^t([0-9]+).*/\1/')
    [ "$data" = "${1:-}" ] || ! kill -0 "$pid" 2>/dev/null || continue
    [ ! -e "$data/postmaster.pid" ] ||
      as_postgres "$PG_BIN/pg_ctl" -D "$data" -m immediate -s stop >/dev/null 2>&1 || true
    # A small file system that the test of a full disk has mounted.
    ! mountpoint -q "$data" || umount -l "$data"
    rm -rf "$data"
  done
}

# Prepares everything that building and running take. The arguments are the extensions that the
# private copy has too, by the ends of the names of their packages.
prepare() {
  mkdir -p "$GUARD_CACHE" 2>/dev/null || as_root mkdir -p "$GUARD_CACHE"
  install_build_packages
  install_packages locales sudo
  if is_in_debian; then
    install_server_packages "${@/#/postgresql-$PG_MAJOR-}"
    stage_postgres
  else
    stage_package
    add_headers
  fi
  stage_german
  configure_pgrx
}
