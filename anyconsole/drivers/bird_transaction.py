"""A drain of BIRD as three scripts: stage the drain sets, configure with a timer, then keep or take back (see `transaction.py`).

Beside the drain file the operator keeps a root file `stage.conf`, which is bird.conf with `drain.stage.conf` in place of the drain file.
What is staged there never counts as committed: any plain `configure`, reboot or timer brings back what the drain file says. The scripts
believe no exit code and no reply of birdc: the serial in the daemon's memory, asked for again, decides. `configure undo` is a toggle and
`configure confirm` may confirm somebody else's change, so neither is ever used. BIRD 1.6 can't say whether a change is unconfirmed; there
it is one if the daemon runs the staged serial and the drain file has another.

Where drift is settled the drain file is known to say something else, or sessions were disabled by hand, which any `configure` enables. Then
taking back can't be left to the drain file: what ran before is staged and configured, and those sessions are disabled again.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import msgspec

from anyconsole.drivers.transaction import CellChange, DrainState, Ended, Transaction
from anyconsole.model.inventory import SpeakerSpec

__all__ = ["NO_SERIAL", "drain_file", "transaction"]

Pair = tuple[int, int]

NO_SERIAL = -1
"""In place of the serial of a drain file that is missing, or has none that can be read."""


def transaction(
    speaker: SpeakerSpec,
    before: DrainState,
    after: DrainState,
    cells: Sequence[CellChange],
    hold: int,
    *,
    disk: int | None = None,
    disabled: Sequence[str] = (),
) -> Transaction:
    """The scripts that lead one BIRD from `before` to `after`. They run as a user who may write the drain file's folder.

    Args:
        speaker: Where.
        before: What the daemon runs.
        after: What it is to run, and what the drain file is to say.
        cells: The announcements that change.
        hold: Seconds until it is taken back unless it is confirmed.
        disk: The serial that the drain file has, where it is known not to say `before`; what else it says is overwritten.
        disabled: Sessions that were disabled by hand: they come up with `after`, and are disabled again if it is taken back.

    Raises:
        ValueError: A serial, pair, path, note or `hold` that can't be written into BIRD's configuration or the scripts as it is.
    """
    before = msgspec.structs.replace(before, note=before.note if _is_plain(before.note) else "")
    _check(speaker, before, after, hold)
    if wrong := [name for name in disabled if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None]:
        raise ValueError(f"not a name of a session in BIRD: {wrong[0]!r}")
    if disk is not None and (disk == after.serial or not NO_SERIAL <= disk < 1 << 34):
        raise ValueError(f"the drain file can't have serial {disk} where {after.serial} is to be written")
    folder, _, name = speaker.drain_file.rpartition("/")
    text = drain_file(after.serial, after.note, after.hard, after.soft)
    was = drain_file(before.serial, before.note, before.hard, before.soft)
    values = {
        "before": before.serial,
        "after": after.serial,
        "hold": hold,
        "folder": folder,
        "file": name,
        "socket": speaker.socket,
        "digest": hashlib.sha256(text.encode()).hexdigest(),
        "on_disk": before.serial if disk is None else "" if disk == NO_SERIAL else disk,
        "differs": "" if disk is None else name,
        "disabled": " ".join(disabled),
        "was": was if disk is not None or disabled else "",
    }
    exported = " ".join(f"{key}={shlex.quote(str(value))}" for key, value in values.items())
    head = f"# BIRD, {len(cells)} announcements, serial {before.serial} -> {after.serial}\nexport {exported}\n"
    return Transaction(
        apply=head + _prelude("-n") + _APPLY.replace("@TEXT@", text),
        confirm=head + _prelude("-w 5") + _CONFIRM,
        revert=head + _prelude("-w 5") + _REVERT,
        hold=hold,
        diff=_diff(speaker.drain_file + ("" if disk is None else ", against what BIRD runs"), was, text),
    )


def _diff(path: str, before: str, after: str) -> str:
    lines = [f"--- {path}"]
    for old, new in zip(before.splitlines(), after.splitlines(), strict=True):
        lines += [f" {new}"] if old == new else [f"-{old}", f"+{new}"]
    return "\n".join(lines)


def _check(speaker: SpeakerSpec, before: DrainState, after: DrainState, hold: int) -> None:
    if hold < 1:
        raise ValueError(f"a change can't be held for {hold} s")
    if not 0 <= before.serial < 1 << 32 or not 0 <= after.serial < 1 << 32 or before.serial == after.serial:
        raise ValueError(f"serials of 32 bits that differ are needed, not {before.serial} -> {after.serial}")
    if not _is_plain(after.note):
        raise ValueError(f"not a note for BIRD, ASCII without quotes and backslashes is: {after.note!r}")
    for path in (speaker.drain_file, speaker.socket):
        if path.count("/") < 2 or path[0] != "/" or path[-1] == "/" or not _is_plain(path):
            raise ValueError(f"not an absolute path that BIRD can be told: {path!r}")
    if wrong := [p for p in after.hard | after.soft if not all(0 <= n < 1 << 16 for n in p)]:
        raise ValueError(f"not pairs of 16 bit numbers: {sorted(wrong)}")


def _is_plain(text: str) -> bool:
    return text.isascii() and (text.isprintable() or not text) and not set(text) & set("\"'\\")


def drain_file(serial: int, note: str, hard: Iterable[Pair], soft: Iterable[Pair]) -> str:
    """The text of BIRD's drain include file. (0,0) is a dummy, so that a set is never empty (BIRD before 2.0.11)."""
    return (
        f"define DRAIN_SERIAL = {serial};\n"
        f'define DRAIN_NOTE   = "{note}";\n'
        f"define DRAIN_HARD   = [ {_set_text(hard)} ];\n"
        f"define DRAIN_SOFT   = [ {_set_text(soft)} ];\n"
    )


