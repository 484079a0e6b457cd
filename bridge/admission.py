"""Which of too many packets are carried out: a bounded amount of work, shared among the senders.

Every sender has a share, so one that floods costs no other its answer. A sender's port says little,
though: whoever floods may send from a new one each time. So those who were there before come first,
and small packets come before large ones.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from bridge.oscpackets import raw_address, raw_kind
from bridge.subscribers import Address

Datagram = tuple[bytes, Address]

# Work is counted in bytes: a message, which has twelve or more, costs about 10 us.
_PACKET = 24
_ROUND = 128 * _PACKET
_CALM = 48
"""Packets of a round that is no flood, if they are small: more than any program sends at once."""
_SHARE = 8 * _PACKET
_HEAD_START = 4 * _PACKET
"""What those who were there before may ask before others are heard."""
_MOST_KNOWN = 1024
_KNOWN_S = 10.0


class Admission:
    """Chooses, and remembers who has been heard."""

    def __init__(self, newest: frozenset[bytes], clock: Callable[[], float] = time.monotonic):
        """newest: of which only a sender's newest packet matters.

        Addresses, where the newest with one argument does and the newest with several (the share
        of a blend takes no domain's place); or whole packets (a button that is let go takes no
        place of its being pressed).
        """
        self._newest = newest
        self._clock = clock
        self._turn_s = clock() + _KNOWN_S
        self._known: set[Address] = set()
        """Heard in the last period, which the present one replaces when it is over."""
        self._heard: set[Address] = set()

    def admit(self, datagrams: list[Datagram]) -> list[Datagram]:
        """What is to be carried out now, in the order it came; the rest is to be dropped."""
        if len(datagrams) <= _CALM and sum(map(_work, datagrams)) <= _ROUND:
            self._remember(sender for _, sender in datagrams)
            return datagrams
        left, places = _ROUND, []
        for _, place in sorted(self._ranked(datagrams)):
            left -= _work(datagrams[-place])
            places.append(-place)
            if left <= 0:
                break
        # A port that was made up is not used twice in so short a time.
        spoken = Counter(sender for _, sender in datagrams)
        self._remember(one for one, count in spoken.items() if count > 1 or self._knows(one))
        return [datagrams[place] for place in sorted(places)]

    def _ranked(self, datagrams: list[Datagram]) -> list[tuple[int, int]]:
        """Rank and negative place of what is within its sender's share; the lowest come first.

        The rank is what the sender's packets cost together, from its newest to this one. The newest
        of each control is always within the share.
        """
        spent: dict[Address, int] = {}
        seen: set[tuple[Address, bytes]] = set()
        ranked = []
        for place in reversed(range(len(datagrams))):
            packet, sender = datagrams[place]
            if sender not in spent:
                spent[sender] = 0 if self._knows(sender) else _HEAD_START
            if packet in self._newest or raw_address(packet) in self._newest:
                kind = packet if packet in self._newest else raw_kind(packet)
                if (sender, kind) in seen:
                    continue
                seen.add((sender, kind))
            elif spent[sender] >= _SHARE:
                continue
            spent[sender] += _work(datagrams[place])
            ranked.append((spent[sender], -place))
        return ranked

    def _knows(self, sender: Address) -> bool:
        return sender in self._known or sender in self._heard

    def _remember(self, senders: Iterable[Address]) -> None:
        if self._clock() >= self._turn_s:
            self._turn_s = self._clock() + _KNOWN_S
            self._known, self._heard = self._heard, set()
        for sender in senders:
            # Who is known keeps a place, however many others come.
            if sender in self._known or len(self._heard) < _MOST_KNOWN:
                self._heard.add(sender)


def _work(datagram: Datagram) -> int:
    return max(len(datagram[0]), _PACKET)
