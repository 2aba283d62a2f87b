"""A limit in front of a name server is what it says it is, there alone, and gone without a trace."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from anyconsole.errors import LabError
from anyconsole.lab import Lab
from anyconsole.lab.topology import TENANTS
from tests.lab.offered import offer

pytestmark = [pytest.mark.lab, pytest.mark.measures]

DE, NIC, _ = TENANTS


def test_a_limited_name_server_gets_just_that_many_queries_and_its_service_address_all(breakable_lab: Lab) -> None:
    lab = breakable_lab
    lab.limit("fra1", 1000)
    lab.limit("fra1", 500, "de")
    try:
        began = time.monotonic()
        with ThreadPoolExecutor() as pool:
            de = pool.submit(offer, lab, "fra1", DE, 1500, seconds=2)
            nic = pool.submit(offer, lab, "fra1", NIC, 1500, seconds=2)
            service = pool.submit(offer, lab, "fra1", DE, 1500, seconds=2, address=DE.address4)
            other = pool.submit(offer, lab, "fra2", DE, 1500, seconds=2)
        took = time.monotonic() - began
        # What came through is the rate for as long as was asked, and the 50 ms that the bucket holds.
        for counts, rate in ((de.result(), 500), (nic.result(), 1000)):
            assert rate * 2 * 0.95 <= counts.sent - counts.lost <= rate * (took + 0.05)
        assert (service.result().lost, other.result().lost) == (0, 0)
    finally:
        lab.unlimit("fra1")
    assert lab.run("fra1", ["nft", "list", "ruleset"]).stdout == ""
    assert offer(lab, "fra1", DE, 1500).lost == 0


def test_both_families_share_one_limit(breakable_lab: Lab) -> None:
    lab = breakable_lab
    lab.limit("ams1", 400, "de")
    try:
        rules = lab.run("ams1", ["nft", "list", "ruleset"]).stdout
    finally:
        lab.unlimit("ams1", "de")
    assert rules.count("limit rate over 400/second burst 20 packets") == 1
    assert rules.count("jump bucket") == 2


@pytest.mark.parametrize(
    ("host", "rate", "tenant", "told"),
    [("ix1", 100, "", "no node.*fra1"), ("fra1", 0, "", "1 to 10000000"), ("fra1", 100, "se", "de, nic, enum")],
)
def test_a_limit_that_cannot_be_says_what_can(lab: Lab, host: str, rate: int, tenant: str, told: str) -> None:
    with pytest.raises(LabError, match=told):
        lab.limit(host, rate, tenant)
