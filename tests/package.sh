#!/usr/bin/env bash
# package.sh DEB ENV: installs the package into an arm64 root of its own and runs its programs there under the emulator: the
# shipped int8 models draw the golden bytes, the service's program draws on a framebuffer, removal leaves nothing. ENV as for
# emulator.sh. As root, as dpkg gives files to root. lintian has to be content, where it is installed.
set -euo pipefail
deb=$(realpath "$1")
set +u
. "$2"
set -u
cd "$(dirname "$0")/.."
runner=$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER
work=$(mktemp -d)
panel=
trap '[ -z "$panel" ] || kill $panel 2>/dev/null; rm -rf "$work"' EXIT
root=$work/root
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

if command -v lintian >/dev/null; then
    echo "== lintian"
    lintian --allow-root --fail-on error,warning "$deb"
else
    echo "SKIPPED: lintian is not installed"
fi

echo "== what is in it"
dpkg-deb --info "$deb" | sed -n '/Package:/,$p'
dpkg-deb --contents "$deb" | awk '{ print $1, $3, $6 }'

echo "== install"
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/lib"
touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
# glibc and libgcc of the toolchain stand for the packages that it depends on
cp -L "$(dirname "$("$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER" -print-file-name=libc.so.6)")"/{libc,libm,libdl,libpthread,librt,libgcc_s}.so.* \
    "$(dirname "$("$CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER" -print-file-name=libc.so.6)")/ld-linux-aarch64.so.1" "$root/lib/"
packages() {
    dpkg --root="$root" --force-architecture --force-depends --force-script-chrootless --log=/dev/null "$@"
}
packages --install "$deb" 2>&1 | grep -v 'depends on' || true
[ "$(dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${db:Status-Status}' edgegen)" = installed ] || fail "it is not installed"
# libraries are looked for below the root first; files are not, so they are named in full
run() {
    local program=$1
    shift
    QEMU_CPU=${core:-cortex-a53} "$runner" -L "$root" "$root/usr/bin/$program" "$@"
}

echo "== run"
run edgegen --version
run edgegen-panel --version
models=$root/usr/share/edgegen/models
for core in cortex-a53 cortex-a72 cortex-a76; do
    for model in smileys64-gan emoji64-gan mnist-gan mnist-vae; do
        run edgegen generate "$models/$model" --precision int8 --seed 7 --count 8 --out "$work/pictures.npy" >/dev/null
        hash=$(sha256sum "$work/pictures.npy" | cut -d' ' -f1)
        grep -qF "(\"$model\", \"$hash\")" tests/tests/emulator.rs || fail "$model on $core drew other bytes: $hash"
        echo "$model on $core: the golden bytes"
    done
done
core=cortex-a53

mkdir -p "$root/dev" "$root/sys/class/graphics/fb0"
head -c $((320 * 240 * 2)) /dev/zero >"$root/dev/fb0"
echo 320,240 >"$root/sys/class/graphics/fb0/virtual_size"
echo 16 >"$root/sys/class/graphics/fb0/bits_per_pixel"
echo 640 >"$root/sys/class/graphics/fb0/stride"
sed -e "s#/usr/share#$root/usr/share#" "$root/etc/edgegen/edgegen.toml" >"$work/edgegen.toml"
run edgegen-panel --root "$root" --config "$work/edgegen.toml" --check
sed -e 's/^show = .*/show = "pictures"/' -e 's/^pause = .*/pause = 600/' "$work/edgegen.toml" >"$work/pictures.toml"
# in the background without the function, whose shell would get the signal
QEMU_CPU=$core "$runner" -L "$root" "$root/usr/bin/edgegen-panel" --root "$root" --config "$work/pictures.toml" >/dev/null 2>&1 &
panel=$!
for _ in $(seq 300); do
    sleep 0.1
    drawn=$(tr -d '\0' <"$root/dev/fb0" | wc -c)
    [ "$drawn" -lt 1000 ] || break
done
[ "$drawn" -ge 1000 ] || fail "edgegen-panel drew nothing"
kill -TERM $panel
wait $panel || fail "edgegen-panel did not stop at SIGTERM"
panel=
[ "$(tr -d '\0' <"$root/dev/fb0" | wc -c)" = 0 ] || fail "it left its picture behind"
echo "edgegen-panel: drew $drawn bytes that are not black, and left a blank panel"
rm -r "$root/dev" "$root/sys"

for file in "$root/usr/share/bash-completion/completions/"*; do bash -n "$file"; done
if command -v systemd-analyze >/dev/null; then
    # from systemd 250 on
    systemd-analyze security --offline=true --root="$root" edgegen.service | tail -1 || true
fi

echo "== remove"
packages --purge edgegen >/dev/null 2>&1 || fail "it cannot be removed"
# the user stays, as Debian's policy has it
left=$(find "$root" -path "$root/var/lib/dpkg" -prune -o -path "$root/lib" -prune -o -type f -print |
    grep -vE '/etc/(passwd|group|shadow|gshadow|\.pwd\.lock)$' || true)
[ -z "$left" ] || fail "left behind: $left"
echo "the package is well"
