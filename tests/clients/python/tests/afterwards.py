"""What is true when all has been done."""

from support.rig import BEHIND_SERVICE
from support.suite import test


@test(apps=BEHIND_SERVICE)
def neither_side_broke_the_protocol(rig):
    for counter in ['service_messages_malformed', 'service_messages_skipped']:
        assert rig.service.metric(f'hubring_{counter}_total') == 0, counter


@test(apps=BEHIND_SERVICE)
def no_relay_crossed_a_shard(rig):
    assert rig.service.metric('hubring_relayed_messages_total') > 0
    assert rig.service.metric('hubring_relays_crossed_shard_total') == 0
