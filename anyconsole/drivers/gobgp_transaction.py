"""A drain of GoBGP as three scripts: prefix sets that the operator's export policy consults, and a withdrawal that is really sent.

docs/profiles.md says how gobgpd must be configured. All was measured with gobgpd 3.10 and BIRD 2.0.12 peers; what a peer logged:

* prefix into AC-SOFT-PEER, `softresetout`: the peer has the new attributes, the others hear nothing.
* prefix into AC-HARD-PEER, `softresetout`, or the same path added again: nothing is sent. Before 4.6 gobgpd decides whether to withdraw by
  asking the policy about the old path *as the policy is now*: it is rejected too, so it counts as never sent.
* `global rib del` and `add`: every peer loses the route, the unaffected ones for 9-10 ms. So it is not used, for all peers neither.
* a second path for the prefix with a mark that the policy excepts, then the prefix set, then that path removed: the old path passes the
  policy, the new one does not, and exactly that peer gets a withdrawal. Unaffected peers get two updates equal to what they have (BIRD:
  "ignored", the route's age goes on): no gap. The operator's own path is never touched, and adding it again doesn't undo the drain.
* prefix out of the sets, `softresetout`: the peer has the route again.

The second path copies the attributes of the best one, except extended communities, and has the greatest LOCAL_PREF: an iBGP peer sees that
for the moment it lives. That a withdrawal left is believed only when the session's count of sent updates rose; then the prefix is noted
in AC-WITHDRAWN-PEER, by which every console tells it from a set that was edited by hand.

The state (serial, end of the hold, note) is the name of a prefix set that no policy uses. It lives and dies with the sets it describes, in
one listing with them, whereas a file would still say "drained" after gobgpd was restarted and serves. A set can't hold both families: those
of IPv6 end in "/6". gobgpd has no commit-confirm: what takes a change back is a process in a session of its own, which outlives the login
(unless logind is told `KillUserProcesses=yes`).

Neighbours that were disabled by hand are enabled after the sets are as planned, and disabled again before the sets are taken back.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from urllib.parse import quote

from anyconsole.drivers.ask import CollectError
from anyconsole.drivers.drain_lists import drain_serial
from anyconsole.drivers.gobgp import api_target
from anyconsole.drivers.transaction import CellChange, DrainState, Ended, Transaction
from anyconsole.model.inventory import Family, SpeakerSpec

__all__ = ["transaction"]

NOTE_LENGTH = 300
"""Characters of a note that are kept: collectors show no more than 500, and names travel as arguments."""


def transaction(
    speaker: SpeakerSpec,
    before: DrainState,
    after: DrainState,
    cells: Sequence[CellChange],
    hold: int,
    *,
    disabled: Sequence[str] = (),
) -> Transaction:
    """The scripts that lead one gobgpd from `before` to `after`. They run as a user who may use its API and /run/lock.

    Sessions that were `disabled` by hand come up with `after`, and are disabled again if it is taken back.

    Raises:
        ValueError: A serial, name, path or `hold` that the scripts can't carry, or a change that prefix sets can't express.
    """
    if hold < 1:
        raise ValueError(f"a change can't be held for {hold} s")
    unnumbered = before.serial == drain_serial(sorted(before.hard), sorted(before.soft))
    if after.serial < 1 or after.serial == before.serial or (after.serial < before.serial and not unnumbered):
        raise ValueError(f"the serial must rise, not go {before.serial} -> {after.serial}")
    try:
        path, host, port = api_target({"socket": speaker.socket})
    except CollectError as error:
        raise ValueError(str(error)) from None
    if speaker.drain_file and not speaker.drain_file.startswith("/"):
        raise ValueError(f"not an absolute path: {speaker.drain_file!r}")
    values = {
        "before": before.serial,
        "after": after.serial,
        "hold": hold,
        "note": quote(after.note[:NOTE_LENGTH], safe=""),
        "unnumbered": "yes" if unnumbered else "",
        "target": f"--target unix://{path}" if path else f"-u {host} -p {port}",
        "socket": path,
        "lock": f"/run/lock/anyconsole-gobgp-{quote(path or f'{host}:{port}', safe='')}.lock",
        "file": speaker.drain_file,
        "cells": "\n".join(_lines(speaker, cells)),
        "disabled": " ".join(disabled),
    }
    if wrong := [name for name in disabled if not _is_word(name)]:
        raise ValueError(f"not a name of a session that scripts can say: {wrong[0]!r}")
    if not _is_word(path or host):
        raise ValueError(f"not a target without blanks: {speaker.socket!r}")
    head = f"# GoBGP, {len(cells)} announcements, serial {before.serial} -> {after.serial}\n"
    head += "export " + " ".join(f"{key}={shlex.quote(str(value))}" for key, value in values.items()) + "\n" + _PRELUDE
    revert = f"{_PATIENT}{head}{_REVERT}"
    return Transaction(
        apply=f"export revert={shlex.quote(revert)}\n{head}{_APPLY}",
        confirm=f"{_PATIENT}{head}{_CONFIRM}",
        revert=revert,
        hold=hold,
    )


def _is_word(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _lines(speaker: SpeakerSpec, cells: Sequence[CellChange]) -> Iterator[str]:
    """A line per cell: end of the sets' names, session, family, the session's number, prefix, level before and after."""
    sessions = {s.name: s for s in speaker.sessions}
    for cell in cells:
        session = sessions.get(cell.session)
        if session is None or not _is_word(session.name) or not _is_word(session.peer):
            raise ValueError(f"{speaker.name} has no session that scripts can name {cell.session!r}")
        if {cell.before, cell.after} - {"serve", "soft", "hard"}:
            raise ValueError(f"not levels of a drain: {cell.before} -> {cell.after}")
        # A set stands for a peer: what happens on one of its sessions happens on all.
        together = {s.name for s in speaker.sessions if (s.peer, s.family) == (session.peer, session.family)}
        if together - {c.session for c in cells if c.prefix == cell.prefix and c.after == cell.after}:
            raise ValueError(f"sessions {', '.join(sorted(together))} share prefix sets: drain them together")
        end = session.peer.upper() + ("/6" if session.family is Family.IPV6 else "")
        prefix = ip_network(cell.prefix)
        if (prefix.version == 6) != (session.family is Family.IPV6):
            raise ValueError(f"{cell.prefix} is not of {session.name}'s family")
        yield f"{end} {session.name} {session.family} {session.number} {prefix} {cell.before} {cell.after}"


# --- the scripts. Values come from the `export` line above them; @DONE@ and the like are the statuses of `Ended`.


_PATIENT = ': "${wait:=-w 10}"\n'
"""An apply yields to whoever holds the lock; what ends a change waits for it."""


def _with_statuses(script: str) -> str:
    for ended in Ended:
        script = script.replace(f"@{ended.name}@", str(ended.value))
    return script


# The second path is 911, its marks are 4294967295:911:SESSION (RFC 7300: that AS is nobody's). `current` prefers an unconfirmed state,
# unless the same serial is there confirmed as well: that is a confirm that was cut off before it removed the first.
_PRELUDE = _with_statuses(r"""export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
umask 002
trap '' HUP
set -f
end() { printf '%s\n' "$2"; exit "$1"; }
gobgp() { timeout 10 gobgp $target "$@" 2>&1 9<&-; }
tell() { words=$(gobgp "$@") || failed="$failed gobgp $*: ${words%%[[:cntrl:]]*};"; }
look() {
  listing=$(gobgp policy prefix) || end @REFUSED@ "gobgpd does not tell its prefix sets: $listing"
  listing=$(printf '%s\n' "$listing" |
    awk 'NR > 1 && NF == 3 { n = $1; print } NR > 1 && NF == 2 { print n, $1, $2 } NR > 1 && NF == 1 { n = $1; print }' |
    sed 's/  */ /g')
  set -- $(printf '%s\n' "$listing" | sed -n 's/^AC-STATE,serial=\([0-9]*\),until=\([0-9]*\),note=\([^ ]*\).*/\1 \2 \3/p' | awk '
    $2 + 0 { waits[$1] = $0; next }
    { done[$1] = 1; if ($1 + 0 > top + 0) { top = $1; line = $0 } }
    END { for (s in waits) if (!(s in done)) { line = waits[s]; break } print line }')
  serial=${1:-none} until=${2:-0} says=${3:-}
}
has() {  # set, prefix
  case "
$listing
" in *"
$1 $2 ${2#*/}..${2#*/}
"*) return 0 ;; esac
  return 1
}
level_of() {  # end of the names, prefix
  if has "AC-HARD-$1" "$2"; then echo hard; elif has "AC-SOFT-$1" "$2"; then echo soft; else echo serve; fi
}
forget() {  # the states that fit a pattern
  for name in $(printf '%s\n' "$listing" | cut -d' ' -f1 | grep "$1" | sort -u); do tell policy prefix del "$name"; done
}
wrong_cell() {  # the first cell that is not at its level "before" or "after"
  printf '%s\n' "$cells" | grep . | while read -r name session afi number prefix from to; do
    [ "$1" = after ] || to=$from
    now=$(level_of "$name" "$prefix")
    [ "$now" = "$to" ] || { echo "the sets of $name say $now for $prefix, not $to"; break; }
  done
}
# --- a withdrawal that is sent
best() { gobgp global rib "$1" -a "$2" | grep '^\*>'; }
lists() { gobgp neighbor "$1" adj-out "$2" -a "$3" | awk -v p="$2" '$2 == p { yes = 1 } END { exit !yes }'; }
sent() { gobgp neighbor "$1" | awk '/BGP state = ESTABLISHED/ { up = 1 } $1 == "Updates:" { n = $2 } END { print up ? n : "down" }'; }
counts() { for s in $1; do echo "$s $(sent "$s")"; done; }
sent_more() {  # lines of session and count: has each sent an update since?
  [ -n "$1" ] || return 0
  for try in $(seq 20); do
    late=
    while read -r s n; do
      now=$(sent "$s")
      case $n/$now in *down*) ;; *) [ "$now" -gt "$n" ] || late="$late $s" ;; esac
    done <<END
$1
END
    [ -n "$late" ] || return 0
    sleep 0.1
  done
  return 1
}
second_path() {  # prefix, family, marks: like the best path, but the policy excepts it
  path=$(best "$1" "$2") || return 0
  attribute() { printf '%s\n' "$path" | sed -n "s/.*{$1: \([^}]*\)}.*/\1/p" | tr -d ' []'; }
  shown=${path%%\[*} prefix=$1 family=$2 marks=$3
  set -- $shown
  hop=$3
  shift 3
  as_path=$(echo "$@" | sed 's/[^ ]*$//; s/ *$//; s/ *[0-9]*d$//')  # without the age
  large=$(attribute LargeCommunity | tr ',' '\n' | grep -v '^4294967295:911:' | paste -sd, -)
  set -- global rib add "$prefix" identifier 911 local-pref 4294967295 large-community "$marks${large:+,$large}"
  case $(attribute Origin) in i) set -- "$@" origin igp ;; e) set -- "$@" origin egp ;; esac
  case $hop in 0.0.0.0 | ::) ;; *) set -- "$@" nexthop "$hop" ;; esac
  [ -z "$as_path" ] || set -- "$@" aspath "$as_path"
  med=$(attribute Med) communities=$(attribute Communities)
  [ -z "$med" ] || set -- "$@" med "$med"
  [ -z "$communities" ] || set -- "$@" community "$communities"
  tell "$@" -a "$family"
}
# Sets are filled before others are emptied, so that no moment serves what is to be soft or hard, whoever refreshes its routes.
move() {  # to the levels "before" or "after"; `failed` says what went wrong
  look
  failed=
  [ -n "$cells" ] || return 0
  goals=$(printf '%s\n' "$cells" | awk -v to="$1" '{ print $1, $2, $3, $4, $5, to == "after" ? $7 : $6 }')
  once=$(printf '%s\n' "$goals" | awk '!seen[$1, $5]++')
  paths=$(printf '%s\n' "$cells" | awk '($6 == "hard" || $7 == "hard") && !seen[$5]++ { print $3, $5 }')
  harden=$(printf '%s\n' "$goals" | while read -r name session afi number prefix level; do
    [ "$level" != hard ] || has "AC-WITHDRAWN-$name" "$prefix" || echo "$session $afi $number $prefix"
  done)
  counted=$(counts "$(printf '%s\n' "$harden" | cut -d' ' -f1 | sort -u)")
  while read -r afi prefix marks; do
    [ -z "$afi" ] || second_path "$prefix" "$afi" "$marks"
  done <<END
$(printf '%s\n' "$harden" | awk '
  NF { path = $2 " " $4; marks[path] = marks[path] comma[path] "4294967295:911:" $3; comma[path] = "," }
  END { for (path in marks) print path, marks[path] }')
END
  served=$(printf '%s\n' "$harden" | while read -r session afi number prefix; do
    [ -z "$session" ] || { lists "$session" "$prefix" "$afi" && echo "$session"; }
  done | sort -u)
  counted=$(for s in $served; do printf '%s\n' "$counted" | grep -F "$s "; done)
  sent_more "$counted" || failed="$failed no update sent to$late;"
  [ -z "$failed" ] || return 1
  counted=$(counts "$served")
  while read -r name session afi number prefix level; do
    case $level in
      hard) has "AC-HARD-$name" "$prefix" || tell policy prefix add "AC-HARD-$name" "$prefix" ;;
      soft) has "AC-SOFT-$name" "$prefix" || tell policy prefix add "AC-SOFT-$name" "$prefix" ;;
    esac
    [ "$level" = hard ] || for set in HARD WITHDRAWN; do
      has "AC-$set-$name" "$prefix" && tell policy prefix del "AC-$set-$name" "$prefix"
    done
  done <<END