def _set_text(pairs: Iterable[Pair]) -> str:
    return ", ".join(["(0,0)", *(f"({tenant},{sessions})" for tenant, sessions in _ranges(pairs))])


def _ranges(pairs: Iterable[Pair]) -> Iterator[tuple[int, str]]:
    by_tenant: dict[int, list[int]] = {}
    for tenant, session in sorted(set(pairs) - {(0, 0)}):
        by_tenant.setdefault(tenant, []).append(session)
    for tenant, sessions in by_tenant.items():
        starts = [sessions[0], *(b for a, b in pairwise(sessions) if b != a + 1)]
        ends = [*(a for a, b in pairwise(sessions) if b != a + 1), sessions[-1]]
        yield from ((tenant, str(a) if a == b else f"{a}..{b}") for a, b in zip(starts, ends, strict=True))


# --- the scripts. Values come from the `export` line above them; @DONE@ and the like are the statuses of `Ended`.


def _prelude(patience: str) -> str:
    return _PRELUDE.replace("@PATIENCE@", patience)


def _with_statuses(script: str) -> str:
    for ended in Ended:
        script = script.replace(f"@{ended.name}@", str(ended.value))
    return script


# A failed `exec` or `:` ends a POSIX shell, so that each is tried in a subshell first. The lock is opened for reading: it must also
# work for whoever did not create it, and on a file system that became read-only.
_PRELUDE = _with_statuses(r"""export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
umask 002
end() { printf '%s\n' "$2"; exit "$1"; }
bird() { timeout 10 birdc -s "$socket" "$@" 2>&1 | sed '/^BIRD .* ready\.$/d' | paste -sd' ' -; }
serial() { bird eval DRAIN_SERIAL; }
serial_in() { sed -n 's/^ *define  *DRAIN_SERIAL *= *\([0-9]*\);.*/\1/p' "$1" 2>&1; }
is_ours() { [ "$(sha256sum <"$1")" = "$digest  -" ]; }
pending() {
  case $(bird configure status) in
    *unconfirmed*) return 0 ;;
    *"syntax error"*) [ "$(serial_in drain.stage.conf)" = "$(serial)" ] && [ "$(serial_in "$file")" != "$(serial)" ] ;;
    *) return 1 ;;
  esac
}
left() { bird configure status | sed -n 's/.*undo in \([0-9]*\).*/\1/p'; }
includes() { sed -n 's/^ *include  *"\([^"]*\)".*/\1/p' "$@" 2>/dev/null; }
edited() {  # files that are newer than what the daemon has read of them
  read_at=$(bird show status | sed -n 's/.*reconfiguration on \([0-9]*-[0-9]*-[0-9]* [0-9:.]*\).*/\1/p')
  set -- bird.conf "$file" $(includes bird.conf)
  find "$@" $(includes "$@") -newermt "$read_at 1 second" 2>/dev/null |
    sort -u | grep -vxF -e "$known" -e "${known:+$folder/$known}" | paste -sd' ' -
}
known=
is_expected() { [ "$disk" = "$on_disk" ] || [ -z "$on_disk${disk%%[!0-9]*}" ]; }
disable() { for session in $disabled; do bird disable "$session" >/dev/null; done; }
settle() {
  for try in $(seq 40); do
    case $(bird show status) in *"in progress"*) sleep 0.2 ;; *) return ;; esac
  done
}
words=$(cd "$folder" 2>&1) || end @CANNOT_WRITE@ "cannot use $folder: $words"
cd "$folder"
words=$({ [ -e .anyconsole.lock ] || : >.anyconsole.lock; exec 9<.anyconsole.lock; } 2>&1) ||
  end @CANNOT_WRITE@ "cannot lock $folder: $words"
exec 9<.anyconsole.lock
flock @PATIENCE@ 9 || end @LOCKED@ "another change is under way on this node: it holds $folder/.anyconsole.lock"
running=$(serial)
case $running in '' | *[!0-9]*) end @REFUSED@ "BIRD does not tell its DRAIN_SERIAL: $running" ;; esac
""")

