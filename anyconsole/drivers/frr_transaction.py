"""A change of FRR's drain state as three scripts: unconfirmed first, saved when it is confirmed, undone by the node itself otherwise.

bgpd has no commit-confirm and no serial, so both are made of what it has. The prefix list AC-STATE carries serial, time-out and note in its
description: every console can read it, it is saved with the configuration and ends with it, and its one entry matches no route. What
commit-confirm would do is done by a dead-man, a process in a session of its own that outlives the login (unless logind is told
`KillUserProcesses=yes`). It doesn't decide what is drained, and reads nothing of the fleet.

Saving is not left to `write memory`: called by an ordinary user that moves the good file away first and calls a torn one "saved" on a full
disk; it also saves what others have not saved yet, and forgets daemons that are down. Only the lines of AC-HARD-*, AC-SOFT-* and AC-STATE
are exchanged in the integrated configuration: beside the file, read back, then renamed over it. So the login user must be able to write
in its folder, and be in group frrvty.

Neighbours that were shut by hand come up after the lists of the change that settles this. What shut them is kept beside the integrated
configuration until it is confirmed, and comes first where it is taken back: nothing is ever announced that was not before. A line that
somebody saved leaves the file with the confirmation, else the next start would shut them again.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Iterable, Sequence

from anyconsole.drivers.drain_lists import drain_serial
from anyconsole.drivers.frr_reply import same_address
from anyconsole.drivers.transaction import CellChange, DrainState, Transaction
from anyconsole.model.inventory import SpeakerSpec

__all__ = ["SAVED", "transaction"]

SAVED = "/etc/frr/frr.conf"
"""FRR's integrated configuration, where the speaker names no other `drain_file`."""

NOTE_LENGTH = 300
"""Characters of a note that are kept, as many as collectors show."""

_NAME = re.compile(r"[A-Za-z0-9_.:%/-]+")
_DRAINED = ("hard", "soft")


def transaction(
    speaker: SpeakerSpec,
    before: DrainState,
    after: DrainState,
    cells: Sequence[CellChange],
    hold: int,
    *,
    disabled: Sequence[str] = (),
) -> Transaction:
    """The scripts that bring `speaker` from `before` to `after` by changing `cells`.

    Args:
        speaker: where; `socket` is bgpd's vty socket, `drain_file` the integrated configuration if it is not `SAVED`.
        before: the state the plan was made for. If its serial is only a checksum (nobody's AC-STATE), the node must have no AC-STATE.
        after: its serial is new, its note says who and why.
        cells: the announcements that change. Sessions of one peer and family share a prefix list, and change together.
        hold: seconds until the node undoes what is not confirmed.
        disabled: neighbours that were shut by hand: they come up with `after`, and are shut again if it is undone.

    Raises:
        ValueError: a name that can't be in a command, a serial that isn't new, or cells that contradict each other.
    """
    if after.serial == before.serial or after.serial <= 0 or hold <= 0:
        raise ValueError(f"not a new serial, or no time to confirm it: {before.serial} -> {after.serial}, {hold} s")
    changing = [c for c in cells if c.before != c.after]
    new = dict.fromkeys(_line(c, c.after) for c in changing if c.after in _DRAINED)
    gone = dict.fromkeys(_line(c, c.before) for c in changing if c.before in _DRAINED)
    if both := new.keys() & gone.keys():
        raise ValueError(f"sessions of one peer share a prefix list and can't differ: {', '.join(sorted(both))}")
    raised = [_name(same_address(name)) for name in disabled]
    conf = speaker.drain_file or SAVED
    is_checksum = before.serial == drain_serial(sorted(before.hard), sorted(before.soft))
    known = {
        "socket": speaker.socket,
        "conf": conf,
        "hold": str(hold),
        "expected": "0" if is_checksum else str(before.serial),
        "old_note": _clean(before.note),
        "mine": str(after.serial),
        "note": _clean(after.note),
        "new": "\n".join(new),
        "gone": "\n".join(gone),
        "clears": "\n".join(_clears(speaker, changing)),
        "raised": " ".join(raised),
        "shut": f"^ *neighbor ({'|'.join(map(_pattern, raised))}) shutdown( message .*)?$",
    }
    head = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in known.items())
    head += f"functions={shlex.quote(_FUNCTIONS)}\n" + 'eval "$functions"\n'
    return Transaction(
        apply=f"{head}apply\n",
        confirm=f"{head}confirm\n",
        revert=f"{head}revert\n",
        hold=hold,
        diff=_diff(conf, raised, new, gone),
    )