$once
END
  while read -r afi prefix; do
    [ -z "$afi" ] || tell global rib del "$prefix" identifier 911 -a "$afi"
  done <<END
$paths
END
  sent_more "$counted" || failed="$failed gobgpd sent no withdrawal to$late, see docs/profiles.md for its policy;"
  while read -r name session afi number prefix level; do
    [ "$level" = soft ] || { has "AC-SOFT-$name" "$prefix" && tell policy prefix del "AC-SOFT-$name" "$prefix"; }
  done <<END
$once
END
  for to in $(printf '%s\n' "$goals" | awk '$6 != "hard" && !seen[$2]++ { print $2 "," $3 }'); do
    gobgp neighbor "${to%,*}" softresetout -a "${to#*,}" >/dev/null
  done
  while read -r name session afi number prefix level; do
    [ "$level" = hard ] || continue
    lists "$session" "$prefix" "$afi" && failed="$failed the policy still lets $prefix out to $session;"
    [ -n "$failed" ] || has "AC-WITHDRAWN-$name" "$prefix" || tell policy prefix add "AC-WITHDRAWN-$name" "$prefix"
    listing="$listing
AC-WITHDRAWN-$name $prefix ${prefix#*/}..${prefix#*/}"
  done <<END
$goals
END
  look
  words=$(wrong_cell "$1")
  [ -z "$words" ] || failed="$failed $words;"
  [ -z "$failed" ]
}
is_disabled() { case $(gobgp -j neighbor "$1") in *\"admin_state\":1[,}]*) return 0 ;; esac; return 1; }
disable() {
  for session in $disabled; do
    is_disabled "$session" || gobgp neighbor "$session" disable >/dev/null
    is_disabled "$session" || { failed=" $session is not disabled;"; return 1; }
  done
}
take_back() { disable && move before && forget "^AC-STATE,serial=$after,until=[1-9]" && [ -z "$failed" ]; }
words=$({ [ -e "$lock" ] || (umask 0; : >>"$lock"); exec 9<"$lock"; } 2>&1) || end @CANNOT_WRITE@ "cannot lock $lock: $words"
exec 9<"$lock"
flock ${wait:--n} 9 || end @LOCKED@ "another change is under way on this node: it holds $lock"
look
""")

# The dead-man begins before the change: there is no moment without it. It runs the very script that takes back by hand, but only if there
# is something to take back: whoever applies at that moment must not find the lock held for nothing. Without a socket there is no
# gobgpd, and with it went its sets.
_APPLY = _with_statuses(r"""
[ "$until" = 0 ] || end @PENDING@ "somebody's change is unconfirmed: serial $serial, $says"
case $serial/$unnumbered in
  "$before"/* | none/yes) ;;
  *) end @STALE@ "gobgpd is at serial $serial, $says; this was planned for $before" ;;
esac
for set in $(printf '%s\n' "$cells" | awk 'NF { for (i = 6; i < 8; i++) if ($i != "serve") print "AC-" toupper($i) "-" $1 }' | sort -u); do
  printf '%s\n' "$listing" | cut -d' ' -f1 | grep -qxF "$set" ||
    end @BAD_CONFIG@ "gobgpd has no prefix set $set: see docs/profiles.md for its policy"
done
words=$(wrong_cell before)
[ -z "$words" ] || [ "$serial" != none ] || end @STALE@ "$words"
[ -z "$words" ] || end @DRIFT@ "$words, though gobgpd is at serial $serial: they were changed by hand"
for session in $disabled; do
  is_disabled "$session" || end @STALE@ "$session is not disabled any more; this was planned for a session that is"
done
if [ -n "$file" ]; then
  words=$( (: >"$file.new") 2>&1) || end @CANNOT_WRITE@ "cannot write $file.new: $words"
  rm -f "$file.new"
fi
export wait='-w 60'
setsid sh -c '
  sleep "$hold"
  for try in $(seq 360); do
    [ -z "$socket" ] || [ -S "$socket" ] || exit
    sets=$(timeout 10 gobgp $target policy prefix) &&
      case $sets in *"AC-STATE,serial=$after,until="[1-9]*) ;; *) exit ;; esac
    sh -c "$revert"
    case $? in @DONE@ | @STALE@ | @NOT_PENDING@) exit ;; esac
    sleep 10
  done
' </dev/null >/dev/null 2>&1 9<&- &
failed=
tell policy prefix add "AC-STATE,serial=$after,until=$(($(date +%s) + hold)),note=$note" 0.0.0.0/32
[ -z "$failed" ] || end @REFUSED@ "nothing was changed:$failed"
enable() {
  for session in $disabled; do tell neighbor "$session" enable; done
  [ -z "$failed" ]
}
{ move after && enable; } || {
  why=$failed
  take_back && end @REFUSED@ "taken back:$why"
  end @REFUSED@ "$why not taken back yet:$failed tried again in $hold s"
}
end @DONE@ "applied: serial $before -> $after, taken back in $hold s unless confirmed"
""")

# What can fail comes first: a state in the file that the daemon took back would be loaded by its next start.
_CONFIRM = _with_statuses(r"""
case $serial/$until in
  "$after"/0) end @NOT_PENDING@ "confirmed before: gobgpd is at serial $after" ;;
  "$after"/*) ;;
  "$before"/0) end @NOT_PENDING@ "taken back already: gobgpd is at serial $before again, nothing was confirmed" ;;
  none/*) end @NOT_PENDING@ "nothing was confirmed: gobgpd has no drain state, it was taken back or gobgpd was restarted" ;;
  *) end @STALE@ "gobgpd is at serial $serial, $says; nothing was confirmed" ;;
esac
words=$(wrong_cell after)
[ -z "$words" ] || end @DRIFT@ "nothing was confirmed: $words; they were changed by hand"
for session in $disabled; do
  ! is_disabled "$session" || end @DRIFT@ "nothing was confirmed: somebody disabled $session again"
done
state="AC-STATE,serial=$after,until=0,note=$note"
kept="in memory only: if gobgpd is restarted, it serves again"
if [ -n "$file" ]; then
  write() {
    { printf '%s\n' "$listing" | grep -E '^AC-(HARD|SOFT|WITHDRAWN)-[^ ]+ [^ ]+ [^ ]+$'; echo "$state 0.0.0.0/32 32..32"; } >"$file.new" &&
      sync "$file.new"
  }
  words=$( (write) 2>&1) || { rm -f "$file.new"; end @CANNOT_WRITE@ "nothing was confirmed: cannot write $file.new: $words"; }
  kept="in $file too: if gobgpd is restarted, it is drained only if its start-up loads that"
fi
failed=
tell policy prefix add "$state" 0.0.0.0/32
[ -z "$failed" ] || end @REFUSED@ "nothing was confirmed:$failed"
forget "^AC-STATE,"
if [ -n "$file" ]; then
  words=$(mv -f "$file.new" "$file" 2>&1) || end @CANNOT_WRITE@ "confirmed in gobgpd's memory, but not in $file: $words"
fi
look
[ "$serial/$until" = "$after/0" ] || end @REFUSED@ "gobgpd is at serial $serial instead of $after:$failed"
end @DONE@ "confirmed: serial $after, $kept"
""")

_REVERT = _with_statuses(r"""
case $serial/$until in
  "$after"/0) end @NOT_PENDING@ "confirmed before: gobgpd is at serial $after; undrain instead" ;;
  "$after"/*) ;;
  "$before"/0) end @DONE@ "taken back already: gobgpd is at serial $before" ;;
  none/*)
    [ -z "$unnumbered" ] || end @DONE@ "taken back already: gobgpd has no drain state"
    end @NOT_PENDING@ "gobgpd has no drain state, it was restarted: there is nothing to take back" ;;
  *) end @STALE@ "gobgpd is at serial $serial, $says; that is not this change" ;;
esac
take_back || end @REFUSED@ "not taken back:$failed"
end @DONE@ "taken back: serial $after -> $before"
""")