# The dead-man makes the daemon follow the drain file where it doesn't: after a `configure` of a broken file by anybody, which ends BIRD's
# own timer and leaves the change in effect, and after a confirmation that was cut short. A broken file would stop it too, so that it tries
# again. It begins before the change, so that there is no moment without it, and looks before it locks, so that it stands in nobody's way.
# Two seconds after the hold, its question also wakes BIRD 2.0's sleepy timer.
_APPLY = _with_statuses(r"""
pending && end @PENDING@ "somebody's change is unconfirmed: serial $running, $(bird eval DRAIN_NOTE)"
[ "$running" = "$before" ] || end @STALE@ "BIRD is at serial $running, $(bird eval DRAIN_NOTE); this was planned for $before"
disk=$(serial_in "$file")
is_expected || end @DRIFT@ "BIRD is at serial $running, but $folder/$file says: ${disk:-no serial}"
for session in $disabled; do
  case $(bird show protocols "$session") in
    *" down "*) ;;
    *) end @STALE@ "$session is not disabled any more; this was planned for a session that is" ;;
  esac
done
known=$differs
words=$(edited)
known=
[ -z "$words" ] || end @DRIFT@ "changed since BIRD read it, and would ride along: $words (in $folder); birdc configure, or put it back"
[ -e stage.conf ] || end @BAD_CONFIG@ "there is no $folder/stage.conf: bird.conf with drain.stage.conf in place of $file"
grep -q 'include.*drain\.stage\.conf"' stage.conf || end @BAD_CONFIG@ "$folder/stage.conf does not include drain.stage.conf"
write() { cat >drain.stage.new && sync drain.stage.new && is_ours drain.stage.new && mv -f drain.stage.new drain.stage.conf; }
words=$(write 2>&1 <<'END'
@TEXT@END
) || { rm -f drain.stage.new; end @CANNOT_WRITE@ "cannot write $folder/drain.stage.conf: $words"; }
words=$(bird configure check "\"$folder/stage.conf\"")
case $words in *"Configuration OK"*) ;; *) end @BAD_CONFIG@ "BIRD refuses $folder/stage.conf: $words" ;; esac
setsid sh -c '
  bird() { timeout 10 birdc -s "$socket" "$@"; }
  astray() {
    kept=$(cat "$file" | grep -c "DRAIN_SERIAL *= *$after;")
    found=$kept-$(bird eval DRAIN_SERIAL | tail -n 1)
    case $found in 0-$after | 1-$before) ;; *) return 1 ;; esac
  }
  restage() { printf "%s" "$was" >drain.stage.new && mv -f drain.stage.new drain.stage.conf; }
  follow() {
    root=
    if [ -n "$was" ] && [ "$kept" = 0 ]; then
      restage || return
      root="\"$folder/stage.conf\""
    fi
    bird configure check $root | grep -q "Configuration OK" && bird configure $root
    [ -z "$root" ] || disable
  }
  disable() { for session in $disabled; do bird disable "$session"; done; }
  # Left in place by the timer of BIRD alone, which enabled the sessions.
  is_ours() { [ "$(sha256sum <drain.stage.conf)" = "$digest  -" ]; }
  sleep $((hold + 2))
  exec 9<.anyconsole.lock
  for try in $(seq 720); do
    if ! astray; then
      if [ "$found" = "0-$before" ] && is_ours; then disable; fi
      exit
    fi
    flock -w 60 9 && astray && follow
    flock -u 9
    sleep 5
  done
' </dev/null >/dev/null 2>&1 9<&- &
words=$(bird configure "\"$folder/stage.conf\"" timeout "$hold")
settle
running=$(serial)
[ "$running" = "$after" ] || end @REFUSED@ "BIRD is at serial ${running:-unknown} after: $words"
pending || end @REFUSED@ "BIRD is at serial $running, but without a timer after: $words"
seconds=$(left)
end @DONE@ "applied: serial $before -> $after, taken back in ${seconds:-$hold} s unless confirmed"
""")