def _diff(conf: str, raised: Sequence[str], new: Iterable[str], gone: Iterable[str]) -> str:
    shut = [f"-neighbor {name} shutdown" for name in raised]
    saved = " (a shutdown that was saved goes there too)" if shut else ""
    return "\n".join(
        [
            f"--- what FRR runs, and {conf} when it is confirmed{saved}",
            *shut,
            *(f"-{x}" for x in gone),
            *(f"+{x}" for x in new),
        ]
    )


def _line(cell: CellChange, level: str) -> str:
    network = ipaddress.ip_network(cell.prefix)
    family = "ip" if network.version == 4 else "ipv6"
    return f"{family} prefix-list AC-{level.upper()}-{_name(cell.peer).upper()} permit {network}"


def _clears(speaker: SpeakerSpec, cells: Iterable[CellChange]) -> list[str]:
    changed = {(c.peer, c.family) for c in cells}
    sessions = [(c.family, c.session) for c in cells]
    sessions += [(s.family, s.name) for s in speaker.sessions if (s.peer, s.family) in changed]
    return [f"clear bgp {family} unicast {_name(session)} soft out" for family, session in dict.fromkeys(sessions)]


def _name(word: str) -> str:
    if not _NAME.fullmatch(word):
        raise ValueError(f"not a name in a command of FRR: {word!r}")
    return word


def _pattern(name: str) -> str:
    """What matches just that name, within slashes."""
    return name.replace(".", "[.]").replace("/", "\\/")


def _clean(note: str) -> str:
    """What survives bgpd, its file and vtysh's reading of both: printable ASCII, single spaces, and no pipe (vtysh would make one)."""
    return " ".join("".join(c if " " <= c <= "~" and c != "|" else " " for c in note).split())[:NOTE_LENGTH].strip()


# In a variable of the script, for the dead-man is given the same words. Without single quotes in it that stays readable.
_FUNCTIONS = r"""
set -f
umask 007
# A console that goes away must not stop this halfway.
trap "" HUP INT TERM PIPE
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
conf=$(readlink -f "$conf" 2>/dev/null || printf "%s" "$conf")
lock=${conf%/*}/.anyconsole.lock
draft=$conf.anyconsole.$mine
kept=$draft.shut
ours="^ipv?6? prefix-list AC-(HARD-|SOFT-|STATE )"
nl="
"

end() {
  status=$1; shift
  printf "%s\n" "$*"
  exit "$status"
}

vty() { timeout -k 2 15 vtysh --vty_socket "${socket%/*}" "$@" </dev/null 2>/dev/null 9>&-; }

# Lines of a configuration, all in one vtysh. vtysh may end well although a daemon refused: then there is a % in what it says.
tell() {
  text=$1; set --
  IFS=$nl
  for line in $text; do set -- "$@" -c "$line"; done
  unset IFS
  said=$(vty "$@") || { said=${said:-vtysh failed, or bgpd did not answer in time}; return 1; }
  case $said in *%*) return 1 ;; esac
}

# Lines that come, then lines that go. One daemon that lacks a line (restarted, say) would keep the others from being told to drop it,
# so it is given to all of them first. A cell moves from list to list without ever being in none.
moves() {
  [ -z "$1" ] || printf "%s\n" "$1"
  IFS=$nl
  for line in $2; do printf "%s\nno %s\n" "$line" "$line"; done
  unset IFS
}

# The entry makes the list one that matches nothing: an empty one would match everything if a route-map ever named it.
carrier() {
  printf "%s\n" "ip prefix-list AC-STATE seq 5 deny 0.0.0.0/32" "ip prefix-list AC-STATE description serial=$1 until=$2 note=$3"
}

# What AC-STATE of bgpd says: $serial, $until (0 is confirmed), $words. False if bgpd does not tell.
look() {
  said=$(vty -d bgpd -c "show ip prefix-list AC-STATE") || return 1
  serial=0 until=0 words=
  case $said in
    *"find specified prefix-list"*) return 0 ;;
    *"prefix-list AC-STATE:"*) ;;
    *) return 1 ;;
  esac
  words=$(printf "%s\n" "$said" | sed -n "s/^ *Description: //p")
  rest=${words#serial=}; serial=${rest%% *}
  rest=${rest#* until=}; until=${rest%% *}
  case $words in "serial=$serial until=$until note="*) ;; *) end 79 "AC-STATE is not what a console wrote: $words" ;; esac
  case $serial$until in *[!0-9]*) end 79 "AC-STATE is not what a console wrote: $words" ;; esac
}

when() { date -d "@$1" +%H:%M:%S 2>/dev/null || printf "%s" "$1"; }

# Drain state in a configuration, in one form: entries are all permits, so their numbers and order say nothing.
drain_lines() {
  grep -E "$ours" | sed "s/ seq [0-9]*//; s/[[:space:]]*\$//" | LC_ALL=C sort -u
}

running() {
  config=$(vty "$@" -c "show running-config") || return 1
  case $config in *"${nl}end") ;; *) return 1 ;; esac
  lines=$(printf "%s\n" "$config" | drain_lines)
}

has() { case "$nl$lines$nl" in *"$nl$1$nl"*) return 0 ;; esac; return 1; }

# $1 all there and $2 all absent in $lines; else $odd is the first that is not so.
as_planned() {
  IFS=$nl
  for line in $1; do has "$line" || { odd="\"$line\" is missing"; unset IFS; return 1; }; done
  for line in $2; do ! has "$line" || { odd="\"$line\" is there"; unset IFS; return 1; }; done
  unset IFS
}

# Of a configuration, what shuts the neighbours that are to come up; or all but that. Only the default instance is ours.
instance="^router bgp [0-9.]+( as-notation .*)?\$"
shut_lines() { [ -z "$raised" ] || sed -nE "/$instance/,/^[^ ]/{/$shut/p;}"; }
not_shut() { if [ -n "$raised" ]; then sed -E "/$instance/,/^[^ ]/{/$shut/d;}"; else cat; fi; }

# Commands by which they come up, and which shut them again as they were. vtysh could not be told of a pipe in a message.
raise() { printf "%s\n" "$config" | grep -m 1 -E "$instance"; printf "no neighbor %s shutdown\n" $raised; echo exit; }
shut_again() {
  if [ -r "$kept" ]; then tr "|" " " <"$kept"; else echo "router bgp"; printf "neighbor %s shutdown\n" $raised; fi
  echo exit
}
are_shut() {
  [ -n "$raised" ] || return 0
  found=$(printf "%s\n" "$config" | shut_lines)
  for name in $raised; do
    case $found$nl in *"neighbor $name shutdown$nl"* | *"neighbor $name shutdown message "*) ;; *) odd=$name; return 1 ;; esac
  done
}

# Is there anything of ours to undo? In any daemon: a bgpd that restarted has lost what the others still have; and when its saved
# configuration was read again, all of them were told of the old state, but none to drop our lines. 2 if FRR does not tell.
pending() {
  all=$(vty -c "show ip prefix-list AC-STATE") || return 2
  case $all in *"serial=$mine until="[1-9]*) return 0 ;; esac
  look || return 2
  [ "$serial/$until" = "$expected/0" ] || return 1
  running -d bgpd || return 2
  as_planned "$gone" "$new" || return 1
  running || return 2
  ! as_planned "$gone" "$new"
}

prepare() {
  for tool in vtysh flock setsid timeout; do
    command -v "$tool" >/dev/null || end 70 "there is no $tool on this node, nothing was changed"
  done
  [ -e "$socket" ] || end 70 "bgpd is not running: there is no $socket"
  [ -w "$socket" ] || end 73 "user $(id -un) may not use $socket: it takes group frrvty"
  [ -r "$conf" ] || end 73 "user $(id -un) cannot read $conf, the integrated configuration that the change would be saved in"
  [ -e "$lock" ] || ( : >>"$lock" ) 2>/dev/null || end 73 "user $(id -un) cannot write the lock $lock"
  [ -r "$lock" ] || end 73 "user $(id -un) cannot read the lock $lock"
  exec 9<"$lock"
  flock -w "$1" 9 || end 75 "another change holds $lock"
}

# The saved configuration with the drain state that runs, as confirmed: where it was, else at the end.
to_save() {
  state=$(printf "%s\n" "$config" | grep -E "$ours" | sed "/ AC-STATE description /s/ until=[0-9]* / until=0 /")
  was=$(not_shut <"$conf")
  at=$(printf "%s\n" "$was" | grep -n -m 1 -E "$ours|^end\$" | cut -d : -f 1)
  [ -n "$at" ] || at=$(($(printf "%s\n" "$was" | grep -c "") + 1))
  rest=$(printf "%s\n" "$was" | tail -n "+$at" | grep -v -E "$ours")
  text=$(printf "%s\n" "$was" | head -n "$((at - 1))")
  text=$text$nl$state${rest:+$nl$rest}
}

undo() {
  old="no ip prefix-list AC-STATE"
  [ "$expected" = 0 ] || old=$(carrier "$expected" 0 "$old_note")
  tell "configure terminal$nl${raised:+$(shut_again)$nl}$(moves "$gone" "$new")$nl$old${nl}end$nl$clears" || return 1
  rm -f "$draft" 2>/dev/null
  look && [ "$serial/$until" = "$expected/0" ] || return 1
  if [ -n "$raised" ]; then running -d bgpd && are_shut || return 1; fi
  rm -f "$kept" 2>/dev/null
}

# A draft that is left behind a confirmed change: confirm was killed right before its last step.
finish() {
  [ ! -e "$draft" ] || ! look || [ "$serial/$until" != "$mine/0" ] || mv -f "$draft" "$conf" || return 1
  rm -f "$kept"
}

# Started before the change: whatever dies afterwards, it is there. AC-STATE tells it if there is anything to do.
dead_man() {
  command -v sleep >/dev/null || exit 1
  printf ready
  exec </dev/null >/dev/null 2>&1
  sleep "$hold"
  # Most were confirmed or taken back long ago: they are in the way of nobody.
  if ! [ -e "$draft" ] && ! [ -e "$kept" ]; then pending; [ $? != 1 ] || exit 0; fi
  tries=0
  while [ "$tries" -lt 1000 ]; do
    if [ -r "$lock" ]; then exec 9<"$lock"; flock -w 60 9; fi
    pending
    case $? in 0) ( undo ) && exit 0 ;; 1) ( finish ) && exit 0 ;; esac
    exec 9<&-
    tries=$((tries + 1))
    sleep 3
  done
}

apply() {
  prepare 2
  look || end 70 "bgpd does not answer on $socket, nothing was changed"
  [ "$until" = 0 ] || end 77 "a change is unconfirmed, to be undone at $(when "$until"): $words"
  case $(vty -c "show ip prefix-list AC-STATE") in
    *" until="[1-9]*) end 77 "a change is unconfirmed in another daemon than bgpd, which has lost it" ;;
  esac
  [ "$serial" = "$expected" ] || end 76 "the drain state is not $expected but $serial: ${words:-no AC-STATE}"
  saved=$(drain_lines <"$conf")
  for daemon in "" bgpd; do
    running ${daemon:+-d $daemon} || end 70 "bgpd does not show its configuration, nothing was changed"
    [ "$lines" = "$saved" ] || end 79 "running and saved configuration differ: $(
      printf "%s\n" "$lines" "$saved" | LC_ALL=C sort | uniq -u | grep . | head -n 1)"
  done
  as_planned "$gone" "$new" || end 76 "the drain state is not the one planned for: $odd"
  are_shut || end 76 "$odd is not shut any more, or not by a line of its own; this was planned for one that is"
  [ -w "${conf%/*}" ] || end 73 "user $(id -un) cannot write in ${conf%/*}, so the change could never be saved; nothing was changed"
  until=$(($(date +%s) + hold))
  deadline=$until
  found=$(printf "%s\n" "$config" | grep -m 1 -E "$instance")$nl$found
  if [ -n "$raised" ] && ! { printf "%s\n" "$found" >"$kept" && [ "$(cat "$kept")" = "$found" ]; } 2>/dev/null; then
    rm -f "$kept" 2>/dev/null
    end 73 "cannot write $kept, by which $raised would be shut again; nothing was changed"
  fi
  [ "$(setsid sh -c "$functions${nl}dead_man" 9<&- &)" = ready ] || end 70 "the dead-man did not start, nothing was changed"
  # The carrier goes first: were this killed on the way, the dead-man would know.
  if tell "configure terminal$nl$(carrier "$mine" "$until" "$note")$nl$(moves "$new" "$gone")$nl${raised:+$(raise)$nl}end$nl$clears"; then
    look && [ "$serial/$until" = "$mine/$deadline" ] && end 0 "applied as $mine, undone at $(when "$until") unless confirmed"
    code=70 why="bgpd says ${words:-nothing} of it"
  else
    code=70 why=$(printf "%s" "$said" | tr "\n" " ")
    case $said in *%*) code=65 ;; esac
  fi
  ( undo ) && end "$code" "not applied, all is as before: $why"
  end 70 "not applied, and not all is undone yet; the node tries again from $(when "$deadline"): $why"
}

confirm() {
  prepare 10
  look || end 70 "bgpd does not answer on $socket, nothing was confirmed"
  case $serial/$until in
    "$mine"/0) end 78 "$mine is confirmed already" ;;
    "$mine"/*) ;;
    "$expected"/0) end 78 "$mine was taken back, the drain state is $expected again" ;;
    *) end 76 "the drain state is not $mine but: ${words:-no AC-STATE}" ;;
  esac
  running && all=$lines && running -d bgpd || end 70 "bgpd does not show its configuration, nothing was confirmed"
  as_planned "$new" "$gone" || end 79 "somebody changed it since, nothing was confirmed: $odd"
  found=$(printf "%s\n" "$config" | shut_lines)
  [ -z "$found" ] || end 79 "somebody shut it again since, nothing was confirmed:${found#* }"
  [ "$lines" = "$all" ] || end 79 "another daemon has other drain lists than bgpd, nothing was confirmed"
  to_save
  # A copy first, for its mode; then the text, read back: a full disk shows here, while the old file still is what it was.
  if ! { cp -p "$conf" "$draft" && printf "%s\n" "$text" >"$draft" && [ "$(cat "$draft")" = "$text" ]; } 2>/dev/null; then
    rm -f "$draft" 2>/dev/null
    end 73 "cannot write $draft, nothing was confirmed: undone at $(when "$until")"
  fi
  sync "$draft" 2>/dev/null
  deadline=$until
  if ! tell "configure terminal$nl$(carrier "$mine" 0 "$note")${nl}end" || ! look || [ "$serial/$until" != "$mine/0" ]; then
    rm -f "$draft"
    tell "configure terminal$nl$(carrier "$mine" "$deadline" "$note")${nl}end"
    end 70 "bgpd did not take the confirmation, undone at $(when "$deadline"): $said"
  fi
  if ! mv -f "$draft" "$conf" 2>/dev/null; then
    tell "configure terminal$nl$(carrier "$mine" "$deadline" "$note")${nl}end"
    rm -f "$draft" 2>/dev/null
    end 73 "cannot write $conf, nothing was confirmed: undone at $(when "$deadline")"
  fi
  rm -f "$kept"
  running && [ "$lines" = "$(drain_lines <"$conf")" ] || end 79 "confirmed as $mine, but $conf is not what FRR runs"
  end 0 "confirmed as $mine and saved in $conf"
}

revert() {
  prepare 10
  pending
  case $? in
    0) ( undo ) && end 0 "taken back, the drain state is $expected again"
       end 70 "not all is undone yet; the node tries again at its time-out" ;;
    1) look && end 78 "$mine is not unconfirmed: ${words:-there is no AC-STATE}" ;;
  esac
  end 70 "FRR does not answer below ${socket%/*}"
}
"""