# After the file was moved there is no way back and none is needed: whatever the daemon does next, it does with this file.
_CONFIRM = _with_statuses(r"""
[ "$running" != "$before" ] || end @NOT_PENDING@ "taken back already: BIRD is at serial $before again, nothing was confirmed"
[ "$running" = "$after" ] || end @STALE@ "BIRD is at serial $running, $(bird eval DRAIN_NOTE); nothing was confirmed"
disk=$(serial_in "$file")
pending || case $disk in
  "$after") end @NOT_PENDING@ "confirmed before: $folder/$file says serial $after" ;;
  *) end @NOT_PENDING@ "nothing was confirmed: somebody ended the timer, so that serial $after stays until it is taken back" ;;
esac
words=$(edited)
[ -z "$words" ] || end @DRIFT@ "nothing was confirmed: changed since BIRD read it, and would ride along: $words (in $folder)"
if [ "$disk" != "$after" ]; then
  is_expected || end @DRIFT@ "nothing was confirmed: $folder/$file does not say serial $on_disk any more: $disk"
  is_ours drain.stage.conf || end @DRIFT@ "nothing was confirmed: somebody changed $folder/drain.stage.conf"
  words=$(mv -f drain.stage.conf "$file" 2>&1) || end @CANNOT_WRITE@ "nothing was confirmed: $words"
fi
sync "$file" . 2>/dev/null
words=$(bird configure)
settle
running=$(serial)
[ "$running" = "$after" ] || end @REFUSED@ "$folder/$file is in place, but BIRD is at serial ${running:-unknown} after: $words"
pending && end @REFUSED@ "$folder/$file is in place, but BIRD would still take it back after: $words"
end @DONE@ "confirmed: serial $after, in $folder/$file too"
""")

# A plain `configure` that fails would end the timer and keep the change: while there is a timer, it is only run where it must succeed.
# Disabled before and after, a session that comes up with every `configure` has no time to announce what it did not before.
_REVERT = _with_statuses(r"""
[ "$running" != "$before" ] || { disable; end @DONE@ "taken back already: BIRD is at serial $before"; }
[ "$running" = "$after" ] || end @STALE@ "BIRD is at serial $running, $(bird eval DRAIN_NOTE); that is not this change"
[ "$(serial_in "$file")" != "$after" ] || end @NOT_PENDING@ "confirmed before: $folder/$file says serial $after; undrain instead"
if pending; then
  seconds=$(left)
  later="BIRD takes it back by itself in ${seconds:-at most $hold} s"
  known=${was:+$file}
  words=$(edited)
  [ -n "$was" ] || [ "$(serial_in "$file")" = "$before" ] || words=$file
  [ -z "$words" ] || end @DRIFT@ "$later, not now: changed since BIRD read it, and would ride along: $words (in $folder)"
else
  later="serial $after stays until that is mended"
fi
root=
if [ -n "$was" ]; then
  disable
  words=$({ printf '%s' "$was" >drain.stage.new && mv -f drain.stage.new drain.stage.conf; } 2>&1) ||
    end @CANNOT_WRITE@ "$later, not now: cannot write $folder/drain.stage.conf: $words"
  root="\"$folder/stage.conf\""
fi
words=$(bird configure check $root)
case $words in *"Configuration OK"*) ;; *) end @BAD_CONFIG@ "$later; BIRD refuses its own files: $words" ;; esac
words=$(bird configure $root)
settle
disable
running=$(serial)
[ "$running" = "$before" ] || end @REFUSED@ "BIRD is at serial ${running:-unknown} after: $words"
end @DONE@ "taken back: serial $after -> $before"
""")
